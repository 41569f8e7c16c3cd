"""The same charges by two scopes of a source are recognised and held with both names; parts of a day are not."""

from __future__ import annotations

import gzip
import re
import shlex
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from finops_assets.alerts.alert import OpenAlert
from finops_assets.cli.program import app
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts
from finops_assets.cost.restatements import TakenOut, keep_history, restatements, taken_out, taken_out_told
from finops_assets.explore.asking import asked
from finops_assets.explore.newest_copy import NewestCopy
from finops_assets.explore.pages.data import data
from finops_assets.graph.run_alerts import taken_out_observations
from finops_assets.ingest import landing
from finops_assets.ingest.raw_days import changed_days, compose_days
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.storage.ledger import Ledger, rows_after_today
from finops_assets_tests.conftest import Site, csv_text, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

D1, D2, D3 = "2026-09-01", "2026-09-02", "2026-09-03"
MakeSite = Callable[..., Site]
Row = dict[str, Any]


def machine(n: int, day: str = D1, cost: str = "1.5", **more: str) -> Row:
    """Usage of one of many machines."""
    return focus_row(
        day, ResourceId=f"vm-{n}", SkuId="m1", SubAccountId="sub-1", RegionId="eu", BilledCost=cost, EffectiveCost=cost
    ) | dict(more)


def billed(site: Site, *days: str) -> Decimal:
    """What the raw days hold, composed from what counts now."""
    site.compose(*days)
    totals = (Ledger(site.platform.lake, "bill").day_totals(date.fromisoformat(day)) for day in days)
    return sum((amount for held in totals if held for amount in held.billed.values()), Decimal(0))


def states(site: Site) -> dict[str, str]:
    ledger = Ledger(site.platform.lake, "bill")
    return {scope: g.state for scope in ledger.scopes() if (g := ledger.latest(scope))}


def say(site: Site, *words: str) -> str:
    done = CliRunner().invoke(app, ["deliveries", *words, "--config", str(site.folder / "finops.yaml")])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture
def told(make_site: MakeSite) -> Site:
    """A site whose finops.yaml is a file, for commands."""
    site = make_site()
    (site.folder / "finops.yaml").write_text(site.text)
    return site


@pytest.mark.parametrize("compressed", [False, True])
def test_a_renamed_or_compressed_file_counts_once(make_site: MakeSite, compressed: bool) -> None:
    site = make_site()
    draft = site.put_csv("sept-draft.csv", machine(1), machine(2, D2))
    site.run(D1, D2)
    content = draft.read_bytes()
    draft.unlink()
    name = "sept.csv.gz" if compressed else "sept.csv"
    site.put(name, gzip.compress(content) if compressed else content)
    [landed] = site.land()
    assert (landed.scope, landed.state) == (name, "live")
    assert states(site) == {name: "live", "sept-draft.csv": "superseded"}
    old = Ledger(site.platform.lake, "bill").latest("sept-draft.csv")
    assert old is not None
    assert old.reason == f"is no longer there, and {name} holds all its rows"
    # Nothing changed, so no day is to run.
    assert changed_days(site.platform.lake, site.source, date(2026, 9, 1), date(2026, 9, 3)) == []
    assert billed(site, D1, D2) == Decimal(3)
    assert site.land() == [landed]


def test_a_longer_snapshot_replaces_one_that_is_gone(make_site: MakeSite) -> None:
    site = make_site()
    first = site.put_csv("to-14.csv", machine(1), machine(2))
    site.run(D1)
    first.unlink()
    site.put_csv("to-15.csv", machine(1), machine(2), machine(1, D2))
    site.run(D1, D2)
    assert states(site) == {"to-14.csv": "superseded", "to-15.csv": "live"}
    assert billed(site, D1, D2) == Decimal("4.5")


def test_a_file_that_is_gone_and_of_which_rows_are_missing_is_asked_about(make_site: MakeSite) -> None:
    site = make_site()
    first = site.put_csv("old.csv", machine(1), machine(2))
    site.run(D1)
    first.unlink()
    site.put_csv("new.csv", machine(1), machine(3))
    [refused] = site.run(D1)
    assert refused.state == "refused"
    assert refused.reason
    assert "the same charges as old.csv, which is no longer there" in refused.reason
    assert billed(site, D1) == Decimal(3)


