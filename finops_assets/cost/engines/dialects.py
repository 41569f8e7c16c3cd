"""One transformation code: statements written in DuckDB's dialect, rendered for other engines by sqlglot.

sqlglot lets what it does not know through in silence, and several things that it does know mean something else
elsewhere. So only constructs in `ALLOWED` pass: each of them has been looked at on every engine of `DIALECTS`.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlglot
from sqlglot import exp

from finops_assets.base.errors import FinopsError
from finops_assets.focus.money import SCALE

DIALECTS = ("spark", "clickhouse", "bigquery", "snowflake")

# Functions that every engine has with one meaning, once `_spelled` has been over them.
FUNCTIONS: tuple[type[exp.Expr], ...] = (
    exp.Case,
    exp.Cast,
    exp.Coalesce,
    exp.Count,
    exp.Greatest,
    exp.If,
    exp.Lower,
    exp.Max,
    exp.Min,
    exp.RegexpLike,
    exp.RegexpReplace,
    exp.Sum,
    exp.Trim,
)
ALLOWED: frozenset[type[exp.Expr]] = frozenset(
    {
        *FUNCTIONS,
        *(exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Subquery, exp.Table, exp.TableAlias),
        *(exp.Alias, exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Star, exp.Paren, exp.Distinct, exp.Neg),
        *(exp.And, exp.Or, exp.Not, exp.Is, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE),
        *(exp.Add, exp.Interval, exp.Var, exp.DataType, exp.DataTypeParam),
    }
)
MONEY = f"DECIMAL(38, {SCALE})"


class NotPortable(FinopsError):
    """A statement uses what not every engine has, or has with the same meaning."""


def rendered(sql: str, dialect: str) -> str:
    """A statement in DuckDB's dialect, as another engine spells it. Every name is quoted, as it is written.

    Quoted, because Snowflake would take `BilledCost` as BILLEDCOST and `"team"` as team.

    Raises:
        NotPortable: a function, operator or type that is not known to mean the same on all engines.
    """
    if dialect not in DIALECTS:
        raise NotPortable(f"dialect {dialect!r} is unknown; allowed: {', '.join(DIALECTS)}")
    tree = sqlglot.parse_one(sql, read="duckdb")
    for node in tree.walk():
        _check(node)
    # `SELECT r.x` is called `r.x` by some engines where both sides of a join have an x.
    for select in list(tree.find_all(exp.Select)):
        select.set(
            "expressions",
            [exp.alias_(e, e.name) if isinstance(e, exp.Column) and e.table else e for e in select.expressions],
        )
    return tree.transform(_spelled(dialect)).sql(dialect=dialect, identify=True)


def _check(node: exp.Expr) -> None:
    found = node.sql(dialect="duckdb")
    shown = found if len(found) <= 80 else found[:77] + "..."
    if type(node) not in ALLOWED:
        name = node.name if isinstance(node, exp.Anonymous) else type(node).__name__
        raise NotPortable(
            f"{name} in `{shown}`: not known to mean the same on {', '.join(DIALECTS)}; write it with what"
            " engines/dialects.py allows, or look it up on each engine, add it there and to its test"
        )
    reason = None
    match node:
        case exp.Cast() if node.to.sql(dialect="duckdb") not in (MONEY, "DATE"):
            reason = f"the type {node.to.sql(dialect='duckdb')}: only {MONEY} and DATE have been looked at"
        case exp.Add() if not isinstance(node.expression, exp.Interval):
            reason = "an addition other than of days to a time"
        case exp.Interval() if not isinstance(node.parent, exp.Add) or str(node.unit).upper() not in ("DAY", "DAYS"):
            reason = "an interval other than of days, added to a time"
        case exp.RegexpLike() | exp.RegexpReplace() if not node.expression.is_string:
            reason = "a pattern that is not written out"
        case exp.RegexpReplace() if not node.expression.name.endswith("$"):
            # DuckDB replaces the first match, the others all of them.
            reason = "a replacement whose pattern is not tied to the end of the text"
        case exp.Trim() if node.expression is not None or node.args.get("position"):
            reason = "a trim of other characters than spaces"
        case exp.Distinct() if not isinstance(node.parent, exp.Count) or len(node.expressions) != 1:
            reason = "DISTINCT other than count(DISTINCT one column)"
        case exp.Join() if node.side not in ("", "LEFT") or node.args.get("on") is None or node.args.get("method"):
            reason = "a join other than JOIN … ON and LEFT JOIN … ON"
    if reason:
        raise NotPortable(f"{reason} in `{shown}`; write the statement without it")


def _spelled(dialect: str) -> Callable[[exp.Expr], exp.Expr]:
    """What sqlglot would render in words that the engine takes otherwise."""

    def clickhouse(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Lower):
            return exp.Anonymous(this="lowerUTF8", expressions=[node.this])  # lower knows ASCII only
        if isinstance(node, exp.Sum):
            # A sum of Decimal(38) wraps around in silence; of Decimal(76) the cast that follows fails aloud.
            return exp.Sum(this=exp.cast(node.this, f"DECIMAL(76, {SCALE})"))
        return node

    def snowflake(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.RegexpLike):
            # REGEXP_LIKE matches the whole text there: '^(aws|amazon)\b' would not find Amazon Web Services.
            found = exp.Anonymous(this="REGEXP_INSTR", expressions=[node.this, node.expression])
            return exp.GT(this=found, expression=exp.Literal.number(0))
        return node

    def bigquery(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Trim):
            node.set("expression", exp.Literal.string(" "))  # it would take every white space
        return node

    return {"clickhouse": clickhouse, "snowflake": snowflake, "bigquery": bigquery}.get(dialect, lambda node: node)
