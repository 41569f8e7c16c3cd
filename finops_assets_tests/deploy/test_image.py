"""The image, built by buildah without a container engine and run: `make test-image`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.places import PROJECT

NEEDS = ("buildah", "debootstrap")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SETTINGS = """
first_day: 2026-09-01
lake: /state/lake
warehouse: /state/warehouse.duckdb
published: /state/published/finops.duckdb
sources: [{name: bill, uri: /exports, layout: files}]
dimensions: {team: {keys: [team]}}
"""
Buildah = Callable[..., str]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        os.environ.get("FINOPS_TEST_IMAGE") != "1" or not all(map(shutil.which, NEEDS)),
        reason="`make test-image` builds the image: minutes; needs buildah and debootstrap (Debian's packages), and root",
    ),
]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """buildah with a store of its own. No kernel's help is asked for: isolation chroot, storage driver vfs."""
    # Not in memory: the layers are gigabytes.
    store = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"finops-image-{os.getpid()}"
    of_store = ["--storage-driver", "vfs", "--root", str(store / "layers"), "--runroot", str(store / "run")]

    def run(*words: str, fails: bool = False) -> str:
        done = subprocess.run(["buildah", *of_store, *words], capture_output=True, text=True, timeout=1_200)
        assert (done.returncode != 0) == fails, f"{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}"
        return done.stdout + done.stderr if fails else done.stdout.strip()

    try:
        yield run
    finally:
        subprocess.run(["buildah", *of_store, "rm", "--all"], capture_output=True, timeout=300)
        shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="module")
def container(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A container of the image, on Debian as its packages make it."""
    root = tmp_path_factory.mktemp("base")
    packages = "python3,python3-venv,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root / "debian")],
        check=True, capture_output=True, timeout=900,
    )  # fmt: skip
    scratch = buildah("from", "scratch")
    buildah("add", "--quiet", scratch, str(root / "debian"), "/")
    buildah("commit", "--quiet", scratch, "finops-base")
    buildah("rm", scratch)
    shutil.rmtree(root / "debian")
    # What this machine trusts: its registry may stand behind a proxy.
    trusted = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.is_file() else []
    buildah(
        "bud", "--isolation", "chroot", "--network", "host", *trusted, "--build-arg", "BASE=localhost/finops-base",
        "-f", str(PROJECT / "deploy" / "image" / "Containerfile"), "-t", "finops_assets", str(PROJECT),
    )  # fmt: skip
    return buildah("from", "localhost/finops_assets")


def test_the_image_builds_days_as_a_user_that_may_write_to_its_state_alone(
    buildah: Buildah, container: str, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "exports").mkdir()
    (tmp_path / "project" / "finops.yaml").write_text(SETTINGS, encoding="utf-8")
    rows = [focus_row("2026-09-01", BilledCost="1.1"), focus_row("2026-09-01", BilledCost="2.2", ResourceId="b")]
    rows = [row | {"EffectiveCost": row["BilledCost"], "ResourceId": row.get("ResourceId", "a")} for row in rows]
    (tmp_path / "exports" / "bill.csv").write_text(csv_text(rows), encoding="utf-8")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    mounts = [f"--volume={tmp_path / name}:/{name}:ro" for name in ("project", "exports")]

    def inside(command: str, fails: bool = False) -> str:
        return buildah("run", "--isolation", "chroot", *mounts, container, "--", "sh", "-c", command, fails=fails)

    assert inside("id -u") == "10001"
    assert inside("finops --version").startswith("finops_assets ")
    assert "Permission denied" in inside("touch /opt/finops/x", fails=True)
    assert "1 days built" in inside("cp /opt/finops/lib/python3*/site-packages/finops_assets/project/dagster.yaml"
                                    " /state/dagster/ && finops run 2026-09-01 2026-09-02")  # fmt: skip
    told = inside("finops report teams --from 2026-09-01 --to 2026-09-02 --format csv")
    assert "core,USD,3.300000000000000000" in told
    assert "dagster, version" in inside("dagster --version")
