"""finops ui: Dagster's UI and daemon on the project of this folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.listening import listening
from finops_assets.cli.common import ConfigOption, explained, out
from finops_assets.settings.load import load_settings

NEEDED = ("dagster.yaml", "workspace.yaml")


def ui(
    host: Annotated[str, typer.Option(help="The address to listen on; Dagster's UI has no sign-in")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port")] = 3_000,
    config: ConfigOption = None,
) -> None:
    """Dagster's UI, with its daemon and sensors, on the project of this folder, until it is stopped."""
    with explained():
        load_settings(config)
        if missing := [name for name in NEEDED if not Path(name).is_file()]:
            raise FinopsError(
                f"{Path.cwd()} has no {' and no '.join(missing)}; run this in the project's folder, or make one: finops init DIR"
            )
        # Without a webserver `dagster dev` goes on with the daemon alone.
        listening(host, port).close()
        out.print(f"http://{host}:{port}/ once it has started; end it with Ctrl-C.")
        if "DAGSTER_HOME" not in os.environ:
            out.print(
                "Dagster keeps its state where dagster.yaml says; the temporary directory that it speaks of is not used."
            )
        if config is not None:
            os.environ["FINOPS_CONFIG"] = str(config.absolute())
        program = Path(sys.executable).with_name("dagster")
        os.execv(program, [str(program), "dev", "-h", host, "-p", str(port)])