def test_the_same_file_twice_holds_its_days_and_a_person_says_which_counts(told: Site) -> None:
    told.put_csv("a.csv", machine(1), machine(2), machine(3, D3))
    told.run(D1, D3)
    told.put_csv("copy of a.csv", machine(1), machine(2), machine(1, D2))
    told.run(D1, D2, D3)
    assert states(told) == {"a.csv": "live", "copy of a.csv": "refused"}
    verdicts = told.judge(D1, D2, D3)
    assert {day: verdicts["complete", day].passed for day in (D1, D2, D3)} == {D1: False, D2: False, D3: True}
    message = verdicts["complete", D1].message
    for words in (
        "holds the same charges as a.csv: 2 of 2 rows with cost of 2026-09-01 (3 USD) stand in both",
        "finops deliveries withdraw bill a.csv",
        "finops deliveries withdraw bill 'copy of a.csv'",
        "finops deliveries accept bill 'copy of a.csv'",
    ):
        assert words in message
    assert "which of the deliveries counts" in verdicts["complete", D1].next_step
    # The last good day stands.
    assert billed(told, D1) == Decimal(3)
    assert told.land()[1].state == "refused"

    assert "To take it back" in say(told, "withdraw", "bill", "a.csv")
    told.run(D1, D2, D3)
    assert states(told) == {"a.csv": "withdrawn", "copy of a.csv": "live"}
    assert billed(told, D1, D2, D3) == Decimal("4.5")
    assert told.judge(D1)["complete", D1].passed

    # A new file under the name that was taken out does not count either.
    told.put_csv("a.csv", machine(9, cost="100"))
    told.land()
    assert billed(told, D1) == Decimal(3)
    assert "it counts again" in say(told, "accept", "bill", "a.csv")
    assert states(told)["a.csv"] == "live"


def test_both_count_once_a_person_said_so_whatever_comes_again(told: Site) -> None:
    told.put_csv("a.csv", machine(1), machine(2))
    told.run(D1)
    told.put_csv("b.csv", machine(1), machine(2))
    told.run(D1)
    say(told, "accept", "bill", "b.csv")
    told.run(D1)
    assert states(told) == {"a.csv": "live", "b.csv": "live"}
    assert billed(told, D1) == Decimal(6)
    told.put_csv("b.csv", machine(1), machine(2), machine(3))
    told.run(D1)
    told.put_csv("a.csv", machine(1), machine(2), machine(4))
    told.run(D1)
    assert states(told) == {"a.csv": "live", "b.csv": "live"}
    assert billed(told, D1) == Decimal(9)


def test_a_copy_that_does_not_count_holds_nothing(told: Site) -> None:
    told.put_csv("a.csv", machine(1))
    told.run(D1)
    told.put_csv("b.csv", machine(1))
    told.run(D1)
    assert "does not count" in say(told, "withdraw", "bill", "b.csv")
    told.run(D1)
    assert told.judge(D1)["complete", D1].passed
    assert billed(told, D1) == Decimal("1.5")
    say(told, "accept", "bill", "b.csv")
    told.run(D1)
    assert billed(told, D1) == Decimal(3)


def test_a_restated_copy_beside_the_old_file(make_site: MakeSite) -> None:
    """Every amount differs, so no row stands in both; the charges do."""
    site = make_site()
    site.put_csv("bill.csv", *(machine(n, day) for n in range(4) for day in (D1, D2)))
    site.run(D1, D2)
    site.put_csv("bill-restated.csv", *(machine(n, day, cost="1.4") for n in range(5) for day in (D1, D2)))
    site.run(D1, D2)
    assert states(site) == {"bill-restated.csv": "refused", "bill.csv": "live"}
    refused = Ledger(site.platform.lake, "bill").latest("bill-restated.csv")
    assert refused is not None
    assert refused.reason is not None
    assert "8 charges of 2026-09-01 to 2026-09-02 stand in both, at other amounts (11.2 USD here)" in refused.reason


