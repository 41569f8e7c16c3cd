"""The questions that programs and assistants ask: exact rows in one envelope, by the functions of the pages and commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from finops_assets.evaluate.anomalies.history import history_table
from finops_assets.evaluate.budgets.evaluate import evaluations, most_serious_first
from finops_assets.evaluate.commitment_use import COMMITMENT_USE, commitment_use_of
from finops_assets.evaluate.forecast.period import FORECAST
from finops_assets.evaluate.newest_facts import last_days
from finops_assets.evaluate.reports import TEAMS_BY
from finops_assets.evaluate.tokens import OWN_COLUMNS, TOKENS_BY, tokens_by
from finops_assets.evaluate.unit_costs.figures import UNIT_COSTS, Grain, units_of
from finops_assets.evaluate.waste.find import WASTE, WINDOW_DAYS, waste_of
from finops_assets.explore.address import ViewError
from finops_assets.explore.asking import Question, asked, finops
from finops_assets.explore.newest_copy import NewestCopy
from finops_assets.explore.pages.anomalies import found_in
from finops_assets.explore.pages.tokens import NOT_COUNTED, command
from finops_assets.settings.model import Settings
from finops_assets.tables.envelope import About, envelope
from finops_assets.tables.rows import Rows

MOST_ROWS = 100_000
DAY = "charge_date"
"""What cost can be split by, and is not filtered by: days are asked for as a period."""
LEDGER = "reports.delivery_ledger"
Answer = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What every question may say. Days are UTC, `end` is exclusive; what is left out is as on a page."""

    first: date | None = None
    end: date | None = None
    basis: str = ""
    currency: str = ""
    where: Sequence[str] = ()
    """COLUMN=VALUE; of one column twice: either value."""

    def parameters(self, by: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
        """As an address says it.

        Raises:
            ViewError: a filter that is none.
        """
        yield "from", str(self.first or "")
        yield "to", str(self.end or "")
        yield "basis", self.basis
        yield "currency", self.currency
        yield "by", ",".join(by)
        for text in self.where:
            column, there, value = text.partition("=")
            if not there or not column.strip():
                raise ViewError(f"where: found {text!r}; a filter is COLUMN=VALUE")
            yield f"is.{column.strip()}", value


@dataclass(frozen=True)
class Answers:
    """The questions to the copy of one reach.

    Each raises FinopsError where it cannot be answered, with why and what is allowed.
    """

    settings: Settings
    copy: NewestCopy

    def columns(self) -> Answer:
        """What cost can be split and filtered by, in which currencies it is billed, and which days there are figures of."""
        with self._question(Asked()) as question:
            first, last = question.span
            rows = Rows(
                ["column", "found_in"],
                [(name, "charges" if name in question.charge_groups else "rollup") for name in (DAY, *question.groups)],
            )
            answer = _answer(question, rows, None, About())
            answer["currencies"] = question.currencies + (["reporting"] if question.reporting else [])
            answer["first_day"], answer["last_day"] = str(first), str(last)
            return answer

    def costs(self, of: Asked, by: Sequence[str] = TEAMS_BY) -> Answer:
        """What was spent, beside the like days of the period before; the largest first."""
        by = tuple(dict.fromkeys(name.strip() for name in by if name.strip()))
        with self._question(of, [name for name in by if name != DAY]) as question:
            rows = Rows.of(question.exported(question.costs(by)))
            return _answer(
                question, rows, question.report(by), _of_period(question, question.view.basis, question.currency)
            )

    def coverage(self, of: Asked) -> Answer:
        """How each source's days stand: built, awaited or held, why, and what the figures have of them."""
        with self._question(of) as question:
            rows = Rows(
                ["charge_date", "source", "state", "since", "shown", "reason"],
                [(c.day, c.source, c.state, c.since, c.shown, c.reason) for c in question.coverage],
            )
            return _answer(question, rows, finops("status", "--format", "json"), _of_period(question))

    def budgets(self) -> Answer:
        """Each budget as the last night judged it, the most serious first."""
        with self._question(Asked()) as question:
            rows = most_serious_first(evaluations(question.connection))
            return _answer(question, rows, finops("budgets", "status", "--format", "json"), _of_period(question))

    def forecast(self) -> Answer:
        """What the running month will have cost, as the last night expected it."""
        with self._question(Asked()) as question:
            if not question.has(FORECAST):
                raise ViewError("nothing is forecast yet; run days (`finops run FROM TO`)")
            rows = Rows.asked(question.opened, f"SELECT * FROM {FORECAST} ORDER BY series, key, currency")
            return _answer(question, rows, finops("forecast", "--format", "json"), _of_period(question, "accrued"))

    def anomalies(self, of: Asked) -> Answer:
        """What nobody expected, on days of the period, the newest first."""
        with self._question(of) as question:
            rows = history_table(sorted(found_in(question), key=lambda a: (a.first_day, a.id), reverse=True))
            command = finops("anomalies", "list", "--since", str(question.view.first), "--format", "json")
            return _answer(question, rows, command, _of_period(question, "accrued", question.currency))

    def deliveries(self) -> Answer:
        """Every delivery of every source, the newest first, and what became of it."""
        with self._question(Asked()) as question:
            if not question.has(LEDGER.rpartition(".")[2]):
                raise ViewError("the ledger is not published yet; run days (`finops run FROM TO`)")
            rows = Rows.asked(question.opened, f"SELECT * FROM {LEDGER} ORDER BY seen_at DESC, source, scope")
            return _answer(question, rows, finops("deliveries", "--format", "json"), About())

    def unit_costs(self, of: Asked, grain: Grain = "month") -> Answer:
        """What one of something cost: an order, a customer, a request."""
        with self._question(of) as question:
            if not question.has(UNIT_COSTS):
                raise ViewError("no unit cost is known: set unit_metrics and unit_costs in finops.yaml, and run days")
            view = question.view
            rows = units_of(question.connection, grain, view.first, view.end)
            days = ("--from", str(view.first), "--to", str(view.end))
            command = finops("report", "units", "--grain", grain, *days, "--format", "json")
            return _answer(question, rows, command, _of_period(question))

    def commitments(self, days: int = 30) -> Answer:
        """Coverage and use of commitments by team, service and kind, and what one unit more would have saved and wasted."""
        with self._question(Asked()) as question:
            if not question.has(COMMITMENT_USE):
                raise ViewError("commitments were not looked at yet; run days (`finops run FROM TO`)")
            rows = commitment_use_of(question.opened, days)
            period = last_days(rows, days) or question.period
        # What the answer is made of is told of the days that were looked at.
        with self._question(Asked(period.first, period.end)) as question:
            command = finops("report", "commitments", "--by", "team", "--days", str(days), "--format", "json")
            return _answer(question, rows, command, _of_period(question, "effective"))

    def waste(self) -> Answer:
        """Charges that the bills show to be for nothing, as the last night found them, with money, rows, certainty and why."""
        with self._question(Asked()) as question:
            if not question.has(WASTE):
                raise ViewError("waste was not looked for yet; run days (`finops run FROM TO`)")
            rows = waste_of(question.opened)
            period = last_days(rows, WINDOW_DAYS) or question.period
        with self._question(Asked(period.first, period.end)) as question:
            command = finops("report", "waste", "--format", "json")
            return _answer(question, rows, command, _of_period(question, "effective"))

    def tokens(self, of: Asked, by: Sequence[str] = TOKENS_BY) -> Answer:
        """What a million tokens cost, by model, type and whose they are, in each currency unless one is named; the costliest first."""
        by = tuple(dict.fromkeys(name.strip() for name in by if name.strip()))
        with self._question(of, own=OWN_COLUMNS) as question:
            if not question.has_charges:
                raise ViewError(NOT_COUNTED)
            view = question.view
            try:
                rows = tokens_by(question.connection, question.period, self.settings.providers, by, view.only)
            except ValueError as error:
                raise ViewError(f"by: {error}") from error
            if of.currency:
                rows = rows.where(lambda row: row["currency"] == question.currency)
            return _answer(question, rows, command(question, by, "--format", "json"), _of_period(question))

    @contextmanager
    def _question(self, of: Asked, by: Sequence[str] = (), own: tuple[str, ...] = ()) -> Iterator[Question]:
        with self.copy.reading() as opened:
            yield asked(self.settings, opened, of.parameters(by), own=own)


def _of_period(question: Question, basis: str | None = None, currency: str | None = None) -> About:
    """What figures of the question's period are made of; `currency`: the one that all amounts are in."""
    coverage = {**question.compared.coverage, "notes": question.made_of}
    return About(question.period, basis, currency, coverage)


def _answer(question: Question, rows: Rows, command: str | None, about: About) -> Answer:
    if len(rows) > MOST_ROWS:
        raise ViewError(f"found {len(rows):,} rows; at most {MOST_ROWS:,} are answered at once: ask for less")
    shown = question.told_by(command or "").command or None
    return envelope(rows, replace(about, published_at=question.published_at, command=shown))
