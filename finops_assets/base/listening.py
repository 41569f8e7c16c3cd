"""A port of this machine, taken before a server is started on it."""

from __future__ import annotations

import socket

from finops_assets.base.errors import FinopsError


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
        FinopsError: it cannot be had, because another process has it, say.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise FinopsError(
            f"port {port} of {host} cannot be had: {error.strerror}; choose another with --port"
        ) from error
    return made