def test_a_partly_restated_copy(make_site: MakeSite) -> None:
    site = make_site()
    site.put_csv("a.csv", focus_row(D1, BilledCost="10"), focus_row(D2, BilledCost="5"))
    site.run(D1, D2)
    site.put_csv("b.csv", focus_row(D1, BilledCost="10"), focus_row(D2, BilledCost="3"))
    site.run(D1, D2)
    assert states(site) == {"a.csv": "live", "b.csv": "refused"}


def test_rows_that_a_loader_appended_once_more(make_site: MakeSite) -> None:
    """dlt writes a file a load, with its own ids on each row."""
    site = make_site()
    for load in ("1761000000.1", "1761090000.2"):
        rows = [machine(n, cost="1.2") | {"_dlt_load_id": load, "_dlt_id": f"{load}-{n}"} for n in range(4)]
        site.put_parquet(f"bill/charges/{load}.parquet", *rows)
    site.run(D1)
    assert sorted(states(site).values()) == ["live", "refused"]
    assert billed(site, D1) == Decimal("4.8")


PARTS: dict[str, tuple[list[Row], list[Row]]] = {
    "by account": ([machine(n) for n in range(9)], [machine(n, SubAccountId="sub-2") for n in range(9)]),
    "by region": ([machine(n) for n in range(9)], [machine(n, RegionId="us") for n in range(9)]),
    "by service": ([machine(n) for n in range(9)], [machine(n, ServiceName="Disks") for n in range(9)]),
    "by hour": (
        [machine(n) for n in range(9)],
        [machine(n, ChargePeriodStart=f"{D1}T11:00:00Z", ChargePeriodEnd=f"{D1}T12:00:00Z") for n in range(9)],
    ),
    "a day's file each": ([machine(n) for n in range(9)], [machine(n, D2) for n in range(9)]),
    "cut anywhere": ([machine(n) for n in range(99)], [machine(n) for n in range(99, 198)]),
    "two teams of a vendor without resources": (
        [focus_row(D1, Tags='{"team": "a"}')] * 3,
        [focus_row(D1, Tags='{"team": "b"}')] * 3,
    ),
    "the same machine at two prices": ([machine(1, cost="1.1")], [machine(1, cost="2.2")]),
    "corrections of what stands in the other": (
        [machine(n) for n in range(9)],
        [machine(n, cost="-0.1", ChargeClass="Correction") for n in range(9)],
    ),
    "a later month's bill for the same day": (
        [machine(n) for n in range(9)],
        [machine(n, BillingPeriodStart="2026-10-01T00:00:00Z") for n in range(9)],
    ),
    "what costs nothing in both": (
        [machine(1), *(machine(n, cost="0") for n in range(9))],
        [machine(2), *(machine(n, cost="0") for n in range(9))],
    ),
}


@pytest.mark.long
@pytest.mark.parametrize(("first", "second"), PARTS.values(), ids=PARTS.keys())
def test_parts_of_a_day_are_no_copies(make_site: MakeSite, first: list[Row], second: list[Row]) -> None:
    site = make_site()
    site.put_csv("a.csv", *first)
    site.run(D1)
    site.put_csv("b.csv", *second)
    site.run(D1)
    assert states(site) == {"a.csv": "live", "b.csv": "live"}


def test_identical_rows_of_one_delivery_are_right(make_site: MakeSite) -> None:
    site = make_site()
    site.put_csv("a.csv", *[machine(1)] * 4)
    site.run(D1)
    assert billed(site, D1) == Decimal(6)


