"""A period beside the one before: like days of like sources, null for what is unknown, in every output."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from typer.testing import CliRunner

from finops_assets.base.period import Period
from finops_assets.cli.common import made_of, show, write_table
from finops_assets.cli.program import app
from finops_assets.cost.restatements import as_of_relation
from finops_assets.evaluate.comparison import compare
from finops_assets.evaluate.reports import OTHERS, cost_by, cost_by_day, savings_by, untagged_by
from finops_assets.tables.rows import Rows

SEPTEMBER, OCTOBER = date(2026, 9, 1), date(2026, 10, 1)
MONTH = Period(OCTOBER, date(2026, 11, 1))
HELD = {date(2026, 9, 3), date(2026, 10, 14), date(2026, 10, 31)}
LATE, CONNECTED, FRESH = date(2026, 10, 20), date(2026, 10, 10), date(2026, 10, 12)
MONEY = "DECIMAL(38, 18)"
# Like days of October by source: without the 3rd, the 14th and the 31st; gcp's also without the 20th.
LIKE = {"aws": 28, "gcp": 27}


def _rows() -> Iterator[tuple[Any, ...]]:
    """day, provider, team, category, currency, cost, source: what each source billed on the days that were reported."""
    for n in range(61):
        day = SEPTEMBER + timedelta(days=n)
        if day in HELD:
            continue
        web = Decimal(10) if day < OCTOBER else Decimal("10.080000000000000001")
        yield day, "AWS", "web", "Compute", "USD", web, "aws"
        yield day, "AWS", "web", "Storage", "CHF", Decimal(5), "aws"
        if day < OCTOBER:
            yield day, "AWS", "gone", "Compute", "USD", Decimal(2), "aws"
        if day >= FRESH:
            yield day, "AWS", "fresh", "Compute", "USD", Decimal(3), "aws"
        if day == date(2026, 10, 5):
            yield day, "Vendor", "web", "Other", "USD", Decimal(7), "aws"
        if day != LATE:
            yield day, "Google", "data", "Analytics", "USD", Decimal(100 + n % 3), "gcp"
        if day >= CONNECTED:
            yield day, "Microsoft", "office", "Compute", "USD", Decimal(50), "azure"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose published copy holds two months of three sources, each with its own gaps."""
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "finops.yaml").write_text(
        "first_day: 2026-09-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: aws, uri: exports, layout: files}]\ndimensions:\n  team: {keys: [team]}\n",
        encoding="utf-8",
    )
    with duckdb.connect(str(folder / "p.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE bills (charge_date DATE, provider VARCHAR, team VARCHAR, ServiceCategory VARCHAR,"
            f" BillingCurrency VARCHAR, cost {MONEY}, source VARCHAR)"
        )
        connection.executemany("INSERT INTO bills VALUES (?, ?, ?, ?, ?, ?, ?)", list(_rows()))
        own = (
            "charge_date, provider, 'shop' AS department, team, 'prod' AS environment, ServiceCategory,"
            " BillingCurrency, cost AS billed_cost, cost AS effective_cost, cost AS positive_effective_cost,"
            " CAST(1 AS BIGINT) AS row_count"
        )
        connection.execute(
            f"CREATE TABLE daily_cost_by_team AS SELECT {own}, cost AS list_cost, cost AS contracted_cost FROM bills"
        )
        connection.execute(
            f"CREATE TABLE reported_cost AS SELECT {own}, source, TIMESTAMP '2026-11-01' AS reported_from,"
            " CAST(NULL AS TIMESTAMP) AS reported_to FROM bills"
        )
    return folder


@pytest.fixture
def published(project: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(project / "p.duckdb"), read_only=True) as connection:
        yield connection


def report(project: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", *arguments, "-c", str(project / "finops.yaml")])


@pytest.mark.parametrize("first", [OCTOBER, date(2026, 10, 4), date(2026, 10, 13)])
@pytest.mark.parametrize("by", [("team",), ("ServiceCategory", "provider"), ()])
def test_a_period_is_the_sum_of_its_days(
    published: duckdb.DuckDBPyConnection, by: tuple[str, ...], first: date
) -> None:
    """Of one that is not asked for by day the days are told apart by what they are compared with alone."""
    period = Period(first, MONTH.end)
    amounts = ("effective_cost", "billed_cost", "effective_cost_compared", "effective_cost_before", "row_count")
    by_day: dict[tuple[Any, ...], list[Decimal]] = {}
    for row in cost_by(published, period, ("charge_date", *by)):
        sums = by_day.setdefault((*(row[name] for name in by), row["currency"]), [Decimal(0)] * len(amounts))
        sums[:] = [total + (row[name] or 0) for total, name in zip(sums, amounts)]
    whole = cost_by(published, period, by)
    assert len(whole) > 1
    for row in whole:
        assert [row[name] or 0 for name in amounts] == by_day.pop((*(row[name] for name in by), row["currency"]))
    assert not any(cost for cost, *_ in by_day.values())


def test_what_was_reported_is_looked_through_once(published: duckdb.DuckDBPyConnection) -> None:
    asked: list[str] = []

    class Told:
        def execute(self, query: str, *bound: Any) -> Any:
            asked.append(query)
            return published.execute(query, *bound)

        def table(self, name: str) -> Any:
            return published.table(name)

    for report in (lambda of: cost_by(of, MONTH, ("team",)), lambda of: untagged_by(of, MONTH)):
        asked.clear()
        report(Told())
        assert [
            sum(f"FROM {table}" in query for query in asked) for table in ("reported_cost", "daily_cost_by_team r")
        ] == [1, 1]


def by_hand(connection: duckdb.DuckDBPyConnection, where: str) -> tuple[Decimal, Decimal]:
    """What was spent on like days, and before: paired here by plain SQL on the days that each source billed."""
    [pair] = connection.execute(
        f"""
        WITH billed AS (SELECT DISTINCT source, month(charge_date) AS m, day(charge_date) AS d FROM bills),
        pairs AS (SELECT source, d FROM billed GROUP BY ALL HAVING count(*) = 2)
        SELECT coalesce(sum(cost) FILTER (month(charge_date) = 10), 0),
            coalesce(sum(cost) FILTER (month(charge_date) = 9), 0)
        FROM bills JOIN pairs ON bills.source = pairs.source AND day(charge_date) = d WHERE {where}
        """
    ).fetchall()
    return pair


def test_only_days_that_both_months_have_are_compared(published: duckdb.DuckDBPyConnection) -> None:
    rows = {(r["team"], r["currency"]): r for r in cost_by(published, MONTH, ("team",)).frame().to_dict("records")}
    for (team, currency), row in rows.items():
        like, before = by_hand(published, f"team = '{team}' AND BillingCurrency = '{currency}'")
        if team != "office":
            assert (row["effective_cost_compared"], row["effective_cost_before"]) == (like, before), team
    web = rows["web", "USD"]
    assert round(web["change_percent"], 1) == 3.3  # with the one purchase of the vendor
    assert (web["days"], web["days_before"]) == (29, LIKE["aws"])
    # All that was spent stays shown: the 3rd, too, which has no like.
    assert web["effective_cost"] == web["effective_cost_compared"] + Decimal("10.080000000000000001")
    assert (rows["data", "USD"]["days"], rows["data", "USD"]["days_before"]) == (28, LIKE["gcp"])


def test_what_is_unknown_is_null_and_what_is_nothing_is_zero(published: duckdb.DuckDBPyConnection) -> None:
    rows = {(r["team"], r["currency"]): r for r in cost_by(published, MONTH, ("team",)).frame().to_dict("records")}
    fresh, gone, office = (rows[team, "USD"] for team in ("fresh", "gone", "office"))
    # A new team of a cloud whose bills are known cost nothing before; a percentage of nothing there is none.
    assert (fresh["effective_cost_before"], fresh["days_before"]) == (0, LIKE["aws"])
    assert fresh["change_percent"] != fresh["change_percent"]
    assert (gone["effective_cost"], gone["change_percent"]) == (0, -100)
    assert gone["effective_cost_before"] == 2 * LIKE["aws"]
    # Of a cloud whose bills begin in this month nothing is known before.
    assert office["effective_cost"] == 50 * 20
    assert (office["effective_cost_before"], office["effective_cost_compared"], office["days_before"]) == (
        None,
        None,
        0,
    )
    vendor = cost_by(published, MONTH, ("provider",)).frame().set_index("provider").loc["Vendor"]
    assert (vendor["effective_cost"], vendor["effective_cost_before"], vendor["days"]) == (7, 0, 29)
    # A month of which nothing is known before.
    first = cost_by(published, Period(SEPTEMBER, OCTOBER), ("team",)).frame()
    assert first["effective_cost_before"].isna().all()
    assert first["change_percent"].isna().all()
    assert set(first["days_before"]) == {0}


def test_day_by_day_a_day_stands_beside_its_like_or_alone(published: duckdb.DuckDBPyConnection) -> None:
    table = cost_by(published, MONTH, ("charge_date", "team")).frame()
    web = table[(table["team"] == "web") & (table["currency"] == "USD")].set_index("charge_date")
    assert len(web) == 29
    third, second = web.loc[date(2026, 10, 3)], web.loc[date(2026, 10, 2)]
    assert (third["effective_cost_before"], third["days"], third["days_before"]) == (None, 1, 0)
    assert (second["effective_cost_before"], second["days"], second["days_before"]) == (10, 1, 1)
    data = table[table["team"] == "data"]
    assert LATE not in set(data["charge_date"])
    assert data["effective_cost"].min() >= 100


@pytest.mark.parametrize("most", [1, 2, 9])
def test_a_chart_by_day_has_the_largest_values_and_the_rest_together(
    published: duckdb.DuckDBPyConnection, most: int
) -> None:
    whole = cost_by(published, MONTH, ("charge_date", "team"), basis="effective").frame()
    whole = whole[whole["currency"] == "USD"]
    drawn = cost_by_day(published, MONTH, "team", "USD", most).frame()
    # data is the largest, office the next; of five no more than one stands for itself, two, or all.
    kept = {1: {"data", OTHERS}, 2: {"data", "office", OTHERS}, 9: {"data", "office", "web", "gone", "fresh"}}[most]
    assert set(drawn["team"]) == kept

    def by_day(table: pd.DataFrame, cost: str, before: str) -> dict[tuple[date, str], tuple[Decimal, Decimal | None]]:
        found: dict[tuple[date, str], tuple[Decimal, Decimal | None]] = {}
        for row in table.to_dict("records"):
            place = row["charge_date"], row["team"] if row["team"] in kept else OTHERS
            spent, like = found.get(place, (Decimal(0), None))
            if row[before] is not None:
                like = (like or Decimal(0)) + row[before]
            found[place] = spent + row[cost], like
        return found

    assert by_day(drawn, "cost", "before") == by_day(whole, "effective_cost", "effective_cost_before")


def test_currencies_stand_by_their_size(published: duckdb.DuckDBPyConnection) -> None:
    for table in (
        cost_by(published, MONTH, ("team",)).frame(),
        untagged_by(published, MONTH).frame(),
        savings_by(published, MONTH, ("team",)).frame(),
    ):
        assert list(dict.fromkeys(table["currency"])) == ["USD", "CHF"]
        assert set(table["days"]) <= {20, 28, 29}


def test_which_days_are_known_by_source(published: duckdb.DuckDBPyConnection) -> None:
    found = compare(published, MONTH)
    assert str(found) == "29 of 31 days; compared over 28 like days"
    assert (found.missing, found.missing_before) == ([date(2026, 10, 14), date(2026, 10, 31)], [date(2026, 9, 3)])
    assert found.late["gcp"] == [LATE]
    assert found.late["azure"][-1] == CONNECTED - timedelta(days=1)
    assert "aws" not in found.late
    assert found.unpaired == []  # the 31st is held
    assert any(note.startswith("gcp has no figures for 1 day: 2026-10-20") for note in found.notes)
    # As it was reported before anything was.
    assert compare(published, MONTH, as_of_relation(date(2026, 10, 30))).days == 0


def test_an_answer_that_compares_nothing_says_nothing_of_the_period_before(
    published: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = compare(published, MONTH)
    assert any("of the period before have no figures" in note for note in compared.coverage["notes"])
    about = made_of(published, MONTH)
    assert about.coverage is not None
    notes = about.coverage["notes"]
    assert notes[0].startswith("2 of 31 days of the period have no figures")
    assert not any("before" in note for note in notes)
    assert " ".join(capsys.readouterr().err.split()).count("have no figures") == 1


@pytest.mark.parametrize(
    ("first", "end", "pairs", "alone"),
    [
        ("2026-10-01", "2026-11-01", 30, ["2026-10-31"]),
        ("2026-03-01", "2026-04-01", 28, ["2026-03-29", "2026-03-30", "2026-03-31"]),
        ("2026-02-01", "2026-03-01", 28, ["2026-01-29", "2026-01-30", "2026-01-31"]),
        ("2026-10-01", "2026-10-08", 7, []),
        ("2026-10-05", "2026-10-12", 7, []),
    ],
)
def test_months_of_unlike_lengths(first: str, end: str, pairs: int, alone: list[str]) -> None:
    period = Period(date.fromisoformat(first), date.fromisoformat(end))
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE reported_cost AS SELECT CAST(range AS DATE) AS charge_date, 'AWS' AS provider, 'aws' AS source,"
            " NULL AS reported_to FROM range(DATE '2025-12-01', DATE '2026-12-31', INTERVAL 1 DAY)"
        )
        found = compare(connection, period)
    assert (found.days, found.days_before) == (len(period.days), pairs)
    assert list(map(str, found.unpaired)) == alone
    assert found.late == {}


@pytest.mark.parametrize(
    ("absent", "known"),
    [
        ([date(2026, 9, 10)], False),
        ([date(2026, 9, 7) + timedelta(days=n) for n in range(7)], False),
        ([date(2026, 9, 7) + timedelta(days=n) for n in range(8)], True),
    ],
)
def test_a_bill_that_is_late_is_unknown_and_one_that_is_long_gone_is_nothing(absent: list[date], known: bool) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE reported_cost AS SELECT CAST(range AS DATE) AS charge_date, source AS provider, source,"
            " NULL AS reported_to FROM range(DATE '2026-08-01', DATE '2026-10-01', INTERVAL 1 DAY),"
            " (VALUES ('daily'), ('other')) AS s(source)"
        )
        connection.execute(
            "DELETE FROM reported_cost WHERE source = 'other' AND list_contains(?, charge_date)", [absent]
        )
        found = compare(connection, Period(SEPTEMBER, OCTOBER))
    assert (date(2026, 9, 10) in found.known["other"]) is known
    assert len(found.compared["daily"]) == 30


@pytest.mark.parametrize("known", [True, False])
def test_days_before_a_source_began_are_no_gap_where_coverage_knows_that_they_cost_nothing(known: bool) -> None:
    first, end, began = date(2026, 10, 11), date(2026, 10, 21), date(2026, 10, 15)
    day = "CAST(range AS DATE)"
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE TABLE reported_cost AS SELECT {day} AS charge_date, p AS provider, lower(p) AS source, NULL AS reported_to"
            " FROM range(DATE '2026-10-01', DATE '2026-10-21', INTERVAL 1 DAY), (VALUES ('AWS'), ('New')) AS t(p)"
            f" WHERE p = 'AWS' OR {day} >= $began",
            {"began": began},
        )
        connection.execute(
            f"CREATE TABLE coverage AS SELECT {day} AS charge_date, s AS source, 'built' AS state, now() AS since, '' AS reason,"
            " 'current' AS shown, '' AS stamp FROM range(DATE '2026-10-01', DATE '2026-10-21', INTERVAL 1 DAY),"
            f" (VALUES ('aws'), ('new')) AS t(s) WHERE s = 'aws' OR $known OR {day} >= $began",
            {"began": began, "known": known},
        )
        found = compare(connection, Period(first, end))
    assert found.compared_days(["New"]) == 0
    assert found.compared_days(["AWS"]) == 10
    assert (found.coverage["whole"], found.begins) == (known, {"new": began} if known else {})
    assert ("new begins on 2026-10-15: days before it are not compared" in found.notes) == known
    assert any(note.startswith("new has no figures for 14 days") for note in found.notes) == (not known)


