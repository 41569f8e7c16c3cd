"""Every statement that other engines run, in each of their dialects; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
import sqlglot
from sqlglot import exp

from finops_assets.cost import commitments, corrections
from finops_assets.cost.attribution.combinations import combinations_query
from finops_assets.cost.attribution.row_rules import Matcher, RowRule
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.daily_tables import CHARGES, ROLLED
from finops_assets.cost.engines.dialects import ALLOWED, DIALECTS, FUNCTIONS, NotPortable, rendered
from finops_assets.cost.facts_query import facts_query
from finops_assets.cost.rollup import ROLLUP_TABLE, rollup_query, totals_query, values_query
from finops_assets.judge.gates import rollup as rollup_gates
from finops_assets_tests.conftest import Site
from finops_assets_tests.cost.engines.conftest import statements

OWN = ("facts", "ruled facts", "combinations", "totals", "unique key", "values", "values by day")
ASKED = ("raw totals", "facts totals", "untagged", "rollup gate", "long charges gate")
STATEMENTS = (*OWN, *ASKED, ROLLED, ROLLUP_TABLE, CHARGES, commitments.COMMITMENTS, corrections.CORRECTIONS)


def statement(name: str, rules: Rules) -> str:
    ruled = replace(rules, row_rules=(RowRule("r", {"team": "x"}, {"ServiceName": Matcher(("y",))}),))
    of_day = ruled.of_day("bill", date(2026, 9, 1))
    more = replace(rules, dimensions=(*rules.dimensions, "cost_center"))
    own = {
        "facts": facts_query(rules, "raw", "attribution"),
        "ruled facts": facts_query(ruled, "raw", "attribution", of_day),
        "combinations": combinations_query(of_day, "raw"),
        "totals": totals_query("daily_cost_by_team"),
        "values": values_query(more, "facts"),
        "values by day": rollup_query(
            more, "facts", {}, too_many={"cost_center": [date(2026, 9, 1), date(2026, 9, 2)]}
        ),
        "unique key": rollup_gates.unique_query("daily_cost_by_team"),
    }
    return own[name] if name in own else statements(rules)[name][1]("facts")


def test_no_statement_is_left_out(site: Site) -> None:
    assert set(statements(site.platform.rules)) == {*STATEMENTS} - {*OWN}


@pytest.mark.long
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_rendered_and_read_again(site: Site, name: str, dialect: str) -> None:
    text = rendered(statement(name, site.platform.rules), dialect)
    tree = sqlglot.parse_one(text, read=dialect)
    known = {"lowerUTF8", "match", "REGEXP_INSTR", "GREATEST_IGNORE_NULLS"}
    assert {f.name for f in tree.find_all(exp.Anonymous)} <= known
    assert all(identifier.quoted for identifier in tree.find_all(exp.Identifier))
    selected = tree.selects if isinstance(tree, exp.Select) else []
    assert all(e.alias or isinstance(e, exp.Column) for e in selected)


REFUSED = {
    "list_position(tags, 'x')": "ArrayPosition|list_position",
    "finops_unheard_of(x)": "finops_unheard_of",
    "hash(x)": "hash",
    "tags['k']": "Bracket",
    "x // 2": "IntDiv",
    "a - b > INTERVAL 1 DAY": "Interval|Sub",
    "a > INTERVAL 1 DAY": "an interval other than of days, added",
    "a + INTERVAL 1 MONTH": "an interval other than of days",
    "a + 1": "an addition other than of days",
    "x SIMILAR TO 'a'": "SimilarTo",
    "count(*) FILTER (WHERE x > 0)": "Filter",
    "CAST(x AS DOUBLE)": "the type DOUBLE",
    "CAST(x AS DECIMAL(18, 2))": "the type DECIMAL",
    "regexp_matches(x, y)": "a pattern that is not written out",
    "regexp_replace(x, 'a', '')": "not tied to the end",
    "sum(DISTINCT x)": "DISTINCT",
    "trim(x, 'y')": "a trim of other characters",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_not_every_engine_has_is_refused_by_name(expression: str) -> None:
    with pytest.raises(NotPortable, match=REFUSED[expression]):
        rendered(f"SELECT {expression} AS y FROM t", "spark")


def test_sqlglot_alone_would_have_let_it_through() -> None:
    assert "finops_unheard_of(" in sqlglot.transpile("SELECT finops_unheard_of(x)", "duckdb", "bigquery")[0]


def test_a_dialect_that_is_not_looked_at_is_refused() -> None:
    with pytest.raises(NotPortable, match="'oracle' is unknown; allowed: spark"):
        rendered("SELECT 1 AS x", "oracle")


def test_the_list_of_functions_is_the_list_of_what_is_used(site: Site) -> None:
    """What nobody uses has not been run on an engine either."""
    used = {
        type(n) for name in STATEMENTS for n in sqlglot.parse_one(statement(name, site.platform.rules), "duckdb").walk()
    }
    assert set(FUNCTIONS) <= used
    assert used <= ALLOWED


@pytest.mark.parametrize(
    ("dialect", "sql", "expected"),
    [
        ("snowflake", "regexp_matches(x, '^(a|b)')", "REGEXP_INSTR(\"x\", '^(a|b)') > 0"),
        ("bigquery", "trim(x)", "TRIM(`x`, ' ')"),
        ("bigquery", "CAST(x AS DECIMAL(38, 18))", "CAST(`x` AS BIGNUMERIC)"),
        ("clickhouse", "lower(x)", 'lowerUTF8("x")'),
        ("clickhouse", "sum(x)", 'SUM(CAST("x" AS Nullable(Decimal(76, 18))))'),
    ],
)
def test_what_means_something_else_elsewhere_is_spelled_otherwise(dialect: str, sql: str, expected: str) -> None:
    assert expected in rendered(f"SELECT {sql} AS y FROM t", dialect)