def test_scopes_that_share_nothing_are_not_read_again(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site()
    site.put_csv("a.csv", *(machine(n) for n in range(300)))
    site.run(D1)

    def read(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(landing, "shared", read)
    site.put_csv("b.csv", *(machine(n) for n in range(300, 700)))
    site.land()
    assert states(site)["b.csv"] == "live"


@pytest.mark.long
@pytest.mark.parametrize(("there", "copied"), [(3000, 8), (8, 3000), (600, 600)])
def test_a_small_copy_in_a_large_scope_is_found(make_site: MakeSite, there: int, copied: int) -> None:
    site = make_site()
    site.put_csv("a.csv", *(machine(n) for n in range(there)))
    site.run(D1)
    site.put_csv("b.csv", *(machine(n) for n in range(copied)))
    site.run(D1)
    assert states(site) == {"a.csv": "live", "b.csv": "refused"}


def test_only_what_is_refused_or_withdrawn_can_be_accepted(told: Site) -> None:
    told.put("a.csv", csv_text([machine(1)]))
    told.run(D1)
    ledger = Ledger(told.platform.lake, "bill")
    with pytest.raises(ValueError, match="is live; only a refused or withdrawn one"):
        ledger.accept("a.csv")
    with pytest.raises(ValueError, match=r"has no delivery 'b.csv'; allowed: a.csv"):
        ledger.withdraw("b.csv", "")
    ledger.withdraw("a.csv", "a person")
    with pytest.raises(ValueError, match="is withdrawn already: a person"):
        ledger.withdraw("a.csv", "")


def test_what_is_printed_to_say_which_counts_can_be_pasted(told: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINOPS_CONFIG", str(told.folder / "finops.yaml"))
    names = ("a.csv", "-x 'quoted' $HOME [/b] & \x1b.csv")
    for name in names:
        told.put_csv(name, machine(1), machine(2))
        told.run(D1)
    [reason] = [g.reason for name in names for g in told.generations(name) if g.state == "refused"]
    printed = re.findall(r"(finops deliveries \w+ .*?)(?:; |$)", str(reason))
    assert len(printed) == 3
    for line in printed:
        words = shlex.split(line)
        assert words[0] == "finops"
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, done.output
    shown = say(told)
    assert "[/b]" in shown
    assert "\x1b" not in shown


def test_a_scope_is_taken_as_it_is_shown(told: Site) -> None:
    for folder in ("one", "two"):
        told.put_csv(f"{folder}/bill-2026-09.csv", machine(1 if folder == "one" else 2))
    told.run(D1)
    config = ("--config", str(told.folder / "finops.yaml"))

    def refused(*words: str) -> str:
        done = CliRunner().invoke(app, ["deliveries", *words, *config])
        assert done.exit_code == 1
        return done.stderr

    assert "'…bill-2026-09.csv' can be 'one/bill-2026-09.csv', 'two/bill-2026-09.csv'" in refused(
        "withdraw", "bill", "…bill-2026-09.csv"
    )
    assert "has no delivery 'one/bil-2026-09.csv'; it has 'one/bill-2026-09.csv'" in refused(
        "withdraw", "bill", "one/bil-2026-09.csv"
    )
    assert "found source 'bil'; allowed: bill" in refused("accept", "bil", "x")
    assert "found state 'good'; allowed: waiting, complete" in refused("--state", "good")
    assert "Withdrew bill one/bill-2026-09.csv" in say(told, "withdraw", "bill", "…one/bill-2026-09.csv")


# ---- what changes a day ---------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"x_CostCategory": "old"}, {"x_CostCategory": "new"}, True),
        ({}, {"x_CostCategory": "new"}, True),
        ({}, {"x_CostCategory": ""}, False),
        ({"x_A": "1", "x_B": "2"}, {"x_B": "2", "x_A": "1"}, False),
        ({"x_A": "1", "x_B": "2"}, {"x_A": "2", "x_B": "1"}, True),
        ({"x_ExportTime": "1"}, {"x_ExportTime": "2"}, False),
        ({"_dlt_load_id": "1"}, {"_dlt_load_id": "2"}, False),
    ],
)
def test_a_column_of_the_provider_s_own_is_a_part_of_the_day(
    make_site: MakeSite, before: Row, after: Row, changes: bool
) -> None:
    """Only the day on which it changed; what says when a row was exported is no change."""
    site = make_site()
    site.put_csv("a.csv", machine(1) | before, machine(2, D2) | dict.fromkeys(before, "same"))
    site.run_all(D1, D2)
    site.put_csv("a.csv", machine(1) | after, machine(2, D2) | dict.fromkeys(before, "same"))
    [landed] = site.land()
    assert [day.isoformat() for day in landed.changed if day.isoformat() == D1] == ([D1] if changes else [])
    if "x_CostCategory" in before:
        assert [day.isoformat() for day in landed.changed] == [D1]
        assert [day.changed for day in site.compose(D1, D2)] == [True, False]
        assert site.value(D1, "x_CostCategory") == "new"
        site.run_all(D1, D2)
        # Its cost is what it was, so that no figure was restated.
        with site.platform.warehouse.reading() as connection:
            assert restatements(connection).frame().empty


def test_what_lies_before_the_first_day_is_told(make_site: MakeSite) -> None:
    site = make_site(first_day="2026-09-01")
    (site.folder / "finops.yaml").write_text(site.text)
    early = {"BilledCost": "-40", "EffectiveCost": "-40", "ChargeClass": "Correction"}
    site.put_csv("a.csv", machine(1), focus_row("2026-08-15") | early, focus_row("2026-08-16") | early)
    said: list[str] = []
    p = site.platform
    landing.land_source(p.lake, p.settings.engine, site.source, p.settings.first_day, said.append)
    text = "2 rows of 2026-08-15 to 2026-08-16 (-80 USD) lie before first_day 2026-09-01: in no figure"
    assert said == [f"bill: landed a.csv, 3 rows, 3 days; {text}"]
    assert text in say(site)


def test_what_lies_after_today_is_told_until_its_day_has_come(site: Site) -> None:
    (site.folder / "finops.yaml").write_text(site.text)
    site.put_csv("a.csv", machine(1), focus_row("2062-06-03") | {"BilledCost": "3.5", "EffectiveCost": "3.5"})
    [landed] = site.land()
    assert len(landed.changed) == 2
    ledger = Ledger(site.platform.lake, "bill")
    text = "1 row of 2062-06-03 (3.5 USD) lies after today: in no figure until then. Is their ChargePeriodStart right?"
    assert text in say(site)
    assert rows_after_today(ledger.all_live()) == text
    assert rows_after_today(ledger.all_live(), datetime(2062, 6, 2, 23, tzinfo=UTC)) == text
    assert rows_after_today(ledger.all_live(), datetime(2062, 6, 3, tzinfo=UTC)) == ""


ONE_SOURCE = "sources: [{name: one, uri: one, layout: files}]"


def test_a_source_that_was_taken_out_is_told_until_its_cost_has_left(site: Site) -> None:
    days = [date.fromisoformat(day) for day in (D1, D2)]

    def run(sources: list[str], *wanted: date) -> TakenOut:
        listed = ", ".join(f"{{name: {name}, uri: {name}, layout: files}}" for name in sources)
        text = re.sub(r"sources: .*", f"sources: [{listed}]", site.text)
        p = Platform(parse_settings(text, site.folder / "finops.yaml"))
        for source in p.settings.sources:
            landing.land_source(p.lake, p.settings.engine, source, p.settings.first_day)
            compose_days(p.lake, p.settings.engine, source, wanted)
        build_facts(p.lake, p.settings.engine, p.rules, p.source_names, wanted)
        build_rollup(p.lake, p.warehouse, p.rules, p.settings, wanted)
        with p.warehouse.reading() as connection:
            return taken_out(connection, ["one"])

    for name, cost in (("one", "10"), ("two", "1")):
        file = site.folder / name / "a.csv"
        file.parent.mkdir()
        file.write_text(csv_text([machine(1, cost=cost), machine(1, D2, cost=cost)]))
    before = run(["one", "two"], *days)
    assert before == {"two": {day: {"USD": Decimal(1)} for day in days}}
    left = Platform(parse_settings(re.sub(r"sources: .*", ONE_SOURCE, site.text), site.folder / "finops.yaml"))
    left.warehouse.publish(left.lake)
    (site.folder / "finops.yaml").write_text(re.sub(r"sources: .*", ONE_SOURCE, site.text))
    stands = "source two is not in finops.yaml any more: 2 USD of 2 days, 2026-09-01 to 2026-09-02 still stands"
    shown = CliRunner().invoke(app, ["status", "--config", str(site.folder / "finops.yaml")])
    assert stands in " ".join(shown.output.split())
    with NewestCopy(left.settings).reading() as copy:
        listed = {listing.name: listing for listing in data(asked(left.settings, copy, ())).listings}
    [(source, first, last, count, told)] = listed["taken_out"].rows.itertuples(index=False)
    assert (source, first, last, count) == ("two", *days, 2)
    assert stands in told
    now = datetime.now(UTC)
    [seen] = taken_out_observations(left.settings.published, ["one"], now, [])
    assert seen.alert is not None
    assert stands in seen.alert.text
    after = run(["one"], days[0])
    assert taken_out_told(before, after) == [
        "source two is not in finops.yaml any more: 1 USD of 2026-09-01 left with this run; 1 USD of 2026-09-02 still"
        " stands. Put it back, or let it leave all days: finops run 2026-09-02 2026-09-03"
    ]
    gone = run(["one"], *days)
    assert gone == {}
    left.warehouse.publish(left.lake)
    [over] = taken_out_observations(left.settings.published, ["one"], now, [OpenAlert(seen.alert, now)])
    assert (over.key, over.alert) == (seen.key, None)
    assert taken_out_told(before, gone) == [
        "source two is not in finops.yaml any more: 2 USD of 2 days, 2026-09-01 to 2026-09-02 left with this run"
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.csv", b""),
        ("b.parquet", b""),
        ("b.csv.gz", gzip.compress(b"")),
        ("b.csv", csv_text([machine(1)]).split("\n")[0]),
    ],
    ids=["nothing", "no Parquet", "nothing, compressed", "a header alone"],
)
def test_an_empty_file_beside_good_ones_is_shown_and_holds_nothing(
    make_site: MakeSite, name: str, content: bytes | str
) -> None:
    site = make_site()
    (site.folder / "finops.yaml").write_text(site.text)
    site.put_csv("a.csv", machine(1))
    site.put(name, content)
    site.run(D1)
    assert site.judge(D1)["complete", D1].passed
    # A day that no file knows is not built for that.
    assert not site.judge(D2)["complete", D2].passed
    shown = say(site)
    assert f"bill {name} refused" in shown or f"bill {name} complete: holds no rows" in shown


