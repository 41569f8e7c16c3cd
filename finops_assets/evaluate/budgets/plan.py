"""The file of budgets: a line a budget, CSV or YAML. Every mistake is told at once, with its line and value.

    department,team,period,basis,currency,amount,threshold
    mobile,ios,month,effective,EUR,500,80

`period` is month, quarter or year (each one anew), a certain one (2026-11, 2026-Q4, 2026), or empty with `from` and
`to` (exclusive). Without a team it is the whole department's, without a department everybody's. Any other dimension of
finops.yaml may be a column, too; all that are given must hold.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import yaml

from finops_assets.base.errors import FinopsError, Mistake
from finops_assets.base.period import Period, period_of
from finops_assets.focus.normal import normal_value
from finops_assets.tables.declarations import grouped

Basis = Literal["effective", "billed"]
BASES: tuple[Basis, ...] = ("effective", "billed")
COLUMNS = ("department", "team", "period", "from", "to", "basis", "currency", "amount", "threshold")
RECURRING = ("month", "quarter", "year")
THRESHOLD = Decimal(80)
MISTAKES_SHOWN = 20
_AMOUNT = re.compile(r"^\d{1,20}(\.\d{1,18})?$")
_CURRENCY = re.compile(r"^[A-Z]{3}$")
_PERIODS = "month, quarter, year, a certain one as 2026-11, 2026-Q4 or 2026, or nothing with from and to"


class BudgetsError(FinopsError):
    """The file of budgets cannot be used; carries every mistake, not only the first."""

    def __init__(self, file: Path, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        shown = [f"  - {m}" for m in mistakes[:MISTAKES_SHOWN]]
        more = [f"  … and {len(mistakes) - MISTAKES_SHOWN} more"] if len(mistakes) > MISTAKES_SHOWN else []
        super().__init__("\n".join([f"budgets, {file}: {count}", *shown, *more]))


@dataclass(frozen=True)
class Budget:
    """What a department, a team or everybody may cost in a period. Names are as dimensions carry them; amounts exact."""

    department: str | None
    team: str | None
    period: str
    """month, quarter, year, 2026-11, 2026-Q4, 2026, or 2026-10-15..2026-12-01 (end exclusive)."""
    basis: Basis
    currency: str
    amount: Decimal
    threshold: Decimal = THRESHOLD
    """In percent of the amount: from a forecast of so much on the budget is told of."""
    line: int = field(default=0, compare=False)
    others: Mapping[str, str] = field(default_factory=dict)
    """Other dimensions of finops.yaml and the value that each must have."""

    @property
    def owner(self) -> str:
        """department/team, department, or total; then other dimensions."""
        return owner_of(self.department, self.team, self.others)

    @property
    def conditions(self) -> Mapping[str, str]:
        """Column of the rollup -> the name that it must have; empty for everybody's cost."""
        own = {"department": self.department, "team": self.team}
        return {**{column: name for column, name in own.items() if name}, **self.others}

    @property
    def name(self) -> str:
        """What tells it from every other budget; the amount does not, so a changed amount is the same budget."""
        return f"{self.owner} {self.period} {self.basis} {self.currency}"

    @property
    def grain(self) -> str:
        """month, quarter, year, or fixed."""
        if self.period in RECURRING:
            return self.period
        if ".." in self.period:
            return "fixed"
        return {7: "month", 4: "year"}[len(self.period)] if "Q" not in self.period else "quarter"

    @property
    def scope(self) -> tuple[str, str, str]:
        """Whose cost, of which basis and currency."""
        return (self.owner, self.basis, self.currency)

    def on(self, day: date) -> Period | None:
        """The period of this budget that holds a day."""
        if self.period in RECURRING:
            months = {"month": 1, "quarter": 3, "year": 12}[self.period]
            begins = (day.month - 1) // months * months + 1
            text = {"month": f"{day:%Y-%m}", "quarter": f"{day.year}-Q{begins // 3 + 1}", "year": f"{day.year}"}
            return period_of(text[self.period])
        found = self.certain
        return found if found and found.first <= day < found.end else None

    @property
    def certain(self) -> Period | None:
        """The days of a budget that is for one period only."""
        if self.period in RECURRING:
            return None
        if ".." in self.period:
            first, end = self.period.split("..")
            return Period(date.fromisoformat(first), date.fromisoformat(end))
        return period_of(self.period)


