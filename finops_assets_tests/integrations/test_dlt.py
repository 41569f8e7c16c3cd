"""Layout dlt on what the real dlt writes to a folder; it has an environment of its own (`make test-integrations`)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finops_assets.focus.specification import columns
from finops_assets.ingest.reading.dlt_names import snake_case
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.emulators import s3_endpoint, s3_place  # noqa: F401
from finops_assets_tests.ingest.test_dlt import billed, states
from finops_assets_tests.places import PROJECT

PYTHON = PROJECT / ".venv" / "dlt" / "bin" / "python"
SCRIPT = Path(__file__).with_name("dlt_load.py")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.exists(), reason="dlt is not installed: make test-integrations"),
]
D1, D2 = "2026-09-01", "2026-09-02"
MakeSite = Callable[..., Site]


def row(day: str, cost: str, **more: str) -> dict[str, Any]:
    return focus_row(day, BilledCost=cost, EffectiveCost=cost, Tags='{"team": "web"}', **more)


def load(
    site: Site, file_format: str, disposition: str, *rows: dict[str, Any], bucket: str = "", **environment: str
) -> dict[str, Any]:
    """A run of the pipeline, into a folder or a bucket."""
    told = {
        "table": "focus", "disposition": disposition, "rows": rows, "bucket": bucket or (site.folder / "bucket").as_uri(),
        "state": str(site.folder / "state"), "names": list(columns()),
    }  # fmt: skip
    environment = os.environ | environment | {
        "RUNTIME__DLTHUB_TELEMETRY": "false", "NORMALIZE__LOADER_FILE_FORMAT": file_format, "HOME": str(site.folder),
    }  # fmt: skip
    done = subprocess.run(
        [PYTHON, SCRIPT, json.dumps(told)], cwd=site.folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return result


@pytest.fixture
def dataset(make_site: MakeSite) -> Site:
    site = make_site(layout="dlt")
    site.exports.symlink_to(site.folder / "bucket" / "billing")
    return site


@pytest.mark.parametrize("file_format", ["parquet", "jsonl", "csv"])
def test_loads_that_are_added_are_read_exactly_and_doubled_ones_are_not(dataset: Site, file_format: str) -> None:
    september = [row(D1, "1.000000000000000001", ResourceId=f"vm-{n}") for n in range(20)]
    told = load(dataset, file_format, "append", *september)
    assert told["snake"] == {name: snake_case(name) for name in columns()}, "dlt's own names"
    load(dataset, file_format, "append", row(D2, "2.5"))
    dataset.land()
    assert sorted(states(dataset).values()) == ["live", "live"]
    assert billed(dataset, D1, D2) == Decimal("22.500000000000000020")
    dataset.facts(D1, D2)
    assert {team for (team,) in dataset.rows(D1, "team", layer="facts")} == {"web"}
    # The same rows once more: dlt's table has them twice, the figures do not.
    load(dataset, file_format, "append", *september)
    dataset.land()
    assert sorted(states(dataset).values()) == ["live", "live", "refused"]
    assert billed(dataset, D1, D2) == Decimal("22.500000000000000020")


def test_a_table_that_is_replaced_is_what_its_last_load_holds(dataset: Site) -> None:
    load(dataset, "parquet", "replace", row(D1, "1"), row(D2, "1"))
    dataset.land()
    assert states(dataset) == {"focus": "live"}
    load(dataset, "parquet", "replace", row(D1, "1"), row(D2, "7"))
    dataset.land()
    assert states(dataset) == {"focus": "live"}
    assert billed(dataset, D1, D2) == 8


def test_what_dlt_has_not_finished_waits(dataset: Site) -> None:
    load(dataset, "parquet", "append", row(D1, "1"))
    load(dataset, "parquet", "append", row(D2, "2"))
    # As after a kill between the data and the entry that dlt writes last.
    entries = sorted((dataset.exports / "_dlt_loads").iterdir())
    held = entries[-1].read_bytes()
    entries[-1].unlink()
    dataset.land()
    assert sorted(states(dataset).values()) == ["live", "waiting"]
    assert billed(dataset, D1, D2) == 1
    entries[-1].write_bytes(held)
    dataset.land()
    assert billed(dataset, D1, D2) == 3


def test_a_bucket_is_read_as_a_folder_is(tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    bucket = s3_place(s3_endpoint)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    site = Site(tmp_path, layout=f"dlt, endpoint_url: '{s3_endpoint}'", uri=f"{bucket.uri}/billing")
    there = {
        "DESTINATION__FILESYSTEM__CREDENTIALS__AWS_ACCESS_KEY_ID": "test",
        "DESTINATION__FILESYSTEM__CREDENTIALS__AWS_SECRET_ACCESS_KEY": "test",
        "DESTINATION__FILESYSTEM__CREDENTIALS__ENDPOINT_URL": s3_endpoint,
        "DESTINATION__FILESYSTEM__CREDENTIALS__REGION_NAME": "us-east-1",
    }
    for day, cost in ((D1, "1.000000000000000001"), (D2, "2")):
        load(site, "parquet", "append", row(day, cost), bucket=bucket.uri, **there)
    site.land()
    assert sorted(states(site).values()) == ["live", "live"]
    assert billed(site, D1, D2) == Decimal("3.000000000000000001")