def test_a_file_that_held_days_and_is_empty_now_holds_them(make_site: MakeSite) -> None:
    site = make_site()
    site.put_csv("a.csv", machine(1))
    site.put_csv("b.csv", machine(2), machine(2, D2))
    site.run(D1, D2)
    site.put("b.csv", b"")
    site.run(D1, D2)
    assert [site.judge(D1, D2)["complete", day].passed for day in (D1, D2)] == [False, False]
    assert billed(site, D1) == Decimal(3)


def hour(n: int, at: int, cost: str) -> Row:
    times = {"ChargePeriodStart": f"{D1}T{at:02}:00:00Z", "ChargePeriodEnd": f"{D1}T{at + 1:02}:00:00Z"}
    return machine(n, cost=cost) | times


def test_a_bill_by_the_hour_beside_the_one_by_the_day_is_told(make_site: MakeSite) -> None:
    site = make_site()
    site.put_csv("daily.csv", *(machine(n, cost="2.4") for n in range(3)), machine(9, D2))
    site.put_csv(
        "hourly.csv",
        *(hour(n, at, "0.1") for n in range(3) for at in range(23)),
        *(hour(n, 22, "0.1") for n in range(3)),
    )
    landed = {g.scope: g for g in site.land()}
    assert landed["daily.csv"].state == "live"
    said = landed["hourly.csv"].reason or ""
    assert (
        "holds the same charges as daily.csv: 3 charges of 2026-09-01 (7.2 USD) stand in both, in rows of other times"
        in said
    )