def owner_of(department: str | None, team: str | None, others: Mapping[str, str] | None = None) -> str:
    """department/team, department, or total; then other dimensions.

    >>> owner_of("mobile", "ios"), owner_of(None, None, {"cost_center": "cc-7", "environment": "prod"})
    ('mobile/ios', 'cost_center=cc-7, environment=prod')
    """
    parts = ["/".join(part for part in (department, team) if part)]
    parts += [f"{dimension}={value}" for dimension, value in (others or {}).items()]
    return ", ".join(part for part in parts if part) or "total"


def label_of(period: Period) -> str:
    """A period as people write it: 2026-11, 2026-Q4, 2026, or its first and last day.

    >>> label_of(Period(date(2026, 10, 1), date(2027, 1, 1))), label_of(Period(date(2026, 10, 15), date(2026, 12, 1)))
    ('2026-Q4', '2026-10-15 to 2026-11-30')
    """
    first = period.first
    for text in (f"{first:%Y-%m}", f"{first.year}-Q{(first.month + 2) // 3}", f"{first.year}"):
        if period_of(text) == period:
            return text
    return str(period)


def read_budgets(
    file: Path, values: Mapping[str, Mapping[str, str]] | None = None, dimensions: Iterable[str] = ()
) -> list[Budget]:
    """The budgets of a file, in its order.

    `values` unifies the names of dimensions as it does those in tags (dimension -> value -> name). `dimensions`: those of
    finops.yaml, each of which may be a column; whatever their order in the file, they are told in this one.

    Raises:
        BudgetsError: with every mistake found, its line, what was found and what is allowed.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BudgetsError(file, [Mistake("(file)", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise BudgetsError(file, [Mistake("(file)", f"is not UTF-8 text: {error}")]) from error
    mistakes: list[Mistake] = []
    others = [dimension for dimension in grouped(dimensions) if dimension not in COLUMNS]
    columns = (*COLUMNS[:2], *others, *COLUMNS[2:])
    is_yaml = file.suffix in (".yaml", ".yml")
    rows = _yaml_rows(file, text, columns, mistakes) if is_yaml else _csv_rows(text, columns, mistakes)
    found = [_budget(line, row, values or {}, others, mistakes) for line, row in rows]
    budgets = [b for b in found if b is not None]
    mistakes += _clashes(budgets)
    if mistakes:
        raise BudgetsError(file, sorted(mistakes, key=lambda m: m.line or 0))
    return budgets


def _named(written: str, columns: Sequence[str]) -> str:
    """The column that a header means, whatever its case; as written where there is none."""
    name = written.strip()
    return next((column for column in columns if column.casefold() == name.casefold()), name.lower())


def _csv_rows(text: str, columns: Sequence[str], mistakes: list[Mistake]) -> list[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text))
    header = [_named(name, columns) for name in next(reader, [])]
    mistakes += _header_mistakes(header, columns, 1)
    rows = []
    for row in reader:
        if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
            continue
        if len(row) > len(header):
            mistakes.append(Mistake("(line)", f"has {len(row)} cells, the header {len(header)}", reader.line_num))
            continue
        rows.append((reader.line_num, {n: cell.strip() for n, cell in zip(header, row, strict=False)}))
    return rows


def _yaml_rows(
    file: Path, text: str, columns: Sequence[str], mistakes: list[Mistake]
) -> list[tuple[int, dict[str, str]]]:
    """Scalars are taken as they are written: YAML's own numbers are floats, its own dates no text."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = Mistake("(file)", f"is not YAML: {getattr(error, 'problem', error)}", mark.line + 1 if mark else None)
        raise BudgetsError(file, [problem]) from error
    if isinstance(node, yaml.MappingNode) and len(node.value) == 1 and node.value[0][0].value == "budgets":
        node = node.value[0][1]
    if not isinstance(node, yaml.SequenceNode):
        raise BudgetsError(file, [Mistake("(file)", "must be a list of budgets")])
    rows = []
    for entry in node.value:
        line = entry.start_mark.line + 1
        if not isinstance(entry, yaml.MappingNode) or any(not isinstance(v, yaml.ScalarNode) for _, v in entry.value):
            mistakes.append(Mistake("(entry)", f"must map {', '.join(columns)} to plain values", line))
            continue
        row = {_named(key.value, columns): "" if v.tag.endswith(":null") else v.value.strip() for key, v in entry.value}
        wrong = [*_header_mistakes(list(row), columns, line)]
        mistakes += wrong
        if not wrong:
            rows.append((line, row))
    return rows


