"""The page of a month: its figures are the warehouse's, its names are escaped, it asks for no other file."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered, enter_coverage
from finops_assets.evaluate.comparison import NoFigures
from finops_assets.evaluate.page import charts
from finops_assets.evaluate.page.gather import gather, open_months
from finops_assets.evaluate.page.render import render_html, render_markdown, render_text
from finops_assets.evaluate.unit_costs.figures import units_of
from finops_assets.graph.assets.anomalies import anomaly_assets
from finops_assets.graph.assets.budgets import budget_assets
from finops_assets.graph.assets.forecast import forecast_asset
from finops_assets.graph.assets.governance import governance_assets
from finops_assets.graph.assets.page import PAGE, page_asset
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.assets.unit_costs import unit_cost_assets
from finops_assets_tests.conftest import Site, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

SCRIPT = "<script>alert(1)</script>"
FIRST, END = date(2026, 9, 1), date(2026, 10, 18)
GAP, SPIKE, RESTATED = date(2026, 10, 5), date(2026, 10, 12), date(2026, 10, 3)
COUNTED = date(2026, 9, 3), date(2026, 10, 16)
EXTRA = """
budgets: budgets.csv
unit_metrics: units.csv
unit_costs:
  - {name: cost_per_order, metric: orders, cost: {department: shop}, most: {EUR: 2.5}}
tag_policy:
  required: [department, team]
  thresholds: {department: {warn_above: 90, block_above: 95}, team: {warn_above: 90, block_above: 95}}
  champions: {shop: "ada <ada@example.com>"}
  target: {untagged_below: 5, by: 2026-12-31}