def test_a_source_that_takes_over_is_no_new_beginning() -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE reported_cost AS SELECT CAST(range AS DATE) AS charge_date, 'AWS' AS provider,"
            " CASE WHEN range < TIMESTAMP '2026-10-05' THEN 'cur' ELSE 'focus' END AS source, NULL AS reported_to"
            " FROM range(DATE '2026-09-01', DATE '2026-11-01', INTERVAL 1 DAY)"
        )
        assert compare(connection, MONTH).days_before == 30


def test_every_format_says_the_same(project: Path, tmp_path: Path) -> None:
    asked = ("teams", "--by", "provider", "--from", "2026-10-01", "--to", "2026-11-01")
    rows = json.loads(report(project, *asked, "-f", "json").stdout)["rows"]
    table = report(project, *asked)
    assert "29 of 31 days; compared over 28 like days" in table.stdout
    assert "2 of 31 days of this period have no figures" in table.stderr
    assert "gcp has no figures for 1 day: 2026-10-20" in table.stderr
    heading = next(line for line in table.stdout.splitlines() if line.startswith("provider")).split()
    assert {"compared", "before", "days"} <= set(heading)
    for row in csv.DictReader(io.StringIO(report(project, *asked, "-f", "csv").stdout)):
        like, before = row["effective_cost_compared"], row["effective_cost_before"]
        if row["change_percent"]:
            assert float(row["change_percent"]) == pytest.approx(float(Decimal(like) / Decimal(before) - 1) * 100)
        [same] = [r for r in rows if (r["provider"], r["currency"]) == (row["provider"], row["currency"])]
        assert {k: "" if v is None else str(v) for k, v in same.items() if "percent" not in k} == {
            k: v for k, v in row.items() if "percent" not in k
        }
    [microsoft] = [r for r in rows if r["provider"] == "Microsoft"]
    assert (microsoft["effective_cost_before"], microsoft["change_percent"], microsoft["days_before"]) == (
        None,
        None,
        0,
    )
    target = tmp_path / "teams.parquet"
    assert report(project, *asked, "-f", "parquet", "-o", str(target)).exit_code == 0
    frame = pd.read_parquet(target)
    assert frame["days_before"].tolist() == [r["days_before"] for r in rows]
    assert frame["effective_cost_before"].isna().tolist() == [r["effective_cost_before"] is None for r in rows]
    for bases in (("--basis", "billed"), ("--as-of", "2026-11-02")):
        same = json.loads(report(project, *asked, *bases, "-f", "json").stdout)["rows"]
        assert [r["days_before"] for r in same] == [r["days_before"] for r in rows]


