"""The PostgreSQL of this machine, on a free port, with an empty database that asks for a password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finops_assets_tests.emulators import READY_SECONDS, Unavailable, _need, _or_skip, free_port

FOLDERS = ["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin"]
USER, PASSWORD = "dagster", "a word, not a secret"


@contextmanager
def postgres_server() -> Iterator[str]:
    """Its port. PostgreSQL does not run as root: there it is given to nobody."""
    _need("dagster_postgres", "dagster-postgres")
    found = shutil.which("initdb", path=os.pathsep.join([*FOLDERS, os.environ["PATH"]]))
    if found is None:
        raise Unavailable("PostgreSQL is not installed (initdb was not found)")
    binaries, port = Path(found).parent, free_port()
    # Not below pytest's folder, which nobody else may enter.
    root = Path(tempfile.mkdtemp(prefix="finops-postgres-"))
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(root, nobody.pw_uid, nobody.pw_gid)
        owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        word = root / "password"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        command = [found, "-D", str(root / "data"), "-U", USER, "-A", "scram-sha-256", f"--pwfile={word}"]
        subprocess.run(
            [*command, "-E", "UTF8", "--locale=C", "--no-sync"], cwd=root, check=True, capture_output=True, **owner
        )
        # What is lost with the machine is a test's.
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": root, "fsync": "off"}
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        control = [str(binaries / "pg_ctl"), "-D", str(root / "data"), "-l", str(root / "log")]
        start = [*control, "-w", "-t", str(READY_SECONDS), "-o", subprocess.list2cmdline(given), "start"]
        subprocess.run(start, cwd=root, check=True, stdout=subprocess.DEVNULL, **owner)
        try:
            yield str(port)
        finally:
            stop = [*control, "-m", "immediate", "stop"]
            subprocess.run(stop, cwd=root, check=True, stdout=subprocess.DEVNULL, **owner)
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, str]]:
    """The environment variables of deploy/postgres/dagster.yaml for it."""
    with _or_skip(postgres_server()) as port:
        yield {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": port,
            "DAGSTER_PG_USER": USER,
            "DAGSTER_PG_PASSWORD": PASSWORD,
            "DAGSTER_PG_DB": "postgres",
        }
