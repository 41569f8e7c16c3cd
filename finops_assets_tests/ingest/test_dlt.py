"""Layout dlt: completed loads only, what replaces what by the table's disposition, FOCUS names, Parquet and JSON lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from finops_assets.focus.specification import columns
from finops_assets.ingest.inspect import inspect
from finops_assets.ingest.landing import unknown_deliveries
from finops_assets.ingest.layouts.layouts import known_manifests, newest_deliveries
from finops_assets.ingest.reading.dlt_names import snake_case
from finops_assets.storage.ledger import Ledger
from finops_assets_tests.conftest import Site, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

D1, D2 = "2026-09-01", "2026-09-02"
FIRST, SECOND, THIRD = "1795831333.0146375", "1795831341.6424122", "1795831999.5"
MakeSite = Callable[..., Site]


def row(day: str, cost: str, **more: str) -> dict[str, Any]:
    """A row as dlt writes it: names in snake case, with what it adds."""
    found = focus_row(day, BilledCost=cost, EffectiveCost=cost, Tags='{"team": "web"}', **more)
    return {snake_case(name): value for name, value in found.items()} | {"_dlt_id": f"{day}{cost}", "_dlt_load_id": "1"}


def put_load(site: Site, load: str, *rows: Mapping[str, Any], table: str = "focus", whole: bool = True) -> None:
    site.put_parquet(f"{table}/{load}.e6e3eafa48.parquet", *rows)
    if whole:
        finish(site, load)


def finish(site: Site, load: str, status: int = 0) -> None:
    entry = {"load_id": load, "schema_name": "bill", "status": status, "inserted_at": "2026-11-28T02:02:21+00:00"}
    site.put(f"_dlt_loads/bill__{load}.jsonl", json.dumps(entry))


def put_schema(site: Site, at: str = "1795831333.5", **tables: Any) -> None:
    """A version of the schema: of each table its write disposition, or all that is said of it."""
    said = {name: {"write_disposition": t} if isinstance(t, str) else t for name, t in tables.items()}
    entry = {"version_hash": "x", "schema": json.dumps({"name": "bill", "tables": said})}
    site.put(f"_dlt_version/bill__{at}__2add0b.jsonl", json.dumps(entry))


def look(site: Site, known: Any = None) -> dict[str, str]:
    """Scope -> what is wrong with it."""
    return {d.scope: "; ".join(d.problems) for d in newest_deliveries(site.source, known)[1]}


def states(site: Site) -> dict[str, str]:
    ledger = Ledger(site.platform.lake, "bill")
    return {scope: g.state for scope in ledger.scopes() if (g := ledger.latest(scope))}


def billed(site: Site, *days: str) -> Decimal:
    site.compose(*days)
    totals = (Ledger(site.platform.lake, "bill").day_totals(date.fromisoformat(day)) for day in days)
    return sum((amount for held in totals if held for amount in held.billed.values()), Decimal(0))


@pytest.fixture
def dataset(make_site: MakeSite) -> Site:
    site = make_site(layout="dlt")
    site.put("init", "")
    put_schema(site, focus="append", _dlt_loads="skip")
    return site


def test_a_load_is_read_when_dlt_has_finished_it_and_every_load_adds(dataset: Site) -> None:
    put_load(dataset, FIRST, row(D1, "1.000000000000000001"))
    put_load(dataset, SECOND, row(D2, "2.5"), whole=False)
    found = look(dataset)
    assert found[f"focus/{FIRST}"] == ""
    assert "load 1795831341.6424122 is not complete" in found[f"focus/{SECOND}"]
    dataset.land()
    assert states(dataset) == {f"focus/{FIRST}": "live", f"focus/{SECOND}": "waiting"}
    assert billed(dataset, D1, D2) == Decimal("1.000000000000000001")

    finish(dataset, SECOND, status=1)
    assert "says status 1" in look(dataset)[f"focus/{SECOND}"]
    finish(dataset, SECOND)
    [_, second] = dataset.land()
    assert second.state == "live"
    assert second.verified
    assert second.delivered_at == datetime(2026, 11, 28, 2, 2, 21, tzinfo=UTC)
    assert billed(dataset, D1, D2) == Decimal("3.500000000000000001")


def test_focus_columns_have_their_names_and_dlt_s_own_are_gone(dataset: Site) -> None:
    put_load(dataset, FIRST, row(D1, "1.5", ServiceName="Machines") | {"x_cost_centre": "12", "unheard_of": "kept"})
    [landed] = dataset.run(D1)
    assert {"BilledCost", "ChargePeriodStart", "ServiceName", "x_cost_centre", "unheard_of"} <= set(landed.columns)
    assert not any(name.startswith("_dlt") or name == "billed_cost" for name in landed.columns)
    found = dataset.rows(D1, "ServiceName", "BilledCost", "x_cost_centre", "unheard_of", "source_file")
    assert found == [("Machines", Decimal("1.5"), "12", "kept", f"focus/{FIRST}.e6e3eafa48.parquet")]
    dataset.facts(D1)
    assert dataset.value(D1, "team", layer="facts") == "web"
    # Every column of FOCUS comes back from its name in snake case.
    assert len({snake_case(name) for name in columns()}) == len(columns())


def test_a_table_that_is_replaced_is_one_scope_of_which_the_newest_load_counts(dataset: Site) -> None:
    put_schema(dataset, at="1795831340.5", focus="replace")
    put_load(dataset, FIRST, row(D1, "1"), row(D2, "1"))
    dataset.run(D1, D2)
    assert states(dataset) == {"focus": "live"}
    # dlt removes the files of before, writes new ones, and finishes.
    for file in (dataset.exports / "focus").iterdir():
        file.unlink()
    put_load(dataset, SECOND, row(D1, "1"), row(D2, "7"), whole=False)
    assert "is not complete" in look(dataset)["focus"]
    dataset.land()
    assert billed(dataset, D1, D2) == 2, "what was live stays"
    finish(dataset, SECOND)
    dataset.land()
    assert billed(dataset, D1, D2) == 8
    assert Ledger(dataset.platform.lake, "bill").live("focus").generation == SECOND


def test_the_same_rows_in_two_loads_are_refused_and_not_counted_twice(dataset: Site) -> None:
    rows = [row(D1, "1.5", ResourceId=f"vm-{n}") for n in range(30)]
    put_load(dataset, FIRST, *rows)
    put_load(dataset, SECOND, *({**r, "_dlt_id": f"other-{n}", "_dlt_load_id": SECOND} for n, r in enumerate(rows)))
    dataset.land()
    assert sorted(states(dataset).values()) == ["live", "refused"]
    assert billed(dataset, D1) == 45


def test_tables_of_a_dataset_are_named_or_told(make_site: MakeSite, dataset: Site) -> None:
    tables = {"focus_2026_08": "replace", "focus_2026_09": "replace", "orders": "append"}
    put_schema(dataset, at="1795831999.1", **tables)
    put_load(dataset, FIRST, row("2026-08-01", "1"), table="focus_2026_08")
    put_load(dataset, SECOND, row(D1, "2"), table="focus_2026_09")
    put_load(dataset, THIRD, {"id": "1"}, table="orders")
    put_load(dataset, THIRD, {"value": "1"}, table="orders__items")
    assert look(dataset) == {
        "_dlt_loads/": "the dataset has the tables focus_2026_08, focus_2026_09, orders; name one by `table`, or several"
        " as focus_*"
    }
    chosen = make_site(layout="dlt, table: focus_*")
    assert look(chosen) == {"focus_2026_08": "", "focus_2026_09": ""}
    chosen.land()
    assert billed(chosen, "2026-08-01", D1) == 3
    assert "name one by `table`" in look(make_site(layout="dlt, table: bills"))["_dlt_loads/"]


def test_what_it_cannot_know_is_told(dataset: Site) -> None:
    put_load(dataset, FIRST, row(D1, "1"))
    put_schema(dataset, at="1795831999.1", focus="merge")
    assert "write_disposition 'merge'" in look(dataset)["focus"]
    put_schema(dataset, at="1795831999.2", focus={"write_disposition": "append", "table_format": "delta"})
    assert "table_format 'delta'" in look(dataset)["focus"]
    put_schema(dataset, at="1795831999.3", focus="append")
    assert look(dataset) == {f"focus/{FIRST}": ""}
    dataset.put_parquet("focus/part-0.parquet", row(D1, "1"))
    assert "has no load id in its name" in look(dataset)["focus/part-0.parquet"]
    for file in (dataset.exports / "_dlt_loads").iterdir():
        file.unlink()
    assert "holds no completed load of dlt" in look(dataset)["_dlt_loads/"]


def test_tags_that_were_taken_apart_are_refused(dataset: Site) -> None:
    taken = row(D1, "1")
    del taken["tags"]
    put_load(dataset, FIRST, taken | {"tags__team": "web"})
    [entry] = dataset.land()
    assert entry.state == "refused"
    assert 'columns={"Tags": {"data_type": "json"}}' in str(entry.reason)


def test_json_lines_are_read_to_the_last_digit(dataset: Site) -> None:
    lines = [
        row(D1, "0") | {"billed_cost": 0.1, "effective_cost": "1.000000000000000001", "tags": {"team": "web", "n": 1}},
        row(D1, "0") | {"billed_cost": None, "late_column": True},
    ]
    text = "\n".join(json.dumps(line) for line in lines).replace("0.1,", "12345678901234567.123456789012345678,")
    dataset.put(f"focus/{FIRST}.e6.jsonl.gz", gzip.compress(text.encode()))
    dataset.put(f"focus/{FIRST}.e7.jsonl", json.dumps(row(D2, "2")) + "\n\n")
    finish(dataset, FIRST)
    dataset.run(D1, D2)
    assert dataset.rows(D1, "BilledCost", "EffectiveCost", "late_column", "source_row") == [
        (Decimal("12345678901234567.123456789012345678"), Decimal("1.000000000000000001"), None, 1),
        (None, 0, "true", 2),
    ]
    dataset.facts(D1)
    assert dataset.rows(D1, "team", layer="facts")[0] == ("web",)
    assert dataset.value(D2, "BilledCost") == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"billed_cost": 1}\n{"billed', "line 2 is no JSON"),
        (b"[1]\n", "line 1 is no JSON object: \"['1']\""),
        (gzip.compress(b'{"billed_cost": 1}\n' * 9)[:-6], "not readable to its end"),
    ],
    ids=["cut", "array", "gzip"],
)
def test_broken_json_lines_are_refused_whole(dataset: Site, content: bytes, said: str) -> None:
    packed = content.startswith(b"\x1f\x8b")
    dataset.put(f"focus/{FIRST}.e6.jsonl{'.gz' if packed else ''}", content)
    finish(dataset, FIRST)
    [entry] = dataset.land()
    assert entry.state == "refused"
    assert said in str(entry.reason)


def test_a_look_at_which_nothing_is_new_reads_no_file(dataset: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put_load(dataset, FIRST, row(D1, "1"))
    put_load(dataset, SECOND, row(D2, "2"))
    dataset.land()
    source, first_day = dataset.source, dataset.platform.settings.first_day
    assert unknown_deliveries(dataset.platform.lake, source, first_day) == []
    known = known_manifests(newest_deliveries(source)[1])
    store, again = newest_deliveries(source, known)
    assert [d.unchanged for d in again] == [True, True]
    put_load(dataset, THIRD, row(D2, "4", ResourceId="new"))
    assert [(d.scope, d.unchanged) for d in newest_deliveries(source, known)[1]] == [
        (f"focus/{FIRST}", True), (f"focus/{SECOND}", True), (f"focus/{THIRD}", False),
    ]  # fmt: skip
    assert [d.scope for d in unknown_deliveries(dataset.platform.lake, source, first_day)] == [f"focus/{THIRD}"]
    assert store.requests >= 0


def test_inspect_knows_a_dataset_by_its_loads(dataset: Site) -> None:
    put_load(dataset, FIRST, row(D1, "1"))
    found = inspect(str(dataset.exports))
    assert found.layout == "dlt"
    assert found.sample is not None
    assert "BilledCost" in found.sample.columns
    assert "BilledCost" not in found.sample.missing
