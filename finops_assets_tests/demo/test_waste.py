"""What is planted as waste is found in the demo's bills, with its money, and nothing else is; all other rows stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from finops_assets.cost.facts import build_facts
from finops_assets.cost.rollup import UNTAGGED
from finops_assets.demo import SOURCES, Estate, EstateSpec
from finops_assets.demo.story import FIRST_DAY, INCIDENTS, LAST_DAY, demo_days, demo_estate
from finops_assets.demo.waste import PLANTED, true_waste
from finops_assets.evaluate.waste.find import read_waste
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets_tests.demo.test_estate import connection, load, written_totals
from finops_assets_tests.running import settings_for

SPEC = EstateSpec(FIRST_DAY, LAST_DAY, 20 * 92, incidents=INCIDENTS, waste=True)
MONTH = 30
SAID_BY_THE_BILL = {"unused capacity reservation"}
"""No use has to be seen."""


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """The demo's, with few ordinary rows."""
    with Estate(SPEC, tmp_path_factory.mktemp("wasteful") / "estate") as made:
        made.deliver_all()
        yield made


def test_the_demo_has_it(tmp_path: Path) -> None:
    assert demo_estate(tmp_path).spec == replace(SPEC, rows=demo_estate(tmp_path).spec.rows)
    assert {w.kind for w in true_waste(SPEC)} == {
        "idle address", "cost after use ended", "unused capacity reservation", "previous generation", "no traffic", "storage class",
    }  # fmt: skip
    assert true_waste(replace(SPEC, waste=False)) == ()


@pytest.mark.long
def test_it_is_found_with_its_money_on_the_days_of_the_demo_and_nothing_else_is(estate: Estate) -> None:
    first, end = demo_days()
    platform = Platform(settings_for(estate.root.parent, first))
    settings, days = platform.settings, [first + timedelta(days=n) for n in range((end - first).days)]
    for source in settings.sources:
        land_source(platform.lake, settings.engine, source, settings.first_day)
        compose_days(platform.lake, settings.engine, source, days)
    build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, days)
    held = {(incident.source, incident.day) for incident in INCIDENTS if incident.kind != "surge"}
    assert len(held) == 2
    known = {(source, day) for source in SOURCES for day in days} - held
    found = read_waste(platform.lake, settings.engine, settings.providers, known).frame()

    def charged(source: str, since: date) -> int:
        return sum(day >= since and (source, day) in known for day in days)

    planted = {
        (w.source, w.name): (
            w.kind, w.certainty, None if w.kind in SAID_BY_THE_BILL else w.last_use, w.cost_a_day * MONTH, w.cost_a_day * charged(w.source, max(first, w.first_day)),
            charged(w.source, max(first, w.first_day)),
        )
        for w in true_waste(SPEC)
    }  # fmt: skip
    rows = found.to_dict("records")
    assert {
        (r["source"], r["name"]): (
            r["kind"], r["certainty"], r["last_use"], r["cost_a_month"], r["cost_since"], r["row_count"],
        )
        for r in rows
    } == planted  # fmt: skip
    assert len(rows) == len(planted) == 10
    assert (sum(w.cost_a_day * MONTH for w in true_waste(SPEC))) == Decimal("378.7656")
    saved = {r["name"]: r["could_save"] for r in rows}
    assert saved["volume-of-the-wiki"] == 20 * MONTH * (Decimal("0.1") - Decimal("0.08")), (
        "as the volume beside it costs"
    )
    assert saved["exports-of-a-tool-that-is-gone"] == 100 * MONTH * (Decimal("0.023") - Decimal("0.0125"))
    assert [r["name"] for r in rows if r["team"] == UNTAGGED] == ["exports-of-a-tool-that-is-gone"]


def test_the_estate_says_what_it_costs(estate: Estate) -> None:
    con = connection()
    for source in SOURCES:
        load(con, estate.root, source)
        assert written_totals(con, source) == estate.totals()[source]


@pytest.mark.long
def test_other_rows_are_as_without_it(estate: Estate, tmp_path: Path) -> None:
    con = connection()

    def written(root: Path, source: str) -> list[tuple[str | None, str]]:
        load(con, root, source)
        return con.execute(f"SELECT ResourceName, CAST(t AS VARCHAR) FROM (SELECT * EXCLUDE (file, filename) FROM {source}) AS t").fetchall()  # fmt: skip

    with Estate(replace(SPEC, waste=False), tmp_path) as without:
        without.deliver_all()
        for source in SOURCES:
            before, now = Counter(written(without.root, source)), Counter(written(estate.root, source))
            assert not before - now
            assert {name for name, _ in now - before} == {p.name for p in PLANTED if p.source == source}
