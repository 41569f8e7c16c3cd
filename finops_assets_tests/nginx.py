"""nginx with a configuration that lies in deploy/nginx, on loopback."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from finops_assets_tests.emulators import server
from finops_assets_tests.places import PROJECT


@contextmanager
def nginx(folder: Path, name: str, port: int, behind: Mapping[int, int], passwords: str) -> Iterator[None]:
    """The server `name` of the configuration on a port, without TLS, which needs a certificate. `behind`: which ports take the
    place of those of the programs behind it. Skips the test where nginx is absent.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    written = (PROJECT / "deploy" / "nginx" / "finops.conf").read_text(encoding="utf-8")
    # Where it listens and lies is the test's.
    written = re.sub(r"^ *ssl_certificate.*\n", "", written, flags=re.MULTILINE).replace(
        "listen 443 ssl", f"listen 127.0.0.1:{port}"
    )
    written = written.replace(f"server_name {name}", f"server_name {name} 127.0.0.1")
    for its, ours in behind.items():
        written = written.replace(f":{its};", f":{ours};")
    written = written.replace("/etc/nginx/finops.htpasswd", str(folder / "htpasswd"))
    (folder / "htpasswd").write_text(passwords)
    folder.chmod(0o755)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{written}}}\n"
    )
    with server([program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")], port):
        yield
