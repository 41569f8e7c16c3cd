"""One request's questions to the published copy: through the functions of `finops report`, with what each was made of."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal, localcontext
from functools import cached_property
from textwrap import dedent
from typing import Any, cast

import duckdb
import pandas as pd

from finops_assets.base.period import Period
from finops_assets.cost.accrual import ACCRUED, REPORTED_ACCRUALS, accrued_rollup
from finops_assets.cost.coverage import BUILT, NOTHING, Coverage, coverage_of
from finops_assets.cost.currency.conversion import CONVERTED_COST, converted_rollup
from finops_assets.cost.reach import Reach
from finops_assets.cost.restatements import REPORTED_COST, REPORTED_NOW
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.charges import charge_columns, rollup_by
from finops_assets.evaluate.comparison import Comparison, compare, latest_month, require_figures
from finops_assets.evaluate.reports import EXACT, Where, can_group_by, cost_by, cost_by_day, is_tag
from finops_assets.explore.address import REPORTING, View, ViewError, read_view
from finops_assets.explore.newest_copy import Opened
from finops_assets.explore.remembering import Answer, Remembering
from finops_assets.settings.model import Settings
from finops_assets.storage.warehouse import FACTS, Warehouse
from finops_assets.tables.ddl import dimensions_of

MOST_GROUPS = 7
"""Values of a column that a chart by day tells apart: as many as it has colours."""
CHARGES = "charges"
"""Stands in `by` where the single charges are asked for."""
_OF_THE_DATABASE = ("duckdb_", "DESCRIBE")


@dataclass(frozen=True)
class Made:
    """What a figure was made of: the command that prints it, and the statements that were asked."""

    command: str
    """Empty where no command prints the same: it would tell of the cost of others, too."""
    statements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Telling:
    """A connection that tells what it was asked, with the values that were bound."""

    def __init__(self, connection: Remembering) -> None:
        self.connection = connection
        self.asked: list[str] = []

    def execute(self, query: str, values: Any = None) -> Answer:
        if not any(word in query for word in _OF_THE_DATABASE):
            self._note(query, values)
        return self.connection.execute(query, values)

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        return self.connection.table(name)

    def sql(self, query: str, params: Any = None) -> duckdb.DuckDBPyRelation:
        self._note(query, params)
        return self.connection.sql(query, params=params)

    def _note(self, query: str, values: Any) -> None:
        self.asked.append(_dedented(query) + (f"\n-- {_values(values)}" if values else ""))


def _dedented(query: str) -> str:
    return "\n".join(line for line in dedent(query).rstrip().splitlines() if line.strip())


def _values(values: Any) -> str:
    named = values.items() if isinstance(values, Mapping) else enumerate(values, 1)
    return ", ".join(f"${name} = {_short(value)}" for name, value in named)


def _short(value: object) -> str:
    match value:
        case date() | datetime():
            return f"'{value}'"
        case list():
            listed = ", ".join(_short(each) for each in value[:5])
            return f"[{listed}{f', … {len(value)} in all' if len(value) > 5 else ''}]"
        case _:
            return repr(value)


@dataclass
class Question:
    """A view of one copy. Everything that a page shows is asked here."""

    settings: Settings
    copy: Opened
    view: View
    whole: bool = False
    """Is every row wanted, as for a file? A page shows the first ones."""
    own: tuple[str, ...] = ()
    """Columns that this question knows besides those that cost has."""
    _telling: _Telling = field(init=False)

    def __post_init__(self) -> None:
        self._telling = _Telling(self.copy.connection)

    # The functions of reports take DuckDB's own connection, of which they use what these two have.
    @property
    def opened(self) -> duckdb.DuckDBPyConnection:
        """To ask for what stands behind the page."""
        return cast(duckdb.DuckDBPyConnection, self.copy.connection)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """To ask for what is shown: the page tells how."""
        return cast(duckdb.DuckDBPyConnection, self._telling)

    @property
    def reach(self) -> Reach:
        """Whose cost the reader may see."""
        return self.copy.reach

    @property
    def published_at(self) -> datetime:
        return self.copy.published_at

    @property
    def period(self) -> Period:
        return self.view.period

    @contextmanager
    def made(self, shown_by: str, notes: Sequence[str] = ()) -> Iterator[list[Made]]:
        """What is asked within the block, as what a figure was made of; it is in the list afterwards."""
        before = len(self._telling.asked)
        found: list[Made] = []
        yield found
        statements = tuple(dict.fromkeys(self._telling.asked[before:]))
        found.append(replace(self.told_by(shown_by), statements=statements, notes=tuple(notes)))

    def told_by(self, command: str) -> Made:
        """What is not asked of the copy, by the command that prints it."""
        return Made(command if self.reach.whole else "")

    def has(self, table: str) -> bool:
        return Warehouse.has(self.connection, table)

    @cached_property
    def currencies(self) -> list[str]:
        """As billed, that of the largest cost first."""
        rows = self.opened.execute(
            f"SELECT BillingCurrency FROM {ROLLUP_TABLE} GROUP BY ALL ORDER BY sum(effective_cost) DESC, 1"
        ).fetchall()
        return [currency for (currency,) in rows]

    @cached_property
    def span(self) -> tuple[date, date]:
        """The first and the last day of the rollup, both inclusive."""
        [found] = self.opened.execute(f"SELECT min(charge_date), max(charge_date) FROM {ROLLUP_TABLE}").fetchall()
        return cast(tuple[date, date], found)

    @cached_property
    def reporting(self) -> str | None:
        """The reporting currency of finops.yaml, where days are converted."""
        if self.settings.currency is None or not self.has(CONVERTED_COST):
            return None
        return self.settings.currency.reporting

    @property
    def currency(self) -> str:
        """The currency of the amounts."""
        return (self.reporting or "") if self.view.currency == REPORTING else self.view.currency

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """What cost can be split by with this basis and currency."""
        own = tuple(c for c in can_group_by(self.opened) if c != "charge_date")
        return (*own, *self.charge_groups)

    @cached_property
    def charge_groups(self) -> tuple[str, ...]:
        """Those of them that the single charges alone have."""
        return charge_columns(self.opened) if self.has_charges else ()

    @property
    def has_charges(self) -> bool:
        """Is it a cost that the single charges have, too?"""
        return self.view.basis != "accrued" and self.view.currency != REPORTING and _has_view(self.opened)

    @cached_property
    def compared(self) -> Comparison:
        relation = converted_rollup() if self.view.currency == REPORTING else ROLLUP_TABLE
        return compare(self.opened, self.period, REPORTED_NOW, None if self.view.basis == "accrued" else relation)

    def check(self) -> None:
        """
        Raises:
            FinopsError: the view asks for what this copy does not have.
        """
        view = self.view
        if view.currency == REPORTING and self.reporting is None:
            raise ViewError(
                "currency: no day is converted; set `currency` in finops.yaml (docs/guides/money.md) and run days"
            )
        if view.currency == REPORTING and view.basis == "accrued":
            raise ViewError("accrued cost is known in the currencies of the bills only; choose one, or another basis")
        if view.basis == "accrued" and not self.has(REPORTED_ACCRUALS):
            raise ViewError(
                "accrued cost is not in this copy; run days (`finops run FROM TO`), or choose another basis"
            )
        if view.currency != REPORTING and view.currency not in self.currencies:
            raise ViewError(f"currency: found {view.currency!r}; billed in: {', '.join(self.currencies)}")
        # Single charges are split by nothing else.
        unknown = [
            c
            for c in (*view.by, *view.only)
            if c not in self.groups
            and c not in self.own
            and not (self.has_charges and is_tag(c))
            and (c != CHARGES or view.by != (CHARGES,))
        ]
        if unknown:
            known = ", ".join(self.groups[:12]) + ("" if len(self.groups) <= 12 else ", …")
            raise ViewError(f"{view.basis} cost is not known by {', '.join(unknown)}; it is by: {known}")
        require_figures(self.opened, self.period)

    def costs(self, by: tuple[str, ...], where: Where | None = None) -> pd.DataFrame:
        """Cost in the view's basis and currency: by…, cost, compared, before, change_percent, days, row_count, the largest
        first (by day: by day). `where` besides the view's own filters. Amounts are exact.
        """
        only = {**self.view.only, **(where or {})}
        basis = self.view.basis
        relation = self._relation((*by, *only))
        table = cost_by(self.connection, self.period, by, relation, basis, where=only, compared=self.compared).frame()
        table = table[table["currency"] == self.currency]
        return table.rename(
            columns={f"{basis}_cost": "cost", f"{basis}_cost_compared": "compared", f"{basis}_cost_before": "before"}
        )

    def days(self, column: str, where: Where | None = None) -> pd.DataFrame:
        """The same by day and a column, for a chart: charge_date, the column, cost, before. The values that are not among the
        largest are together.
        """
        only = {**self.view.only, **(where or {})}
        return cost_by_day(
            self.connection, self.period, column, self.currency, MOST_GROUPS, self._relation((column, *only)), self.view.basis,
            only, self.compared,
        ).frame()  # fmt: skip

    def _relation(self, columns: Iterable[str]) -> str:
        """SQL: what is summed, in the view's basis and currency, by these columns."""
        if self.view.basis == "accrued":
            return accrued_rollup(None, dimensions_of(self.opened, ACCRUED))
        if self.view.currency == REPORTING:
            return converted_rollup()
        relation = rollup_by(self.opened, self.settings.providers, columns)
        if relation != ROLLUP_TABLE:
            # Of the facts: the rows of a table and its chart are asked of the same sums.
            self.copy.connection.sum_once(relation, self.period.before.first, self.period.end)
        return relation

    def exported(self, costs: pd.DataFrame) -> pd.DataFrame:
        """The same under the names that `finops report` gives the columns."""
        basis = self.view.basis
        return costs.rename(
            columns={"cost": f"{basis}_cost", "compared": f"{basis}_cost_compared", "before": f"{basis}_cost_before"}
        )

    def report(self, by: Iterable[str], where: Where | None = None) -> str:
        """The command that prints the same figures."""
        view = self.view
        only = {**view.only, **(where or {})}
        arguments = [
            "report",
            "teams",
            "--from",
            str(view.first),
            "--to",
            str(view.end),
            "--by",
            ",".join(by),
            "--basis",
            view.basis,
        ]
        if view.currency == REPORTING:
            arguments += ["--currency", "reporting"]
        for column, values in only.items():
            for value in values:
                arguments += ["--where", f"{column}={value}"]
        return finops(*arguments)

    @cached_property
    def coverage(self) -> list[Coverage]:
        """How each source's day of the period stands."""
        return coverage_of(self.opened, self.view.first, self.view.end)

    @cached_property
    def touched(self) -> list[Coverage]:
        """The source-days of the period whose cost is missing or outdated in what the view shows."""
        providers, sources = (self.view.only.get(column) for column in ("provider", "source"))
        billed: dict[str, bool] = {}
        for source, provider, currency in self.opened.execute(
            f"SELECT DISTINCT source, provider, BillingCurrency FROM {REPORTED_NOW}"
        ).fetchall():
            is_in = (self.view.currency in (REPORTING, currency)) and (providers is None or provider in providers)
            billed[source] = billed.get(source, False) or is_in
        # Of a source that never had a day nobody knows what it bills.
        return [
            c
            for c in self.coverage
            if c.state != BUILT and billed.get(c.source, True) and (sources is None or c.source in sources)
        ]

    @cached_property
    def made_of(self) -> list[str]:
        """What the view's figures are made of, a sentence each: missing, outdated, restated and provisional days."""
        found = [*self.compared.notes]
        if restated := self._restated():
            found.append(restated)
        if provisional := self._provisional():
            found.append(provisional)
        return found

    @property
    def missing(self) -> list[Coverage]:
        """Source-days of which nothing is in the figures."""
        return [c for c in self.touched if c.shown == NOTHING]

    def _restated(self) -> str:
        rows = self.opened.execute(
            f"""
            SELECT count(DISTINCT charge_date), max(reported_to) FROM {REPORTED_COST}
            WHERE reported_to IS NOT NULL AND charge_date >= $first AND charge_date < $end
            """,
            {"first": self.view.first, "end": self.view.end},
        ).fetchall()
        days, newest = rows[0] if rows else (0, None)
        if not days:
            return ""
        return f"{_days(days)} {'was' if days == 1 else 'were'} restated since first reported, last on {newest:%Y-%m-%d %H:%M} UTC"

    def _provisional(self) -> str:
        """Days of billing periods that a provider may still change."""
        if not self.has("delivery_ledger"):
            return ""
        rows = self.opened.execute(
            """
            SELECT source, max(scope) FROM reports.delivery_ledger
            WHERE state = 'complete' AND regexp_full_match(scope, '[0-9]{4}-[0-9]{2}')
                AND first_day < $end AND last_day >= $first
            GROUP BY source ORDER BY source
            """,
            {"first": self.view.first, "end": self.view.end},
        ).fetchall()
        if not rows:
            return ""
        listed = ", ".join(f"{source} {scope}" for source, scope in rows)
        return f"provisional: the bills of {listed} are not final, their providers may still change them"