"""
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Tables by id: rows of cells, a cell being its text and the exact amounts in it. All attributes, all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, list[Decimal]]]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self._table: str | None = None
        self._cell: list[Any] | None = None
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = dict(attrs).get("id") or ""
            self.tables[self._table] = []
        if tag == "tr" and self._table is not None:
            self.tables[self._table].append([])
        if tag in ("td", "th") and self._table is not None:
            self._cell = ["", []]
        if tag == "data" and self._cell is not None:
            self._cell[1].append(Decimal(dict(attrs)["value"] or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th") and self._table is not None and self._cell is not None:
            self.tables[self._table][-1].append((" ".join(self._cell[0].split()), self._cell[1]))
            self._cell = None
        if tag == "table":
            self._table = None

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
        if self._cell is not None:
            self._cell[0] += data

    def amounts(self, table: str) -> dict[str, list[Decimal]]:
        """By the first cell of a row: every amount in it."""
        return {row[0][0]: [a for _, amounts in row for a in amounts] for row in self.tables[table][1:]}


def bill(day: date, n: int) -> list[dict[str, Any]]:
    def row(cost: str, tags: str, currency: str, **more: Any) -> dict[str, Any]:
        amounts = dict.fromkeys(("EffectiveCost", "BilledCost", "ListCost", "ContractedCost"), cost)
        return focus_row(str(day), Tags=tags, BillingCurrency=currency, SubAccountName="shop-prod", **amounts, **more)

    web = "95.123456789012345678" if day == SPIKE else f"{20 + n % 3}.123456789012345678"
    return [
        row(web, '{"team": "web", "dept": "shop"}', "EUR", ResourceId="i-1"),
        row("3.5", '{"team": "api", "dept": "shop"}', "EUR", ResourceId="i-2", ServiceCategory="Storage"),
        row("1.25", "{}", "EUR", ResourceId="i-3"),
        row("7.000000000000000001", f'{{"team": "{SCRIPT}", "dept": "<b>bad</b>"}}', "USD", ResourceId="x"),
    ]


def deliver(site: Site, changed: bool = False) -> list[str]:
    days = [FIRST + timedelta(days=n) for n in range((END - FIRST).days)]
    rows = [row for n, day in enumerate(days) if day != GAP for row in bill(day, n)]
    if changed:
        for row in rows:
            if row["ChargePeriodStart"].startswith(str(RESTATED)) and row["ResourceId"] == "i-2":
                row["EffectiveCost"] = "5.75"
    site.put_csv("all.csv", *rows)
    return [str(day) for day in days if day != GAP]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dg.ExecuteInProcessResult, str]:
    """A site whose evaluations and page were made by their assets: two months, a gap, a spike, a restated day."""
    site = Site(tmp_path_factory.mktemp("page"), extra=EXTRA, first_day=str(FIRST))
    (site.folder / "budgets.csv").write_text(
        "department,team,period,from,to,basis,currency,amount,threshold\n"
        "shop,web,month,,,effective,EUR,500,80\nshop,,quarter,,,effective,EUR,9000,80\n,,month,,,effective,EUR,1000,80\n",
        encoding="utf-8",
    )
    counted = [COUNTED[0] + timedelta(days=n) for n in range((COUNTED[1] - COUNTED[0]).days + 1)]
    (site.folder / "units.csv").write_text(
        "date,metric,quantity,team\n" + "".join(f"{day},orders,10,web\n" for day in counted if day.day != 9),
        encoding="utf-8",
    )
    site.run_all(*deliver(site))
    deliver(site, changed=True)
    site.run_all(str(RESTATED))
    settings = site.platform.settings
    assert settings.budgets
    evaluations = [
        forecast_asset(settings.owner),
        *budget_assets(settings.budgets, settings.owner),
        *anomaly_assets(settings.owner),
        governance_assets(settings.owner),
        *unit_cost_assets(settings),
    ]
    keys = [key for asset in evaluations for key in asset.keys]
    resources = {"platform": site.platform, IO_MANAGER: ReportTables(database=str(settings.warehouse))}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [*evaluations, page_asset(settings.owner, keys)], instance=instance, resources=resources
        )
    assert result.success
    site.platform.warehouse.publish(site.platform.lake)
    html = (site.folder / "report-2026-10.html").read_text(encoding="utf-8")
    return site, result, html


@pytest.fixture
def warehouse(made: tuple[Site, dg.ExecuteInProcessResult, str]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(made[0].platform.settings.published), read_only=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection


def test_every_figure_is_the_warehouses_to_the_last_digit(
    made: tuple[Site, dg.ExecuteInProcessResult, str], warehouse: duckdb.DuckDBPyConnection
) -> None:
    page = Page(made[2])

    def cost(where: str, month: int = 10) -> Decimal:
        # The 5th of October is held: that of September is in no sum that is compared.
        [(found,)] = warehouse.execute(
            "SELECT coalesce(sum(effective_cost), 0) FROM daily_cost_by_team WHERE month(charge_date) = ?"
            f" AND day(charge_date) <= 17 AND day(charge_date) <> 5 AND {where}",
            [month],
        ).fetchall()
        return Decimal(found)

    def is_cost(row: list[Decimal], where: str) -> None:
        now, before = cost(where), cost(where, 9)
        assert row[:3] == [now, before, now - before], where

    teams = page.amounts("c1-teams-table")
    is_cost(teams["shop / web"], "team = 'web'")
    assert teams["shop / web"][3] == 500  # the budget of the month
    is_cost(teams["shop / api"], "team = 'api'")
    is_cost(teams["untagged"], "team = '__untagged__' AND BillingCurrency = 'EUR'")
    is_cost(teams["all"], "BillingCurrency = 'EUR'")
    is_cost(page.amounts("c2-teams-table")[f"<b>bad</b> / {SCRIPT}"], "BillingCurrency = 'USD'")
    services = page.amounts("c1-services-table")
    is_cost(services["Storage"], "ServiceCategory = 'Storage'")
    is_cost(services["all"], "BillingCurrency = 'EUR'")
    assert teams["all"][0] == sum((teams[t][0] for t in ("shop / web", "shop / api", "untagged")), Decimal(0))

    for department, team, *amounts in warehouse.execute(
        "SELECT department, team, amount, spent, forecast FROM budget_status"
    ).fetchall():
        name = " / ".join(filter(None, (department, team))) or "everybody"
        assert page.amounts("c1-budgets-table")[name] == amounts
    forecast = page.amounts("c1-forecast-team")
    for key, *amounts in warehouse.execute(
        "SELECT key, actual_to_date, forecast, low80, high80, low95, high95 FROM forecast"
        " WHERE currency = 'EUR' AND series = 'team'"
    ).fetchall():
        assert forecast["untagged" if "__untagged__" in key else key] == amounts
    [spike] = [row for row in page.tables["c1-anomalies-table"][1:] if "12 October" in row[1][0]]
    assert spike[0][0] == "shop / webCompute"
    [(observed, expected, excess)] = warehouse.execute(
        "SELECT observed, expected, excess FROM anomaly_history WHERE first_day = DATE '2026-10-12'"
    ).fetchall()
    assert [amount for _, amounts in spike for amount in amounts] == [observed, expected, excess]
    assert "c2-debt-table" not in page.tables  # all of USD is tagged
    [owed] = page.tables["c1-debt-table"][1:]
    [(without,)] = warehouse.execute(
        "SELECT sum(positive_effective_cost) FROM tag_debt WHERE dimension = 'team'"
    ).fetchall()
    assert owed[0][0] == "ada <ada@example.com>"
    assert owed[-1][1] == [without]


def test_what_one_costs_is_that_of_the_table_to_the_last_digit(
    made: tuple[Site, dg.ExecuteInProcessResult, str], warehouse: duckdb.DuckDBPyConnection
) -> None:
    page = Page(made[2])
    months = {
        row["period_start"]: row
        for row in units_of(warehouse, "month").frame().to_dict("records")
        if row["currency"] == "EUR"
    }
    now, before = months[date(2026, 10, 1)], months[date(2026, 9, 1)]
    [(name, shown)] = page.amounts("c1-units-table").items()
    assert name == "cost_per_orderteam web; orders"
    days = units_of(warehouse, "day", date(2026, 10, 1), date(2026, 11, 1)).frame()
    [unusual] = [row for row in days.to_dict("records") if row["unusual"] and row["currency"] == "EUR"]
    assert shown == [
        now["quantity"], now["effective_cost"], now["effective_per_unit"], before["effective_per_unit"], Decimal("2.5"),
        unusual["effective_per_unit"], unusual["usual_per_unit"],
    ]  # fmt: skip
    assert unusual["period_start"] == SPIKE
    cells = [text for text, _ in page.tables["c1-units-table"][1]]
    assert cells[6] == "141 not counted, 1 without cost"
    assert cells[7].startswith("12 October: ")
    # By week: those that hold a day of the month.
    weeks = units_of(warehouse, "week", date(2026, 9, 28), date(2026, 11, 1)).frame()
    told = [row["effective_per_unit"] for row in weeks.to_dict("records") if row["currency"] == "EUR"]
    assert page.amounts("c1-unit-weeks-table") == {"cost_per_orderteam web": [one for one in told if one is not None]}
    assert len(told) == 3
    figures = gather(warehouse, "2026-10")
    for text in (render_text(figures), render_markdown(figures).replace("\\", "")):
        assert "cost_per_order of team web: " in text
        assert "unusual on 12 October" in text
        assert ("at most 2.500000" in text) == (now["effective_per_unit"] > Decimal("2.5"))


def test_what_was_restated_and_what_is_missing_is_said(made: tuple[Site, dg.ExecuteInProcessResult, str]) -> None:
    page = Page(made[2])
    [(_, source, days, up, down, moved, most)] = page.tables["c1-restatements-table"][1:]
    assert (source[0], days[0], up[1], down[1], moved[1]) == (
        "bill", "3 October", [Decimal("2.25")], [Decimal(0)], [Decimal("2.25")],
    )  # fmt: skip
    assert most[0] == "shop / api +2.25"
    assert "No reported day of this month was restated." in page.text  # of USD
    assert "Without figures: 5 October." in page.text
    assert "18 to 31 October: not reported yet, or held." in page.text
    assert "without figures, so not in what is spent: 1 day" in page.text  # of each budget of the month
    # Wherever a figure is compared: the heading, both tiles, three tables of both currencies.
    assert page.text.count("16 of 17 days; compared over 16 like days") == 9


def test_names_are_escaped_and_nothing_else_is_asked_for(made: tuple[Site, dg.ExecuteInProcessResult, str]) -> None:
    html = made[2]
    assert "<script" not in html
    assert "<b>bad" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    page = Page(html)
    asking = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "style"}
    asked = {value for _, name, value in page.attributes if name in asking}
    assert all(value.startswith("#") or value == "data:," for value in asked), asked
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in asked if value.startswith("#")} <= set(ids)


HOSTILE = (
    '"><svg onload=alert(1)>',
    "</title></svg><script>x</script>",
    "a\u202egnp.exe\u2066",
    "two\nlines\tand\x07bell",
    "{{ figures.month }}{% raw %}",
    "=cmd|'/c calc'!A1",
    "x" * 1_000_000,
)


@pytest.mark.long
def test_hostile_names_are_text_on_one_line_and_cut(tmp_path: Path) -> None:
    site = Site(tmp_path, first_day="2026-09-01")
    days = ("2026-09-01", "2026-10-01")
    rows = [
        focus_row(
            day, Tags=json.dumps({"team": name, "dept": name}), EffectiveCost=str(10 * n + (day == days[1])),
            ServiceName=name, ResourceId=name, SubAccountName=name,
        )
        for day in days
        for n, name in enumerate(HOSTILE, 1)
    ]  # fmt: skip
    site.put_csv("all.csv", *rows)
    site.run_all(*days)
    with site.platform.warehouse.reading() as connection:
        figures = gather(connection)
    assert figures.compared.days_before == 1
    html, text = render_html(figures), render_markdown(figures)
    page = Page(html)  # every tag that opens closes
    assert len(page.amounts("c1-teams-table")) == len(HOSTILE) + 1
    for found in (html, text):
        assert len(found) < 100_000
        assert not re.search(r"<svg on|<script|[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", found)
    assert r"a\u202egnp.exe\u2066" in page.text  # what turns the direction is seen, and turns nothing
    assert "two lines and" in page.text
    assert "{{ figures.month }}{% raw %}" in page.text
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ET.fromstring(svg)


def test_on_a_phone_the_drawings_are_whole_and_their_texts_legible(
    made: tuple[Site, dg.ExecuteInProcessResult, str],
) -> None:
    figures = [ET.fromstring(f"<p>{found}</p>") for found in re.findall(r"<figure>(.*?)<figcaption>", made[2], re.S)]
    assert len(figures) >= 6
    for figure in figures:
        screen, phone = figure.findall("svg")
        assert (screen.get("class"), phone.get("class")) == ("screen", "phone")
        width = float((phone.get("viewBox") or "").split()[2])
        assert width == charts.NARROW
        for text in phone.iter("text"):
            # Of 12 pixels a letter of these names is about 6 wide.
            x, length = float(text.get("x") or ""), 6 * len(text.text or "")
            start = {"start": x, "middle": x - length / 2, "end": x - length}[text.get("text-anchor") or "start"]
            assert start >= -6, text.text
            assert start + length <= width + 6, text.text
    style = made[2].partition("</style>")[0]
    assert "min-width: 36rem" not in style
    assert re.search(
        r"max-width: 42rem\) \{ figure svg.screen \{ display: none; \} figure svg.phone \{ display: block", style
    )


def test_drawings_are_well_formed_say_what_they_are_and_stay_on_their_paper(
    made: tuple[Site, dg.ExecuteInProcessResult, str],
) -> None:
    drawings = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", made[2], re.S)]
    assert len(drawings) > 15
    for svg in drawings:
        assert svg.get("aria-hidden") or svg.findtext("title")
        _, _, width, height = map(float, (svg.get("viewBox") or "").split())
        for line in svg.iter("line"):
            assert all(0 <= float(line.get(c) or "") <= width for c in ("x1", "x2"))
            assert all(0 <= float(line.get(c) or "") <= height for c in ("y1", "y2"))
        for shape in (*svg.iter("polyline"), *svg.iter("polygon")):
            places = [tuple(map(float, p.split(","))) for p in (shape.get("points") or "").split()]
            assert all(0 <= x <= width and 0 <= y <= height for x, y in places)


def test_the_asset_tells_where_the_page_is_and_what_is_on_it(
    made: tuple[Site, dg.ExecuteInProcessResult, str],
) -> None:
    site, result, _ = made
    [event] = result.asset_materializations_for_node(f"reports__{PAGE}")
    assert event.metadata["path"].value == str(site.folder / "report-2026-10.html")
    assert event.metadata["days without figures"].value == "2026-10-05"
    text = str(event.metadata["page"].value)
    assert "| EUR | " in text
    assert "CRITICAL" in text or "WARNING" in text
    assert "<" not in text.replace("\\<", "")


def test_the_command_writes_any_month(made: tuple[Site, dg.ExecuteInProcessResult, str], tmp_path: Path) -> None:
    site = made[0]
    config = site.folder / "finops.yaml"
    config.write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: bill, uri: exports, layout: files}]\ndimensions:\n  team: {keys: [team]}\n"
    )
    target = tmp_path / "september.html"
    told = CliRunner().invoke(app, ["report", "html", "--month", "2026-09", "-o", str(target), "-c", str(config)])
    assert told.exit_code == 0, told.output
    page = Page(target.read_text(encoding="utf-8"))
    assert "Cloud cost, September 2026" in page.text
    assert "The month is over." in page.text
    assert "not reported yet" not in page.text
    told = CliRunner().invoke(app, ["report", "html", "-c", str(config)])
    assert "report-2026-10.html" in told.output
    for month, message in (
        ("2026-08", "there are figures from 2026-09-01 to 2026-10-17"),
        ("2026-Q4", "a month is needed"),
        ("October", "found October"),
    ):
        told = CliRunner().invoke(app, ["report", "html", "--month", month, "-c", str(config)])
        assert told.exit_code == 1
        assert message in " ".join(told.output.split()), told.output


def test_a_source_that_is_held_stands_beside_every_figure_that_it_touches(tmp_path: Path) -> None:
    site = Site(tmp_path)
    rows = [focus_row(f"2026-10-{n:02}", BillingCurrency=c) for n in range(1, 5) for c in ("EUR", "USD")]
    site.put_csv("all.csv", *rows)
    site.run_all(*(f"2026-10-{n:02}" for n in range(1, 5)))
    held, second, third = Covered("held", "x", ""), date(2026, 10, 2), date(2026, 10, 3)
    with site.platform.warehouse.writing() as connection:
        connection.execute("UPDATE reported_cost SET source = 'euros' WHERE BillingCurrency = 'EUR'")
        enter_coverage(connection, {("euros", second): held, ("euros", third): held}, [("euros", third)])
        figures = gather(connection, "2026-10")
    said = "without euros on 2 October; last good version of euros on 3 October"
    euros, dollars = render_html(figures).split('<section id="c')[1:]
    assert dollars.count("euros") == 0
    # Both charts, on a screen and on a phone: a mark a day; what they mean stands below each, and above each table.
    assert euros.count('class="lacks"><title>without euros on 2 October</title>') == 4
    assert euros.count('class="lacks"><title>last good version of euros on 3 October</title>') == 4
    assert euros.count(f"Shaded and marked: {said}.") == 2
    assert euros.count(f'; <span class="lacks">{said}</span>') == 3
    head = render_html(figures).split('<section id="c')[0]
    assert head.count(f'<dd class="small lacks">{said}</dd>') == 1
    assert "euros shows its last good version of 3 October" in head
    assert f"EUR {said}." in render_markdown(figures)
    assert f"  {said}\n" in render_text(figures)


def test_what_is_not_there_yet_is_said_and_breaks_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.platform.warehouse.reading() as connection:
        for asked in (gather, open_months):
            with pytest.raises(NoFigures, match="nothing was reported"):
                asked(connection)
    rows = [
        focus_row("2026-09-01", Tags=f'{{"team": "t{n:02}", "dept": "d"}}', EffectiveCost=f"{n}.1")
        for n in range(1, 31)
    ]
    # A credit larger than all cost, alone in its currency: no share, no scale to speak of.
    rows.append(focus_row("2026-09-01", EffectiveCost="-12.5", BillingCurrency="CHF", ChargeCategory="Credit"))
    site.put_csv("all.csv", *rows)
    site.run_all("2026-09-01")
    with site.platform.warehouse.reading() as connection:
        figures = gather(connection)
        page = Page(render_html(figures))
        for said in (
            "No budget was judged yet", "Nothing was forecast yet.", "The weeks are not judged yet.",
            "Nobody looked for anomalies yet.", "No reported day of this month was restated.",
            "Tags are not held against the policy yet.", "Nothing is counted yet",
        ):  # fmt: skip
            assert said in page.text
        # The teams that are not listed one by one are in the sum.
        teams = page.amounts("c1-teams-table")
        listed = [amounts[0] for name, amounts in teams.items() if name != "all"]
        assert "5 more" in teams
        assert len(listed) == 26
        assert sum(listed, Decimal(0)) == teams["all"][0] == Decimal("468.0")
        assert page.amounts("c2-teams-table")["all"] == [Decimal("-12.5")]  # nothing is known before
        assert "| CHF | −12.50 |" in render_markdown(figures)
        # An evaluation that ran and found nothing leaves tables without rows.
        for table in ("anomaly_history", "tag_coverage", "tag_debt"):
            connection.execute(f"CREATE TABLE {table} (nothing INTEGER)")
        text = Page(render_html(gather(connection))).text
        for said in ("None in this month.", "There are no weeks to show", "Nobody owes a tag"):
            assert said in text


@pytest.mark.parametrize(
    ("days", "months"),
    [
        (("2026-09-30", "2026-10-07"), ["2026-10", "2026-09"]),
        (("2026-09-30", "2026-10-08"), ["2026-10"]),
        (("2026-10-31",), ["2026-10"]),
        (("2026-11-02",), ["2026-11"]),
    ],
)
def test_a_month_is_made_anew_for_a_week_after_its_end(days: tuple[str, ...], months: list[str]) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE daily_cost_by_team (charge_date DATE)")
        connection.executemany("INSERT INTO daily_cost_by_team VALUES (?)", [[day] for day in days])
        assert open_months(connection) == months


def test_scales_hold_what_is_drawn() -> None:
    for low, high in ((0.0, 0.0), (-5.0, 0.0), (0.0, 1e-9), (-1e7, 3.5), (0.0, 11467.0), (99.0, 100.0)):
        steps = charts.round_steps(low, high)
        assert steps[0] <= low + 1e-12
        assert steps[-1] >= high
        assert 2 <= len(steps) <= 8


def test_a_picture_that_stands_alone_names_every_bar_and_escapes_it() -> None:
    picture = charts.picture_of_bars("<b> & 2026-09", [("a<b>", 200.0, "200 EUR"), ("fell", Decimal(-50), "-50 EUR")])
    drawn = ET.fromstring(picture)
    svg = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in drawn.iter(f"{svg}text")] == ["<b> & 2026-09", "a<b>", "200 EUR", "fell", "-50 EUR"]
    _, longest, shorter = [float(bar.get("width") or "") for bar in drawn.iter(f"{svg}rect")]
    assert longest == 4 * shorter