def test_halves_of_a_day_that_cost_the_same_are_no_copies(make_site: MakeSite) -> None:
    site = make_site()
    for name, hours in (("am.csv", range(6)), ("pm.csv", range(6, 12)), ("pm2.csv", range(12, 18))):
        rows = [hour(n, at, "0.1") for n in range(3) for at in hours]
        site.put_csv(name, *rows, *([hour(1, hours[0], "0")] if name == "pm2.csv" else []))
    assert set(states(site).values()) <= {"live"}
    assert {g.state for g in site.land()} == {"live"}


# ---- files of one period, which nobody says that they belong together ------------------------------

BY_MONTH = r"files, period_pattern: '(?P<year>\d{4})-(?P<month>\d{2})'"


def test_a_file_and_its_copy_in_one_period_are_told_and_held(make_site: MakeSite) -> None:
    site = make_site(layout=BY_MONTH)
    site.put_csv("2026-09.csv", *(machine(n) for n in range(4)))
    site.put_csv("2026-09 (1).csv", *(machine(n) for n in range(4)))
    [refused] = site.land()
    assert refused.state == "refused"
    assert refused.reason is not None
    assert "its files 2026-09 (1).csv and 2026-09.csv hold the same charges: 4 of 4 rows with cost of" in refused.reason
    assert "(6 USD)" in refused.reason
    assert site.land() == [refused]
    site.accept("2026-09")
    [landed] = site.land()
    assert (landed.state, billed(site, D1)) == ("live", Decimal(12))


