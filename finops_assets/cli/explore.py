"""finops explore: the published copy as pages in a browser."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError, install
from finops_assets.base.listening import listening
from finops_assets.cli.common import ConfigOption, explained, out
from finops_assets.settings.load import load_settings


def explore(
    host: Annotated[
        str, typer.Option(help="The address to listen on; loopback alone, where nobody signs in")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0: any that is free")] = 8_070,
    config: ConfigOption = None,
) -> None:
    """The published copy as pages in a browser: who spent what, since when, and what it is made of."""
    with explained():
        settings = load_settings(config)
        if settings.explore.sign_in is None:
            _require_loopback(host)
        try:
            import uvicorn

            from finops_assets.explore.server import application
        except ModuleNotFoundError as error:
            raise FinopsError(
                f"the explorer needs {error.name}, which is not installed: {install('explore')}"
            ) from error
        with listening(host, port) as listener:
            address, taken, *_ = listener.getsockname()
            shown = f"[{address}]" if ":" in address else address
            out.print(f"http://{shown}:{taken}/ shows {settings.published}; end it with Ctrl-C.", soft_wrap=True)
            server = uvicorn.Server(
                # Who is believed about whom is said in finops.yaml, not by a header.
                uvicorn.Config(
                    application(settings),
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                )
            )
            server.run([listener])


def _require_loopback(host: str) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise FinopsError(
            f"--host: found {host}; nobody signs in, so the explorer listens on this machine alone (127.0.0.1, ::1)."
            " Set explore.sign_in in finops.yaml (docs/guides/access.md), or come by ssh -L 8070:127.0.0.1:8070 HOST"
        )
