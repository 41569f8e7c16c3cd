"""Text of others, names, tags and messages, is shown as it was written, and acts on nothing: terminal, CSV, UI."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from finops_assets.base.text import one_line
from finops_assets.cli.common import LiteralConsole, say, show
from finops_assets.cli.program import app
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.run_range import open_instance
from finops_assets.tables.rows import Rows
from finops_assets_tests.places import PROJECT

pytestmark = pytest.mark.slow

SHIPPED = PROJECT
HOSTILE = (
    "[/legacy]", "[retired]", "[bold red]x", ":boom:", "\x1b[31mred\x1b[0m\x07", "\u202egpj.exe", "a|b`c`*d*_e_",
    "<img src=x onerror=alert(1)>", "'; DROP TABLE daily_cost_by_team; --", "=cmd|'/c calc'!a1", "+1", "-1", "@sum(a1)",
    "two\nlines", "long" * 250_000,
)  # fmt: skip
ROW = {
    "BilledCost": 1, "BillingAccountId": "acct", "BillingAccountName": "Quokka Ltd", "BillingCurrency": "EUR",
    "BillingPeriodEnd": "2026-10-01T00:00:00Z", "BillingPeriodStart": "2026-09-01T00:00:00Z", "ChargeCategory": "Usage",
    "ChargeClass": "", "ChargeDescription": "vm", "ChargeFrequency": "Usage-Based", "ContractedCost": 1,
    "EffectiveCost": 1, "InvoiceIssuerName": "Quokka", "ListCost": 1, "PricingQuantity": 1, "PricingUnit": "Hours",
    "ProviderName": "Quokka Cloud", "PublisherName": "Quokka", "ResourceId": "vm-1", "ServiceCategory": "Compute",
    "ServiceName": "VM", "SubAccountId": "sub",
}  # fmt: skip
CONFIG = """
first_day: 2026-09-01
lake: lake
warehouse: w.duckdb
published: p.duckdb
sources:
  - {name: bill, provider: Quokka Cloud, uri: bills, layout: files}
dimensions:
  department: {keys: [department]}
  team: {keys: [team]}
