"""A run of days at which nothing changed: what is made from them stands, and is not made again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from finops_assets.alerts.alert import Alert, Observation
from finops_assets.alerts.history import AlertHistory
from finops_assets.cli.program import app
from finops_assets.definitions import build_definitions
from finops_assets.graph.keys import PUBLISHED, ROLLUP
from finops_assets.graph.run_range import open_instance
from finops_assets.graph.standing import made_by, standing_run
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets_tests.places import PROJECT
from finops_assets_tests.running import DIMENSIONS, small_estate

FIRST, END = date(2026, 9, 1), date(2026, 9, 3)
RUN = ["run", str(FIRST), str(END)]
STANDS = "Nothing has changed that evaluations, reports and the published copy are made from: they stand."
BUDGETS = "department,team,period,basis,currency,amount,threshold\n,,month,effective,XTS,500,80\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project that ran twice, with a budget that is warned of."""
    root = tmp_path_factory.mktemp("project")
    small_estate(root, FIRST, END - timedelta(days=1))
    (root / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nbudgets: budgets.csv\nsources:\n"
        f"  - {{name: aws, uri: estate/aws, layout: aws-data-exports}}\n{DIMENSIONS}",
        encoding="utf-8",
    )
    (root / "budgets.csv").write_text(BUDGETS, encoding="utf-8")
    (root / "dagster.yaml").write_bytes((PROJECT / "dagster.yaml").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("DAGSTER_HOME", raising=False)
        yield root


@pytest.fixture(scope="module")
def said(project: Path) -> list[str]:
    """What the two runs said."""
    return [CliRunner().invoke(app, RUN).output for _ in range(2)]


def test_days_that_come_out_as_they_were_are_not_evaluated_or_published_again(project: Path, said: list[str]) -> None:
    first, second = said
    assert STANDS not in first
    assert STANDS in second
    with open_instance() as instance:
        assert [run.job_name for run in instance.get_runs()][-3:] == ["daily", "publish", "daily"]
        assert len(instance.fetch_materializations(PUBLISHED, limit=10).records) == 1
        assert len(instance.fetch_materializations(ROLLUP, limit=10).records) == 4


def test_a_process_of_its_own_says_it_and_nothing_else(project: Path, said: list[str]) -> None:
    finops = Path(sys.executable).with_name("finops")
    done = subprocess.run([finops, *RUN], cwd=project, capture_output=True, text=True, check=True)
    assert STANDS in " ".join(done.stdout.split())
    assert "leaked" not in done.stderr + done.stdout


def test_what_checks_warned_of_is_told_again_while_it_stands(said: list[str]) -> None:
    for each in said:
        assert "warning budget_evaluations owners_are_known" in each


def test_whatever_else_they_are_made_from_makes_them_anew(project: Path, said: list[str]) -> None:
    file = project / "finops.yaml"
    settings = load_settings(file)
    platform = Platform(settings)
    defs = build_definitions(settings)
    with open_instance() as instance:

        def stands(now: Platform = platform) -> bool:
            return standing_run(defs, instance, now) is not None

        assert stands()
        assert stands(Platform(load_settings(file)))
        assert not stands(Platform(settings.model_copy(update={"owner": "team:others"})))
        (project / "budgets.csv").write_text(BUDGETS.replace("500", "501"), encoding="utf-8")
        assert not stands()
        (project / "budgets.csv").write_text(BUDGETS, encoding="utf-8")
        assert stands()
        assert made_by(platform) == made_by(platform)
        assert made_by(platform) != made_by(platform, datetime.now(UTC) + timedelta(days=1))
        copy = project / "p.duckdb"
        kept = copy.rename(project / "kept.duckdb")
        assert not stands()
        copy.write_bytes(kept.read_bytes())
        assert not stands()
        copy.unlink()
        kept.rename(copy)
        assert stands()
        rolled_up = dg.AssetMaterialization(ROLLUP, partition=str(FIRST), tags={"dagster/data_version": "other"})
        instance.report_runless_asset_event(rolled_up)
        assert not stands()


def test_alerts_and_verdicts_are_published_too(project: Path, said: list[str]) -> None:
    platform = Platform(load_settings(project / "finops.yaml"))
    before = made_by(platform)
    alert = Alert("check x", "WARNING", "a title", "a text")
    with AlertHistory.beside(platform.settings.warehouse).opened() as history, history.writing():
        history.enter([Observation("check x", datetime.now(UTC), alert)])
    assert made_by(platform) != before
