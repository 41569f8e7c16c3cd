"""The explorer in a real browser, on one small platform: what it says is what the commands say."""

from __future__ import annotations

import csv
import getpass
import io
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import hypothesis
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.cost.attribution.owner_decisions import OwnerDecisions
from finops_assets.evaluate.anomalies.history import Anomaly, AnomalyHistory
from finops_assets_tests.browser import Browser, chromium
from finops_assets_tests.explore.served import (
    BACKWARDS,
    FORMULA,
    HELD,
    LAST,
    SCRIPT,
    SPIKE,
    SUGGESTED,
    Served,
    build,
    deliver,
    served,
)

pytestmark = pytest.mark.slow

SPENT = "return document.querySelector('dd.spent data').value"
DRAWN = "return [...document.querySelectorAll('.vega')].every(box => box.dataset.drawn == 'drawn')"
OCTOBER = "from=2026-10-01&to=2026-10-18"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("explore")) as here:
        yield here


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with ExitStack() as stack:
        yield stack.enter_context(chromium())


def open_page(browser: Browser, here: Served, path: str) -> None:
    browser.go(f"{here.address}{path}")
    browser.wait_for(DRAWN)


def total(rows: list[dict[str, str]], column: str, currency: str = "USD") -> Decimal:
    return sum((Decimal(row[column]) for row in rows if row["currency"] == currency), Decimal(0))


@pytest.mark.long
@pytest.mark.parametrize(
    ("basis", "currency"), [("effective", "USD"), ("billed", "EUR"), ("accrued", "USD"), ("billed", "reporting")]
)
def test_the_total_on_the_screen_is_that_of_finops_report(
    here: Served, browser: Browser, basis: str, currency: str
) -> None:
    open_page(browser, here, f"/teams?{OCTOBER}&basis={basis}&currency={currency}")
    converted = ("--currency", "reporting") if currency == "reporting" else ()
    rows = here.rows("report", "teams", "--from", "2026-10-01", "--to", "2026-10-18", "--basis", basis, *converted)
    code = "EUR" if converted else currency
    assert Decimal(browser.run(SPENT)) == total(rows, f"{basis}_cost", code) > 0
    cells = browser.run(
        "return [...document.querySelectorAll('#costs tbody tr')].map(r => [...r.querySelectorAll('data')].map(d => d.value))"
    )
    shown = [tuple(map(Decimal, row)) for row in cells]
    said = [
        tuple(Decimal(row[f"{basis}_cost{part}"]) for part in ("", "_compared", "_before"))
        for row in rows
        if row["currency"] == code
    ]
    assert shown == said
    command = browser.run("return document.querySelector('#costs pre.command').textContent")
    assert total(here.rows(*shlex.split(command)[1:]), f"{basis}_cost", code) == Decimal(browser.run(SPENT))


@pytest.mark.long
def test_clicks_narrow_down_to_single_charges_and_the_address_brings_the_view_back(
    here: Served, browser: Browser
) -> None:
    open_page(browser, here, f"/teams?{OCTOBER}")
    steps = []
    for row in ("web", "Compute", "Machines", "front"):
        browser.click_link(row)
        browser.wait_for(DRAWN)
        browser.wait_for("return document.querySelector('.filters')?.innerText.includes(arguments[0])", row)
        steps.append(browser.run(SPENT))
    assert len(set(steps)) == 1, "one team's one machine"
    address = browser.run("return location.href")
    for part in ("is.team=web", "is.ServiceName=Machines", "by=charges", "from=2026-10-01", "currency=USD"):
        assert part in address
    rows = browser.run("return [...document.querySelectorAll('#charges tbody tr')].map(r => r.innerText)")
    assert len(rows) == 17
    assert "all.csv" in rows[0]
    assert "2026-10-12" in rows[0], "the day of the spike is the largest"
    browser.go("about:blank")
    browser.go(address)
    assert browser.run(SPENT) == steps[-1]
    assert browser.run("return [...document.querySelectorAll('#charges tbody tr')].map(r => r.innerText)") == rows
    command = browser.run("return document.querySelector('#charges pre.command').textContent")
    said = here.rows(*shlex.split(command)[1:])
    assert [row["source_row"] for row in said] == [row.split("\t")[-1].replace(",", "") for row in rows]


