"""Text of others in cells that people open in a spreadsheet."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path

import pytest

from finops_assets.base.text import json_text, no_formula, with_formula
from finops_assets.cli.common import write_table
from finops_assets.tables.rows import Rows


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@sum(1)", "\t=1", "\r=1", "'=1", "'", "-", "a=b", "", "''=1"])
def test_a_cell_is_no_formula_and_is_read_back_as_it_was(text: str) -> None:
    safe = no_formula(text)
    assert len(safe) < 2 or safe[0] not in "=+-@\t\r"
    assert with_formula(safe) == text


def test_names_in_a_csv_are_no_formulas_and_negative_amounts_stay_numbers(tmp_path: Path) -> None:
    table = Rows(["team", "effective_cost"], [("=HYPERLINK(1)", Decimal("-1.50")), ("core", Decimal("1E-18"))])
    write_table(table, "csv", tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        assert [*csv.reader(file)][1:] == [
            ["'=HYPERLINK(1)", "-1.500000000000000000"],
            ["core", "0.000000000000000001"],
        ]


def test_json_says_the_same_and_acts_on_no_terminal() -> None:
    said = json.dumps({"team": "a\x9b\u202eb\u2066 caf\u00e9"}, ensure_ascii=False, indent=1)
    shown = json_text(said)
    assert json.loads(shown) == json.loads(said)
    assert not set("\x9b\u202e\u2066") & set(shown)
    assert "caf\u00e9" in shown
