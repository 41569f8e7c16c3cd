"""The dbt package on a published copy, by the real dbt, which has an environment of its own (`make test-integrations`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from finops_assets.storage.postgres_copy import bring_up_to_date
from finops_assets_tests.explore.served import HELD, LAST
from finops_assets_tests.places import PROJECT
from finops_assets_tests.postgres import PASSWORD, USER, postgres  # noqa: F401
from tools.integrations import dbt_sources

PACKAGE, BINARIES = PROJECT / "integrations" / "dbt", PROJECT / ".venv" / "dbt" / "bin"
THERE = (
    "{finops_database: postgres, finops_schema: finops, finops_reports_schema: finops, finops_reports_prefix: reports_}"
)


def test_the_sources_are_what_is_declared() -> None:
    assert dbt_sources.FILE.read_text(encoding="utf-8") == dbt_sources.sources(), "run: make docs"


@dataclass(frozen=True)
class Package:
    """A copy of the package, whose models become tables of a DuckDB file."""

    folder: Path

    @property
    def marts(self) -> Path:
        return self.folder / "marts.duckdb"

    def environment(self, published: Path) -> dict[str, str]:
        path = os.pathsep.join([str(BINARIES), os.environ["PATH"]])
        return os.environ | {"PATH": path, "FINOPS_PUBLISHED": str(published), "FINOPS_MARTS": str(self.marts)}

    def dbt(self, published: Path, *arguments: str, **environment: str) -> dict[str, str]:
        """Test or model -> how it ended."""
        command = ["dbt", "--no-use-colors", *arguments, "--profiles-dir", "."]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(published) | environment, capture_output=True, text=True
        )
        file = self.folder / "target" / "run_results.json"
        assert file.exists(), done.stdout + done.stderr
        results = json.loads(file.read_text(encoding="utf-8"))["results"]
        file.unlink()
        return {each["unique_id"].split(".")[2]: each["status"] for each in results}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    ignored = shutil.ignore_patterns("target", "logs")
    return Package(Path(shutil.copytree(PACKAGE, tmp_path / "package", ignore=ignored)))


def months(published: Path) -> dict[tuple[Any, ...], tuple[Decimal, Decimal]]:
    """By month, department, team, service category and currency: added here, row by row."""
    with duckdb.connect(str(published), read_only=True) as copy:
        rows = copy.execute(
            "SELECT charge_date, department, team, ServiceCategory, BillingCurrency, billed_cost, effective_cost"
            " FROM daily_cost_by_team"
        ).fetchall()
    result: dict[tuple[Any, ...], tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
    for day, *named, billed, effective in rows:
        of = (day.replace(day=1), *named)
        result[of] = (result[of][0] + billed, result[of][1] + effective)
    return dict(result)


def is_right(rows: list[tuple[Any, ...]], published: Path) -> None:
    """Are these the rows of finops_monthly_cost? Columns as the model selects them."""
    assert {row[:5]: row[5:7] for row in rows} == months(published)
    assert len({row[4] for row in rows}) == 2
    # Of October one source-day is held, and the days after the last were not run.
    assert {row[0]: row[7:] for row in rows} == {
        date(2026, 9, 1): (0, 0), date(2026, 10, 1): (1, 31 - LAST.day),
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(not (BINARIES / "dbt").exists(), reason="dbt is not installed: make test-integrations")
class TestDbt:
    def test_the_models_are_exact_and_say_what_is_missing(self, published: Path, package: Package) -> None:
        ended = package.dbt(published, "build")
        assert set(ended.values()) == {"success", "pass", "no-op"}, ended
        assert {name for name, status in ended.items() if status == "success"} == {
            "finops_monthly_cost", "finops_daily_coverage", "finops_budget_status",
        }  # fmt: skip
        with duckdb.connect(str(package.marts), read_only=True) as marts:
            is_right(marts.execute("FROM finops_monthly_cost").fetchall(), published)
            kinds = dict(marts.execute("SELECT column_name, data_type FROM duckdb_columns()").fetchall())
            assert kinds["billed_cost"] == kinds["remaining"] == "DECIMAL(38,18)"
            [(day, held, awaited, reasons)] = marts.execute(
                "SELECT charge_date, sources_held, sources_awaited, reasons FROM finops_daily_coverage"
                " WHERE reasons IS NOT NULL"
            ).fetchall()
            assert (day, held, awaited) == (HELD, 1, 0)
            assert reasons.startswith("gcp is held: raw/gcp:complete failed")
            left = marts.execute("SELECT budget, amount, spent, remaining FROM finops_budget_status").fetchall()
        assert len(left) == 2
        assert all(remaining == amount - spent for _, amount, spent, remaining in left)

    def test_what_must_not_be_is_found(self, published: Path, package: Package) -> None:
        broken = Path(shutil.copyfile(published, package.folder / "broken.duckdb"))
        with duckdb.connect(str(broken)) as connection:
            connection.execute("INSERT INTO daily_cost_by_team SELECT * FROM daily_cost_by_team LIMIT 1")
            connection.execute("UPDATE coverage SET state = 'done' WHERE state = 'held'")
            connection.execute(
                f"UPDATE daily_cost_by_team SET BillingCurrency = NULL WHERE charge_date = DATE '{LAST}'"
            )
        ended = package.dbt(broken, "test", "--select", "source:*", "--exclude", "test_type:singular")
        assert len(ended) > 10
        failed = sorted(name for name, status in ended.items() if status != "pass")
        assert len(failed) == 3, failed
        assert failed[0].startswith("source_accepted_values_finops_coverage_state")
        assert failed[1].startswith("source_finops_unique_but_for_finops_daily_cost_by_team")
        assert failed[2].startswith("source_not_null_finops_daily_cost_by_team__BillingCurrency")

    def test_the_models_on_a_copy_in_postgresql_are_the_same(
        self,
        published: Path,
        package: Package,
        postgres: dict[str, str],  # noqa: F811
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import psycopg2

        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        port = postgres["DAGSTER_PG_PORT"]
        address = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        bring_up_to_date(published, partial(duckdb.connect, str(published), read_only=True), address)
        there = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": USER, "PGDATABASE": "postgres"}
        ended = package.dbt(published, "build", "--target", "postgres", "--vars", THERE, **there)
        assert set(ended.values()) == {"success", "pass", "no-op"}, ended
        with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM finops_marts.finops_monthly_cost")
            is_right(cursor.fetchall(), published)

    def test_the_models_are_dagster_assets_after_the_published_copy(self, published: Path, package: Package) -> None:
        script = package.folder / "look.py"
        script.write_text(LOOK, encoding="utf-8")
        done = subprocess.run(
            [BINARIES / "python", script],
            cwd=package.folder,
            env=package.environment(published),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        assert told["parents"] == {
            "finops_monthly_cost": ["finops_daily_coverage", "published_warehouse"],
            "finops_daily_coverage": ["published_warehouse"],
            "finops_budget_status": ["published_warehouse"],
        }
        assert sorted(told["made"]) == sorted(told["parents"])
        assert (
            told["checks"]
            == {"finops_months_are_the_rollup": True, "unique_finops_daily_coverage_charge_date": True} | told["checks"]
        )
        with duckdb.connect(str(package.marts), read_only=True) as marts:
            is_right(marts.execute("FROM finops_monthly_cost").fetchall(), published)


LOOK = """
import json

import dagster as dg

from definitions import defs

graph = defs.resolve_asset_graph()
models = [key for key in graph.get_all_asset_keys() if key.path[-1] != "published_warehouse"]
with dg.DagsterInstance.ephemeral() as instance:
    done = defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)
print()
print(json.dumps({
    "parents": {k.path[-1]: sorted(p.path[-1] for p in graph.get(k).parent_keys) for k in models},
    "made": [e.asset_key.path[-1] for e in done.get_asset_materialization_events()],
    "checks": {e.check_name: e.passed for e in done.get_asset_check_evaluations()},
}))
"""