def finops(*arguments: str) -> str:
    """A command of ours as it can be pasted into a shell."""
    return f"finops {shlex.join(arguments)}"


def add(amounts: Iterable[Decimal | None]) -> Decimal:
    """The exact sum of those that are known."""
    with localcontext(prec=EXACT):
        return sum((amount for amount in amounts if amount is not None), Decimal(0))


def less(amount: Decimal | None, other: Decimal | None) -> Decimal | None:
    """The exact difference; None where one of the two is not known."""
    if amount is None or other is None:
        return None
    with localcontext(prec=EXACT):
        return amount - other


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _has_view(connection: duckdb.DuckDBPyConnection) -> bool:
    return bool(connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = ?", [FACTS]).fetchall())


def asked(
    settings: Settings,
    copy: Opened,
    parameters: Iterable[tuple[str, str]],
    whole: bool = False,
    own: tuple[str, ...] = (),
) -> Question:
    """The question that an address asks of a copy: by default of the newest month, in the currency of the largest cost.
    `whole`, `own`: see `Question`.

    Raises:
        FinopsError: it asks for what cannot be shown; says why and what is allowed.
    """
    opened = cast(duckdb.DuckDBPyConnection, copy.connection)
    newest = latest_month(opened) if Warehouse.has(opened, ROLLUP_TABLE) else None
    if newest is None:
        raise ViewError("nothing was reported: no day had passed its gates; run days (`finops run FROM TO`)")
    question = Question(settings, copy, View(newest.first, newest.end, ""), whole, own)
    question.view = read_view(parameters, question.view.changed(currency=question.currencies[0]))
    question.check()
    return question