@pytest.mark.parametrize("page", ["overview", "teams"])
def test_after_shared_cost_each_team_bears_what_the_report_says(here: Served, browser: Browser, page: str) -> None:
    open_page(browser, here, f"/{page}?{OCTOBER}&currency=USD&shared=after")
    rows = here.rows("report", "allocation", "--from", "2026-10-01", "--to", "2026-10-18")
    said = [Decimal(row["chargeback"]) for row in rows if row["currency"] == "USD"]
    shown = "[...document.querySelectorAll('#allocation tbody tr')].map(r => [...r.querySelectorAll('data')][3].value)"
    assert [Decimal(value) for value in browser.run(f"return {shown}")] == said
    assert (
        Decimal(browser.run(SPENT))
        == sum(said)
        == total(here.rows("report", "teams", "--from", "2026-10-01", "--to", "2026-10-18"), "effective_cost")
    )
    assert "after shared cost" in browser.run("return document.querySelector('h1').innerText")


def test_a_click_on_a_bar_narrows_and_the_keyboard_reaches_every_row(here: Served, browser: Browser) -> None:
    open_page(browser, here, f"/teams?{OCTOBER}")
    reached = browser.run(
        "return [...document.querySelectorAll('#costs tbody a, .controls select, .controls input, .export a')]"
        ".every(e => { e.focus(); return document.activeElement == e; })"
    )
    assert reached, "by tab, in their order"
    unnamed = "return [...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels.length && !e.ariaLabel)"
    assert browser.run(unnamed) == []
    browser.run(
        "[...document.querySelectorAll('#chart-groups path[aria-label]')].find(m => m.ariaLabel.startsWith('shop / web:'))"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    browser.wait_for("return document.querySelector('.filters')?.innerText.includes('web')")
    assert "is.team=web" in browser.run("return location.href")
    browser.run("history.back()")
    browser.wait_for("return !document.querySelector('.filters')")


def test_a_held_day_is_marked_in_the_charts_that_it_touches(here: Served, browser: Browser) -> None:
    open_page(browser, here, f"/overview?{OCTOBER}")
    marks = "return [...document.querySelectorAll('#chart-days [aria-label]')].map(m => m.getAttribute('aria-label'))"
    held = [mark for mark in browser.run(marks) if f"{HELD} gcp held, shown: nothing" in mark]
    assert len(held) == 2, "the shade and the mark"
    assert "raw/gcp:complete failed" in held[0]
    on_top = "const all = [...document.querySelectorAll('#chart-days [aria-roledescription=point], #chart-days [aria-roledescription=bar]')];"
    assert browser.run(f"{on_top} return all.at(-1).ariaLabel").startswith(f"{HELD} gcp held"), "no bar covers the mark"
    assert "gcp has no figures for 1 day: 2026-10-05" in browser.run("return document.querySelector('.note').innerText")
    open_page(browser, here, f"/overview?{OCTOBER}&is.provider=AWS")
    assert not [mark for mark in browser.run(marks) if "held" in mark]
    open_page(browser, here, f"/data?{OCTOBER}")
    assert "Next: have it delivered again" in browser.run("return document.querySelector('#open').innerText")


@pytest.mark.long
def test_nothing_is_asked_of_another_host_and_no_text_acts(here: Served, browser: Browser) -> None:
    asked: list[str] = []
    for page in ("overview", "teams", "teams?by=ResourceName", "teams?by=charges", "untagged", "budgets", "data"):
        open_page(browser, here, f"/{page}{'&' if '?' in page else '?'}{OCTOBER}")
        asked += browser.run("return performance.getEntriesByType('resource').map(r => r.name)")
        assert browser.run("return document.querySelectorAll('main script:not([type])').length") == 0
    assert {name.split("/", 3)[2] for name in asked} == {here.address.split("/")[2]}
    open_page(browser, here, f"/teams?{OCTOBER}")
    names = browser.run("return [...document.querySelectorAll('#costs tbody tr')].map(r => r.children[1].textContent)")
    assert FORMULA in names
    assert BACKWARDS.replace("\u202e", "\\u202e") in names
    open_page(browser, here, f"/teams?by=ResourceName&{OCTOBER}")
    assert SCRIPT in browser.run("return document.querySelector('#costs').innerText")


def test_what_is_exported_is_what_is_shown(here: Served) -> None:
    query = f"?{OCTOBER}&basis=effective&currency=USD"
    said = here.rows("report", "teams", "--from", "2026-10-01", "--to", "2026-10-18", "--basis", "effective")
    said = [row for row in said if row["currency"] == "USD"]
    text = here.get(f"/teams/costs.csv{query}").decode()
    assert f'"\'{FORMULA.replace(chr(34), chr(34) * 2)}"' in text
    table = pq.read_table(io.BytesIO(here.get(f"/teams/costs.parquet{query}")))
    assert str(table.schema.field("effective_cost").type) == "decimal128(38, 18)"
    assert table["effective_cost"].to_pylist() == [Decimal(row["effective_cost"]) for row in said]
    sheet = workbook(here.get(f"/teams/costs.xlsx{query}"))
    assert "<f>" not in sheet
    assert f">{FORMULA}<" in sheet, "as text"


def workbook(content: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        return "".join(book.read(name).decode() for name in book.namelist() if name.endswith(".xml"))


def test_an_address_that_cannot_be_shown_says_why(here: Served, browser: Browser) -> None:
    for query, said in (
        ("from=yesterday", "from: found 'yesterday'; a day is needed"),
        ("from=2026-10-02&to=2026-10-02", "are none"),
        ("currency=XXX", "currency: found 'XXX'; billed in: USD, EUR"),
        ("is.colour=red", "effective cost is not known by colour"),
        ("basis=accrued&by=ServiceName", "accrued cost is not known by ServiceName"),
        ("from=2020-01-01&to=2020-02-01", "no day of 2020-01-01 to 2020-01-31 was reported"),
    ):
        browser.go(f"{here.address}/teams?{query}")
        assert said in browser.run("return document.querySelector('[role=alert]').innerText"), query


def test_it_listens_on_this_machine_alone(here: Served) -> None:
    refused = CliRunner().invoke(app, ["explore", "--host", "0.0.0.0", "-c", str(here.config)])
    assert refused.exit_code == 1
    assert "nobody signs in" in refused.stderr


def test_what_is_decided_in_place_is_recorded_as_the_commands_record_it(here: Served, browser: Browser) -> None:
    open_page(browser, here, f"/untagged?{OCTOBER}")
    assert "9 of 10 in its account are" in browser.run("return document.querySelector('#owner_suggestions').innerText")
    accept = (
        "document.querySelectorAll('#owner_suggestions tbody tr')[0].querySelector('button[value=accepted]').click()"
    )
    browser.run(accept)
    browser.wait_for("return document.querySelector('.said')?.innerText.includes('accepted: ')")
    [decided] = OwnerDecisions.beside(here.platform.settings.warehouse).all()
    assert (decided.about, decided.verdict, decided.suggested) == (("aws", "i-3", "team"), "accepted", SUGGESTED)
    assert decided.decided_by == getpass.getuser()
    assert "i-3" in here.finops("owners", "rules")
    left = browser.run("return [...document.querySelectorAll('#owner_suggestions tbody tr')].map(r => r.innerText)")
    assert len(left) == 1, "what is decided is suggested no more"

    open_page(browser, here, f"/anomalies?{OCTOBER}")
    browser.click_link(anomaly(here).id)
    browser.wait_for("return document.querySelector('h2#one')?.innerText.includes('shop/web')")
    browser.wait_for(DRAWN)
    assert SPIKE.isoformat() in browser.run("return document.querySelector('h2#one').innerText")
    browser.run(
        "const form = document.querySelector('section.one form'); form.elements.note.value = 'a load test';"
        "form.querySelector('button[value=false]').click()"
    )
    browser.wait_for("return document.querySelector('.said')?.innerText.includes('false')")
    judged = anomaly(here)
    assert (judged.verdict, judged.note, judged.judged_by) == ("false", "a load test", getpass.getuser())
    assert "back to normal, false" in browser.run("return document.querySelector('#found').innerText")
    assert "is.team" not in browser.run("return location.href"), "nothing of the decision stands in the address"


def anomaly(here: Served) -> Anomaly:
    [found] = [a for a in AnomalyHistory.beside(here.platform.settings.warehouse).all() if a.first_day == SPIKE]
    return found


def test_a_decision_from_another_site_is_not_heard(here: Served) -> None:
    before = OwnerDecisions.beside(here.platform.settings.warehouse).all()
    body = urlencode({"source": "aws", "resource": "i-3", "dimension": "team", "verdict": "accepted"}).encode()
    for origin in ("http://example.com", None):
        headers = {"origin": origin} if origin else {}
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"{here.address}/untagged/decide", body, headers), timeout=60)
    with pytest.raises(HTTPError, match="400"):
        urlopen(Request(here.address, headers={"host": "rebound.example.com"}), timeout=60)
    assert OwnerDecisions.beside(here.platform.settings.warehouse).all() == before


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "table", "command"),
    [
        ("allocation", "borne", ("report", "allocation")),
        ("allocation", "moves", ("report", "allocation", "--by-rule")),
        ("commitments", "savings", ("report", "savings")),
        ("units", "periods", ("report", "units", "--grain", "day")),
        ("untagged", "shares", ("report", "untagged")),
        ("budgets", "status", ("budgets", "status")),
        ("data", "restatements", ("restatements",)),
        ("anomalies", "found", ("anomalies", "list")),
    ],
)  # fmt: skip
def test_every_page_says_what_its_command_prints(
    here: Served, browser: Browser, page: str, table: str, command: tuple[str, ...]
) -> None:
    days = ("--from", "2026-10-01", "--to", "2026-10-18") if command[0] == "report" else ()
    said = [row for row in here.rows(*command, *days) if row["currency"] == "USD"]
    assert list(csv.DictReader(io.StringIO(here.get(f"/{page}/{table}.csv?{OCTOBER}&currency=USD").decode()))) == said
    open_page(browser, here, f"/{page}?{OCTOBER}&currency=USD")
    shown = browser.run(f"return document.querySelectorAll('#{table} tbody tr').length")
    assert shown == len(said)
    titles = browser.run(
        "return [document.title, document.querySelectorAll('h1').length, document.documentElement.lang]"
    )
    assert titles[1:] == [1, "en"]