def _header_mistakes(names: Sequence[str], columns: Sequence[str], line: int) -> Iterator[Mistake]:
    for name in names:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            yield Mistake(name or "(no name)", f"is not a known column{hint} (allowed: {', '.join(columns)})", line)
        elif names.count(name) > 1:
            yield Mistake(name, "stands twice; keep one", line)
    for name in ("currency", "amount"):
        if name not in names:
            yield Mistake(name, "is missing and has no default", line)


def _budget(
    line: int,
    row: Mapping[str, str],
    values: Mapping[str, Mapping[str, str]],
    dimensions: Sequence[str],
    mistakes: list[Mistake],
) -> Budget | None:
    before = len(mistakes)

    def wrong(name: str, allowed: str) -> None:
        mistakes.append(Mistake(name, f"found {row.get(name, '')!r}; allowed: {allowed}", line))

    def named(dimension: str) -> str | None:
        normal = normal_value(row.get(dimension, ""))
        return values.get(dimension, {}).get(normal, normal) or None

    department, team = named("department"), named("team")
    if team and not department:
        wrong("department", f"the department of team {row['team']!r}")
    basis = row.get("basis") or BASES[0]
    if basis not in BASES:
        wrong("basis", ", ".join(BASES))
    currency = row.get("currency", "")
    if "currency" in row and not _CURRENCY.match(currency):
        wrong("currency", "a currency's three capital letters, as EUR")
    if "amount" in row and (not _AMOUNT.match(row["amount"]) or not Decimal(row["amount"])):
        wrong("amount", "more than 0, digits with a point and without separators, as 12000.50")
    threshold = row.get("threshold", "").removesuffix("%").strip() or str(THRESHOLD)
    if not _AMOUNT.match(threshold) or not 0 < Decimal(threshold) <= 100:
        wrong("threshold", "percent of the amount, more than 0 and at most 100, as 80")
    period = _period(row, wrong)
    if len(mistakes) > before or "amount" not in row or "currency" not in row or period is None:
        return None
    # The basis was just found to be one of the two.
    return Budget(
        department, team, period, "billed" if basis == "billed" else "effective", currency, Decimal(row["amount"]),
        Decimal(threshold), line, {d: name for d in dimensions if (name := named(d))},
    )  # fmt: skip


def _period(row: Mapping[str, str], wrong: Callable[[str, str], None]) -> str | None:
    text, first, end = row.get("period", ""), row.get("from", ""), row.get("to", "")
    if text and (first or end):
        wrong("period", f"{_PERIODS}; not both")
    elif first or end:
        days: list[date] = []
        for name, given in (("from", first), ("to", end)):
            try:
                days.append(date.fromisoformat(given))
            except ValueError:
                wrong(name, "a day as 2026-10-15")
        from finops_assets.evaluate.forecast.period import LONGEST_AHEAD  # needs numpy, and reading budgets does not

        if len(days) == 2 and not timedelta(0) < days[1] - days[0] <= timedelta(days=LONGEST_AHEAD):
            wrong("to", f"a day after from ({first}), exclusive, at most {LONGEST_AHEAD} days later")
        elif len(days) == 2:
            return f"{days[0]}..{days[1]}"
    elif text.lower() in RECURRING:
        return text.lower()
    else:
        try:
            period_of(text)
        except ValueError:
            wrong("period", _PERIODS)
        else:
            return text.upper()
    return None


def _clashes(budgets: Sequence[Budget]) -> Iterator[Mistake]:
    """Budgets that are there twice, and certain ones of one owner that share days without one holding the other.

    A month in its quarter and year is no clash; nor is a certain month beside `month`, whose place it takes.
    """
    seen: dict[str, Budget] = {}
    certain: dict[tuple[object, ...], list[Budget]] = {}
    for budget in budgets:
        first = seen.setdefault(budget.name, budget)
        if first is not budget:
            yield Mistake(
                "(budget)",
                f"found {budget.name!r} again, with {budget.amount} (line {first.line} has {first.amount}); keep one",
                budget.line,
            )
            continue
        days = budget.certain
        for other in certain.get(budget.scope, []) if days else []:
            theirs = other.certain
            if days and theirs and days.first < theirs.end and theirs.first < days.end:
                within = (days.first >= theirs.first and days.end <= theirs.end) or (
                    theirs.first >= days.first and theirs.end <= days.end
                )
                if not within or (days.first, days.end) == (theirs.first, theirs.end):
                    yield Mistake(
                        "period",
                        f"found {budget.period!r}, which shares days with {other.period!r} of line {other.line}"
                        f" ({budget.owner}, {budget.basis}, {budget.currency}); one cost would be in both",
                        budget.line,
                    )
        if days:
            certain.setdefault(budget.scope, []).append(budget)