def test_a_restated_copy_and_an_overlap_of_days_in_one_period_are_told(make_site: MakeSite) -> None:
    site = make_site(layout=BY_MONTH)
    site.put_csv("2026-09.csv", *(machine(n) for n in range(4)))
    site.put_csv("2026-09-v2.csv", *(machine(n, cost="1.6") for n in range(4)))
    [refused] = site.land()
    assert "4 charges of 2026-09-01 stand in both, at other amounts" in (refused.reason or "")
    site.put_csv("2026-09.csv", *(machine(n, day) for day in (D1, D2) for n in range(4)))
    site.put_csv("2026-09-v2.csv", *(machine(n, day) for day in (D2, D3) for n in range(5 if day == D3 else 4)))
    [refused] = site.land()
    assert "4 of 4 rows with cost of 2026-09-02 (6 USD) stand in both" in (refused.reason or "")


def test_parts_of_a_period_are_no_copies(make_site: MakeSite) -> None:
    site = make_site(layout=BY_MONTH)
    # Cut anywhere: the parts meet on a day, each machine has several rows a day, and rows without a resource are alike.
    rows = [machine(n // 2 % 7, day, cost=str(1 + n)) for day in (D1, D2, D3) for n in range(20)]
    rows += [focus_row(D2, SkuId="s"), focus_row(D2, SkuId="s")]
    for part in range(3):
        site.put_csv(f"2026-09-part{part}.csv", *rows[part::3])
    [landed] = site.land()
    assert (landed.state, landed.rows) == ("live", 62)


def test_a_source_that_comes_to_a_reported_day_had_reported_nothing_rather_than_0(make_site: MakeSite) -> None:
    site = make_site()
    with site.platform.warehouse.writing() as connection:
        connection.execute(
            "CREATE TABLE made (charge_date DATE, source VARCHAR, department VARCHAR, team VARCHAR,"
            " BillingCurrency VARCHAR, billed_cost DECIMAL(38,18), effective_cost DECIMAL(38,18), row_count BIGINT)"
        )
        day = date(2026, 9, 1)
        for rows in ("('aws', 'a', 1)", "('aws', 'a', 1), ('aws', 'b', 2), ('gcp', 'a', 4)"):
            connection.execute("DELETE FROM made")
            connection.execute(
                f"INSERT INTO made SELECT DATE '{day}', s, 'd', t, 'EUR', c, c, 1 FROM (VALUES {rows}) v(s, t, c)"
            )
            keep_history(connection, [day], "SELECT * FROM made")
        moved = restatements(connection).frame()
    told = {(r.source, r.team): (r.effective_cost_before, r.moved) for r in moved.itertuples()}
    assert told == {("aws", "b"): (0, 2), ("gcp", "a"): (None, 4)}