@pytest.mark.parametrize("command", ["teams", "services", "untagged", "savings"])
@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_days_without_any_figure_have_no_answer(project: Path, command: str, format: str) -> None:
    told = report(project, command, "--from", "2026-12-01", "--to", "2027-01-01", "-f", format)
    assert told.exit_code == 1
    assert told.stdout == ""
    said = " ".join(told.stderr.split())
    assert "no day of 2026-12-01 to 2026-12-31 was reported; there are figures from 2026-09-01 to 2026-10-30" in said
    assert "finops run 2026-12-01 2027-01-01" in said


def test_a_time_that_is_not_there_is_null_in_json(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "seen_at": [pd.Timestamp("2026-10-01 05:00"), pd.NaT],
            "charge_date": [OCTOBER, None],
            "effective_cost": [Decimal("1E-18"), None],
        }
    )
    write_table(Rows.of(table.assign(share_percent=[float("nan"), 1.5])), "json", tmp_path / "t.json")
    first, second = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["rows"]
    assert first == {
        "seen_at": "2026-10-01T05:00:00Z", "charge_date": "2026-10-01", "effective_cost": "0.000000000000000001", "share_percent": None,
    }  # fmt: skip
    assert second == {"seen_at": None, "charge_date": None, "effective_cost": None, "share_percent": 1.5}


def test_a_table_that_is_cut_shows_every_currency(capsys: pytest.CaptureFixture[str]) -> None:
    show(Rows(["team", "currency"], [*zip("abcdefg", ["USD"] * 4 + ["CHF"] * 3)]), limit=4)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in shown[1:5]] == ["a", "b", "e", "f"]
    assert "3 more" in " ".join(shown[5])