def test_what_one_costs_is_drawn_and_exact(here: Served, browser: Browser) -> None:
    open_page(browser, here, f"/units?{OCTOBER}&currency=USD")
    one = browser.run("return [...document.querySelectorAll('#months td.unit data')].map(d => d.value)")
    said = [row for row in here.rows("report", "units") if row["currency"] == "USD"]
    assert [Decimal(value) for value in one[::3]] == [Decimal(row["effective_per_unit"]) for row in said]
    assert len(one) == 6, "two months: effective, billed, and what it may cost"
    # 5 October is held, of 11 October nobody counted: neither is in October, or drawn.
    assert [(row["days_without_quantity"], row["days_without_cost"]) for row in said] == [("0", "0"), ("1", "1")]
    assert browser.run("return document.querySelector('h3, figcaption, .vega').closest('figure').innerText").startswith(
        "cost_per_order, team web"
    )
    drawn = browser.run(
        "return [...document.querySelectorAll('[aria-label]')].map(mark => mark.getAttribute('aria-label'))"
    )
    assert "at most 0.750000 USD of one" in drawn
    # On 12 October the cost jumped, on the 15th the orders fell; each stands on the line, and is marked.
    unusual = [label[:10] for label in drawn if "an unusual rise from about" in label]
    assert sorted(unusual) == ["2026-10-12", "2026-10-12", "2026-10-15", "2026-10-15"]


