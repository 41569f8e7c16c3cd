"""The explorer in a real browser, on one small platform: what it says is what the commands say."""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from finops_assets.cli import app
from finops_assets_tests.browser import Browser, chromium
from finops_assets_tests.explore.served import BACKWARDS, FORMULA, HELD, SCRIPT, Served, served

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


@pytest.mark.parametrize("basis", ["effective", "billed", "accrued"])
def test_the_total_on_the_screen_is_that_of_finops_report(here: Served, browser: Browser, basis: str) -> None:
    open_page(browser, here, f"/teams?{OCTOBER}&basis={basis}&currency=USD")
    rows = here.rows("report", "teams", "--from", "2026-10-01", "--to", "2026-10-18", "--basis", basis)
    assert Decimal(browser.run(SPENT)) == total(rows, f"{basis}_cost")
    cells = browser.run(
        "return [...document.querySelectorAll('#costs tbody tr')].map(r => [...r.querySelectorAll('data')].map(d => d.value))"
    )
    shown = [tuple(map(Decimal, row)) for row in cells]
    said = [
        tuple(Decimal(row[f"{basis}_cost{part}"]) for part in ("", "_compared", "_before"))
        for row in rows
        if row["currency"] == "USD"
    ]
    assert shown == said
    command = browser.run("return document.querySelector('#costs pre.command').textContent")
    assert total(here.rows(*shlex.split(command)[1:]), f"{basis}_cost") == Decimal(browser.run(SPENT))


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


def test_a_held_day_is_marked_in_the_charts_that_it_touches(here: Served, browser: Browser) -> None:
    open_page(browser, here, f"/overview?{OCTOBER}")
    marks = "return [...document.querySelectorAll('#chart-days [aria-label]')].map(m => m.getAttribute('aria-label'))"
    held = [mark for mark in browser.run(marks) if f"{HELD} gcp held, shown: nothing" in mark]
    assert len(held) == 2, "the shade and the mark"
    assert "raw/gcp:complete failed" in held[0]
    assert "gcp has no figures for 1 day: 2026-10-05" in browser.run("return document.querySelector('.note').innerText")
    open_page(browser, here, f"/overview?{OCTOBER}&is.provider=AWS")
    assert not [mark for mark in browser.run(marks) if "held" in mark]
    open_page(browser, here, f"/data?{OCTOBER}")
    assert "Next: have it delivered again" in browser.run("return document.querySelector('#open').innerText")


def test_nothing_is_asked_of_another_host_and_no_text_acts(here: Served, browser: Browser) -> None:
    asked: list[str] = []
    for page in ("overview", "teams", "teams?by=ResourceName", "teams?by=charges", "data"):
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
    assert "no sign-in yet" in refused.stderr
