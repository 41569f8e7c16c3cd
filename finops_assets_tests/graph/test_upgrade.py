"""A lake, warehouse and alert history that version 0.1.0 left are read and carried on by the product of now.

`data/state-0.1.tar.xz` was made by commit 974294a: a bill of three days, run, restated on the second day, run again.
"""

from __future__ import annotations

import json
import tarfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from finops_assets.alerts.history import AlertHistory
from finops_assets.cost.coverage import BUILT, coverage_of
from finops_assets.settings.load import load_settings
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.running import Graph

STATE = Path(__file__).parent / "data" / "state-0.1.tar.xz"
FIRST, END = date(2026, 9, 1), date(2026, 9, 4)


@pytest.fixture
def left(tmp_path: Path) -> Path:
    with tarfile.open(STATE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.mark.long
def test_what_an_earlier_version_left_is_read_and_carried_on(left: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(load_settings(left / "finops.yaml"), instance)
        graph.publish()
        assert teams(graph) == {"web": Decimal("31.75"), "data": Decimal("9.000000000000000003"), None: Decimal("2.25")}
        with graph.platform.warehouse.reading() as connection:
            covered = coverage_of(connection, FIRST, END)
            moved = connection.execute(
                "SELECT DISTINCT charge_date FROM reported_cost WHERE reported_to IS NOT NULL"
            ).fetchall()
        assert [(c.day, c.source, c.state) for c in covered] == [
            (date(2026, 9, day), "saas", BUILT) for day in (1, 2, 3)
        ]
        assert moved == [(date(2026, 9, 2),)], "the version that the second bill replaced stays on record"
        with AlertHistory.beside(left / "data" / "warehouse.duckdb").opened() as history:
            assert history.open_alerts() == {}

        bill = left / "bills" / "september.csv"
        rows = [
            focus_row(f"2026-09-0{day}", BilledCost=cost, EffectiveCost=cost, ResourceId=name, Tags=json.dumps(tags))
            for day in (1, 2, 3)
            for name, cost, tags in (
                ("r-0", "7" if day == 3 else "10.25", {"team": "web", "dept": "shop"}),
                ("r-1", "3", {"team": "data", "dept": "shop"}),
            )
        ]
        bill.write_text(csv_text(rows))
        run = graph.run(FIRST, date(2026, 9, 3))
        assert run.success, run.failure()
        graph.publish()
        assert teams(graph) == {"web": Decimal("27.5"), "data": Decimal(9)}


def teams(graph: Graph) -> dict[str | None, Decimal]:
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        found = connection.execute("SELECT team, sum(billed_cost) FROM daily_cost_by_team GROUP BY 1").fetchall()
    return {None if team == "__untagged__" else team: cost for team, cost in found}