"""


def bill(day: int, *tags: dict[str, str], charge_class: str = "") -> str:
    """An export of a day of September with a row of cost 1 for each set of tags."""
    made = io.StringIO()
    of_day = {"ChargePeriodStart": f"2026-09-0{day}T00:00:00Z", "ChargePeriodEnd": f"2026-09-0{day + 1}T00:00:00Z"}
    rows = csv.DictWriter(made, [*ROW, *of_day, "Tags"])
    rows.writeheader()
    rows.writerows(ROW | of_day | {"ChargeClass": charge_class, "Tags": json.dumps(each)} for each in tags)
    return made.getvalue()


@pytest.fixture(scope="module")
def finops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliRunner]:
    """A project whose one bill has hostile tags, and one file beside it with hostile text in a closed list."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "bills").mkdir()
    (root / "bills" / "good.csv").write_text(
        bill(1, *({"department": "d", "team": t} for t in HOSTILE)), encoding="utf-8"
    )
    (root / "bills" / "[bad].csv").write_text(bill(2, {"team": "x"}, charge_class="[/soon]"), encoding="utf-8")
    (root / "finops.yaml").write_text(CONFIG, encoding="utf-8")
    (root / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("DAGSTER_HOME", raising=False)
        runner = CliRunner()
        run = runner.invoke(app, ["run", "2026-09-01", "2026-09-03"])
        assert "2 days built, 0 held back" in run.output, run.output
        assert "'[/soon]'" in run.output
        yield runner


def asked(finops: CliRunner, *arguments: str) -> str:
    result = finops.invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_terminal_shows_tags_as_they_are_written(finops: CliRunner) -> None:
    written = asked(finops, "report", "teams")
    for text in ("[/legacy]", "[retired]", "[bold red]x", ":boom:", r"\x1b[31mred\x1b[0m\x07", r"\u202egpj.exe"):
        assert text in written
    assert "two↵lines" in written
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", written)
    assert "[bad].csv" in asked(finops, "deliveries")


def test_no_command_writes_markup() -> None:
    """The consoles take none; a label in colour is `say`."""
    for file in (SHIPPED / "finops_assets" / "cli").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "[/]" not in text, file.name
        assert "rich.markup" not in text, file.name


def test_nothing_acts_on_the_console() -> None:
    written = io.StringIO()
    console = LiteralConsole(file=written, width=200, force_terminal=True, color_system=None)
    say("note", "a [/b] \x1b[2J", console)
    console.print("c [/d] \x1b[2J :boom:", highlight=False)
    assert written.getvalue() == "note a [/b] \\x1b[2J\nc [/d] \\x1b[2J :boom:\n"


def test_a_table_keeps_to_its_width(capsys: pytest.CaptureFixture[str]) -> None:
    show(Rows(["team", "rows"], [("x" * 1_000_000, 1), ("[/y]", 2)]))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 1_000


class Cells(HTMLParser):
    """The texts of a rendered table's cells, row by row, and every tag that stands in one."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside: set[str] = set()
        self.feed(MarkdownIt("commonmark").enable(["table"]).render(markdown))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag not in ("table", "thead", "tbody", "p"):
            self.inside.add(tag)

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def test_a_table_of_the_ui_shows_what_is_written() -> None:
    table = pd.DataFrame({"team": [*HOSTILE, "__untagged__"], "note": "https://example.com www.example.com"})
    cells = Cells(str(shown(table, 100).value))
    assert not cells.inside
    assert [row[0] for row in cells.rows] == ["team", *(one_line(text, 120) for text in HOSTILE), "__untagged__"]
    assert all(len(row) == 2 and len(row[0]) <= 120 for row in cells.rows)
    # What only GitHub's dialect makes a link of.
    assert r"https\://example.com www\.example.com" in str(shown(table).value)


def test_a_table_of_the_ui_shows_every_currency_and_what_is_left_out() -> None:
    rows = [("EUR", f"team {n}", Decimal(100 - n) / 3, float("nan")) for n in range(40)]
    rows += [("USD", f"team {n}", Decimal(10), 1.25) for n in range(20)] + [("GBP", "one", Decimal("-0.5"), 2.0)]
    table = pd.DataFrame(rows, columns=["currency", "team", "effective_cost", "change_percent"])
    text = str(shown(table).value)
    cells = Cells(text.split("\n\nand ")[0]).rows[1:]
    assert [row[0] for row in cells] == ["EUR"] * 10 + ["USD"] * 10 + ["GBP"]
    assert cells[0] == ["EUR", "team 0", "33.33", ""]
    assert cells[-1] == ["GBP", "one", "-0.50", "2.00"]
    assert text.endswith("\n\nand 40 more of 61 rows")
    assert "more of" not in str(shown(table, 61).value)


def test_the_ui_shows_the_tags_and_the_cost_as_numbers(finops: CliRunner) -> None:
    with open_instance() as instance:
        report = instance.get_latest_materialization_event(dg.AssetKey(["reports", "cost_by_team"]))
        of_day = dg.AssetRecordsFilter(dg.AssetKey("daily_cost_by_team"), asset_partitions=["2026-09-01"])
        [rollup] = instance.fetch_materializations(of_day, limit=1).records
    assert report is not None
    assert report.asset_materialization is not None and rollup.asset_materialization is not None  # noqa: PT018
    cells = Cells(str(report.asset_materialization.metadata["table"].value))
    assert not cells.inside
    assert {"[/legacy]", "a|b`c`*d*_e_", "=cmd|'/c calc'!a1"} <= {row[1] for row in cells.rows}
    assert rollup.asset_materialization.metadata["effective cost, EUR"].value == len(HOSTILE)


def test_a_csv_holds_no_formula_and_json_every_character(finops: CliRunner, tmp_path: Path) -> None:
    teams = [row["team"] for row in csv.DictReader(io.StringIO(asked(finops, "report", "teams", "-f", "csv")))]
    assert "'=cmd|'/c calc'!a1" in teams
    assert not [team for team in teams if team.startswith(("=", "+", "-", "@"))]
    written = {row["team"] for row in json.loads(asked(finops, "report", "teams", "-f", "json"))["rows"]}
    assert "=cmd|'/c calc'!a1" in written
    assert "\x1b[31mred\x1b[0m\x07" in written
