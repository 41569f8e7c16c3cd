"""Whatever is asked: the answer names the source that is not in it, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered, enter_coverage
from finops_assets_tests.conftest import Site, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

DAYS = tuple(f"2026-09-{n:02}" for n in range(1, 5))
SHIPPED = Path(__file__).parents[2]
HELD = date(2026, 9, 3)
SAID = "other has no figures for 1 day: 2026-09-03"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = Site(tmp_path_factory.mktemp("answers"))
    (site.folder / "finops.yaml").write_text(site.text, encoding="utf-8")
    site.put_csv("all.csv", *(focus_row(day) for day in DAYS))
    site.run_all(*DAYS)
    platform = site.platform
    with platform.warehouse.writing() as connection:
        enter_coverage(connection, {("other", HELD): Covered("held", "raw/other:complete failed", "")}, [])
    platform.warehouse.publish(platform.lake)
    return site.folder


@pytest.mark.parametrize(
    "asked",
    ["report teams", "report services", "report untagged", "report charges", "report savings", "report commitments",
     "report corrections", "report committed", "report tokens", "forecast", "anomalies list"],
)  # fmt: skip
def test_a_report_names_the_source_that_it_lacks(folder: Path, asked: str) -> None:
    command = [*asked.split(), "--config", str(folder / "finops.yaml")]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert SAID in " ".join(shown.output.split())
    told = json.loads(CliRunner().invoke(app, [*command, "--format", "json"]).stdout)
    assert told["coverage"]["sources_late"] == {"other": [str(HELD)]}
    assert not told["coverage"]["whole"]


ANSWERS = [
    "report teams", "report services --by charge_date", "report charges", "report untagged", "report savings",
    "report commitments", "report corrections", "report committed", "report tokens", "status", "restatements", "repairs",
    "health", "deliveries", "anomalies list", "anomalies rates", "tags debt", "budgets status", "owners acceptance",
]  # fmt: skip


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_an_answer_is_found_without_data_frames_and_arrow(folder: Path, format: str) -> None:
    """They would be two thirds of its time."""
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom finops_assets.cli.program import app\n"
        "for asked in sys.argv[2:]:\n"
        "    done = CliRunner().invoke(app, [*asked.split(), '--format', sys.argv[1]])\n"
        "    assert done.exit_code != 2 and (done.exception is None or isinstance(done.exception, SystemExit)), done.output\n"
        "    print(*(f'{asked}: {m}' for m in sys.modules if m in ('numpy', 'pandas', 'pyarrow', 'dagster', 'boto3')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, format, *ANSWERS], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout.split()) == (0, []), found.stderr


def test_the_focus_export_holds_what_the_rollup_holds_and_calls_a_last_good_version_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    (tmp_path / "finops.yaml").write_text(site.text, encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    site.put_csv("all.csv", *(focus_row(day) for day in DAYS))
    site.run_all(*DAYS)
    states = [("built", DAYS[0]), ("held", DAYS[1]), ("held", DAYS[2]), ("awaited", DAYS[3])]
    judged = {("bill", date.fromisoformat(day)): Covered(state, "why", "") for state, day in states}  # type: ignore[arg-type]
    with site.platform.warehouse.writing() as connection:
        enter_coverage(connection, judged, [("bill", date(2026, 9, 2))])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    done = CliRunner().invoke(app, ["export", "focus", "out", "--from", DAYS[0], "--to", "2026-09-06"])
    assert done.exit_code == 3, done.output
    assert "no facts of 1 days: 2026-09-05" in done.output, "it was never run, and nothing holds it"
    assert "FOCUS 1.2: 2 days, 2 rows" in done.output
    assert "held 2026-09-02, bill as its last good version: why" in done.output
    assert "held 2026-09-03: why" in done.output
    assert "awaited 2026-09-04: why" in done.output
    [recency] = (json.loads(file.read_text()) for file in tmp_path.glob("out/metadata/recency-*.json"))
    complete = {sector["TimeSectorStart"][:10]: sector["TimeSectorComplete"] for sector in recency["TimeSectors"]}
    assert complete == dict(zip(DAYS, [True, False, False, False]))
