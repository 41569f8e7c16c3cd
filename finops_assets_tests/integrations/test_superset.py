"""deploy/superset in a real Superset, which has an environment of its own (`make test-integrations`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from finops_assets.storage.postgres_copy import bring_up_to_date
from finops_assets.tables import ddl, declarations
from finops_assets_tests.explore.served import HELD, LAST
from finops_assets_tests.places import PROJECT
from finops_assets_tests.postgres import PASSWORD, USER, postgres  # noqa: F401
from tools.integrations.superset_bundle import FOLDER, bundle

HOME = PROJECT / ".venv" / "superset"
MADE = HOME / "finops_test.db"
HERE = Path(__file__).parent
MONTH = "CAST(date_trunc('month', charge_date) AS DATE)"
needs_superset = pytest.mark.skipif(not MADE.exists(), reason="Superset is not installed: make test-integrations")


def test_the_bundle_is_of_one_piece(tmp_path: Path) -> None:
    bundle("duckdb:////x/p.duckdb?access_mode=read_only", tmp_path / "o.zip")
    with zipfile.ZipFile(tmp_path / "o.zip") as packed:
        files = {name.partition("/")[2]: yaml.safe_load(packed.read(name)) for name in packed.namelist()}
    assert files["databases/finops.yaml"]["sqlalchemy_uri"] == "duckdb:////x/p.duckdb?access_mode=read_only"
    datasets = {c["uuid"]: c for name, c in files.items() if name.startswith("datasets/")}
    charts = {c["uuid"]: c for name, c in files.items() if name.startswith("charts/")}
    assert all(c["dataset_uuid"] in datasets for c in charts.values())
    placed = [p["meta"]["uuid"] for p in files["dashboards/overview.yaml"]["position"].values() if p and "CHART" in str(p)
              and isinstance(p, dict) and p["type"] == "CHART"]  # fmt: skip
    assert sorted(placed) == sorted(charts)
    for address in ("duckdb:////x/p.duckdb", "sqlite:////x"):
        with pytest.raises(ValueError, match=r"read_only|found sqlite"):
            bundle(address, tmp_path / "p.zip")
    bundle("postgresql://u@h/d", tmp_path / "p.zip")
    with zipfile.ZipFile(tmp_path / "p.zip") as packed:
        assert b"FROM reports_cost_by_team" in packed.read("finops_overview/datasets/finops/finops_team_change.yaml")


def looked_at(folder: Path, address: str, passwords: dict[str, str] | None = None) -> dict[str, Any]:
    """What a Superset of its own tells after it has imported the bundle."""
    own = Path(shutil.copyfile(MADE, folder / "superset.db"))
    bundle(address, folder / "overview.zip")
    environment = os.environ | {
        "SUPERSET_CONFIG_PATH": str(HERE / "superset_config.py"), "FINOPS_SUPERSET_DB": str(own), "SUPERSET_HOME": str(folder),
    }  # fmt: skip
    command: list[str | Path] = [
        HOME / "bin" / "python",
        HERE / "superset_look.py",
        folder / "overview.zip",
        json.dumps(passwords or {}),
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return told


def rollup(published: Path, *by: str) -> dict[tuple[Any, ...], Decimal]:
    """Effective cost of the rollup, added here row by row."""
    result: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    with duckdb.connect(str(published), read_only=True) as copy:
        for *named, cost in copy.execute(f"SELECT {', '.join(by)}, effective_cost FROM daily_cost_by_team").fetchall():
            result[tuple(named)] += cost
    return dict(result)


def exactly(published: Path, query: str) -> list[tuple[Any, ...]]:
    """What Superset asked, asked again: it shows decimals as floats."""
    with duckdb.connect(str(published), read_only=True) as copy:
        return copy.execute(query).fetchall()


def by_name(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], Any]:
    """The last column by the others; a time is its day."""
    return {tuple(getattr(v, "date", lambda v=v: v)() for v in row[:-1]): row[-1] for row in rows}


@pytest.mark.long
@needs_superset
def test_every_chart_shows_what_the_published_copy_has(published: Path, tmp_path: Path) -> None:
    told = looked_at(tmp_path, f"duckdb:///{published}?access_mode=read_only&enable_external_access=false")
    assert told["imported"] == [200, {"message": "OK"}]
    charts = told["charts"]
    assert sorted(told["shown"]) == sorted(charts)
    assert len(charts) == 8
    for name, chart in charts.items():
        assert chart["status"] == 200, (name, chart["results"])
        # A person's browser asks by params, the API by the query that is kept with them.
        params, asked = chart["params"], chart["asked"]
        named = [c if isinstance(c, str) else c["label"] for c in asked["columns"]]
        axis = [params["x_axis"]] if "x_axis" in params else []
        assert named == (params.get("all_columns") or axis + params["groupby"]), name
        assert asked.get("metrics") == params.get("metrics"), name
        # Stacked bars of two currencies would be their sum to the eye.
        assert params.get("stack") is None, name

    def answers(name: str) -> list[tuple[Any, ...]]:
        [result] = charts[name]["results"]
        rows = exactly(published, result["query"])
        assert len(rows) == result["rowcount"] > 0
        for ours, theirs in zip(rows, result["data"]):
            for value, shown in zip(ours, theirs.values()):
                assert not isinstance(value, Decimal) or float(value) == pytest.approx(shown, rel=1e-12)
        return rows

    day, currency = "charge_date", '"BillingCurrency"'
    assert by_name(answers("Spent by day")) == rollup(published, day, currency)
    assert by_name(answers("Spent by day and department")) == rollup(published, day, currency, "department")
    assert by_name(answers("Spent by service category")) == rollup(published, '"ServiceCategory"', currency)
    missing = by_name(answers("Source-days held or awaited"))
    assert {key for key, count in missing.items() if count} == {(HELD, "gcp")}
    assert len(missing) == 94
    assert answers("What is missing, and why")[0][:4] == (HELD, "gcp", "held", "nothing")
    assert [(name, built, held, wait) for name, _, built, held, wait in answers("Sources: how far they are built")] == [
        ("aws", 47, 0, 0), ("gcp", 46, 1, 0),
    ]  # fmt: skip
    assert {row[1] for row in answers("Sources: how far they are built")} == {LAST}
    teams = answers("Teams: this month against like days of the month before")
    with duckdb.connect(str(published), read_only=True) as copy:
        report = copy.execute("SELECT team, currency, effective_cost FROM reports.cost_by_team").fetchall()
    assert sorted((r[1], r[2], r[3]) for r in teams) == sorted(report)
    assert all(change == now - before for _, _, _, _, now, before, change, *_ in teams)
    month = {(t, c): v for (d, t, c), v in rollup(published, MONTH, "team", currency).items() if d == date(2026, 10, 1)}
    assert {(r[1], r[2]): r[3] for r in teams} == month
    budgets = answers("Budgets")
    assert [(r[3], r[4]) for r in budgets] == [("USD", 600), ("USD", 1500)]
    spent = sum(v for (d, c, t), v in rollup(published, MONTH, currency, "team").items()
                if (d, c, t) == (date(2026, 10, 1), "USD", "web"))  # fmt: skip
    assert budgets[0][5] == spent

    assert told["mixed"] == [{"effective": None, "billed": None}], "currencies are never added"
    first = told["filters"][0]
    assert (first["name"], first["requiredFirst"], first["controlValues"]["multiSelect"]) == ("Currency", True, False)


@pytest.mark.long
@needs_superset
def test_the_copy_in_postgresql_gives_the_same(
    published: Path,
    tmp_path: Path,
    postgres: dict[str, str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    server = f"{USER}@127.0.0.1:{postgres['DAGSTER_PG_PORT']}/postgres"
    bring_up_to_date(published, partial(duckdb.connect, str(published), read_only=True), f"postgresql://{server}")
    (tmp_path / "file").mkdir()
    (tmp_path / "server").mkdir()
    file = looked_at(tmp_path / "file", f"duckdb:///{published}?access_mode=read_only")
    monkeypatch.delenv("PGPASSWORD")
    # As the guide says: Superset asks for a password that is ten times X.
    masked = server.replace("@", ":XXXXXXXXXX@")
    told = looked_at(
        tmp_path / "server",
        f"postgresql+psycopg2://{masked}?options=-csearch_path%3Dfinops",
        {"databases/finops.yaml": PASSWORD},
    )
    assert told["imported"] == [200, {"message": "OK"}]
    assert told["mixed"] == file["mixed"]
    for name, chart in told["charts"].items():
        assert chart["status"] == 200, (name, chart["results"])
        ours, theirs = (
            [sorted(map(repr, r["data"])) for r in side["charts"][name]["results"]] for side in (file, told)
        )
        assert ours == theirs, name


def test_every_dataset_names_what_its_query_gives() -> None:
    with duckdb.connect() as copy:
        for schema, name in declarations.TABLES:
            ddl.create(copy, name, schema)
        for file in sorted((FOLDER / "datasets").rglob("*.yaml")):
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            described = copy.execute(f"DESCRIBE {content['sql']}").fetchall()
            given = {name: kind.replace(" ", "") for name, kind, *_ in described}
            assert given == {c["column_name"]: c["type"].replace(" ", "") for c in content["columns"]}, file.name