@pytest.mark.long
def test_whatever_the_description_of_the_api_allows_is_answered_as_it_says(here: Served) -> None:
    import schemathesis  # a second for each process that collects the tests

    described = schemathesis.openapi.from_url(f"{here.address}/api/v1/openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    assert {operation.path for operation in operations} >= {
        "/costs",
        "/coverage",
        "/budgets",
        "/anomalies",
        "/deliveries",
    }
    for operation in operations:

        @given(case=operation.as_strategy())
        @hypothesis.settings(max_examples=20, deadline=None, derandomize=True, database=None)
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate()

        ask()


@pytest.mark.long
def test_a_newer_copy_is_taken_without_a_restart(here: Served, browser: Browser) -> None:
    """Stands last: it changes what the others look at."""
    open_page(browser, here, f"/teams?{OCTOBER}")
    before = Decimal(browser.run(SPENT))
    deliver(here.folder, LAST + timedelta(days=1), dearer=True)
    build(here.platform, LAST, LAST + timedelta(days=1))
    here.platform.warehouse.publish(here.platform.lake, here.platform.settings.dimensions)
    browser.click_link("this month")
    browser.wait_for("return document.querySelector('dd.spent data').value != arguments[0]", f"{before:.18f}")
    rows = here.rows("report", "teams", "--from", "2026-10-01", "--to", "2026-10-18", "--basis", "effective")
    assert Decimal(browser.run(SPENT)) == total(rows, "effective_cost") > before + 900
    assert "1 day was restated" in browser.run("return document.querySelector('.note').innerText")
