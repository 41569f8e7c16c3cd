"""The gates on raw days: complete, conforms, plausible."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

from finops_assets.base.secrets import without_secrets
from finops_assets.base.sql import identifier, literal
from finops_assets.base.text import counted, money
from finops_assets.focus.measures import EFFECTIVE, POSITIVE
from finops_assets.focus.specification import Column, columns, mandatory_columns
from finops_assets.ingest.cadence import AWAITED, COSTS_NOTHING, MISSING, Calendar, Emptiness
from finops_assets.ingest.layouts.delivery import incomplete_sectors
from finops_assets.ingest.reading.parts import column_types
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.judge.conformance.known_gaps import absent_columns, gap_condition
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.settings.mistakes import DECIDE_FIGURES
from finops_assets.settings.model import Settings
from finops_assets.settings.sources import Source
from finops_assets.storage.day_files import facts_relation, raw_relation
from finops_assets.storage.duck import lent
from finops_assets.storage.ledger import PENDING, DayTotals, Generation, Ledger, concerns, fall
from finops_assets.storage.scope import scope_days

COMPLETE, CONFORMS, PLAUSIBLE = "complete", "conforms", "plausible"
GATES = {
    COMPLETE: "Every file of the delivery is there, the provider calls the day complete, and it has the rows that are due.",
    CONFORMS: "Money, currency and periods are there and could be read; names, categories and tags on most of the cost.",
    PLAUSIBLE: "Rows and cost have not fallen beyond the limit against the version that this one replaces.",
}
STATUS_COLUMN = "x_DatasetCompletionStatus"
ONLY_PENDING = "deliveries_pending"
"""Figure of a day that nothing holds but deliveries that wait or were refused: their scopes."""

Totals = Mapping[date, DayTotals | None]


def judge_raw(platform: Platform, source: Source, days: Iterable[date]) -> list[Verdict]:
    """All verdicts on these raw days of a source; a source that is not required only advises."""
    days = sorted(days)
    ledger = Ledger(platform.lake, source.name)
    latest = [g for scope in ledger.scopes() if (g := ledger.latest(scope))]
    live = list(ledger.all_live())
    totals = {day: ledger.day_totals(day) for day in days}
    with platform.lake.workspace() as workspace, lent(platform.settings.engine, workspace) as connection:
        return [
            *_complete(connection, platform, source, days, latest, live, totals),
            *_conforms(connection, platform, source, days, live),
            *_plausible(connection, platform, source, days, totals, ledger),
        ]


def _complete(
    connection: duckdb.DuckDBPyConnection,
    platform: Platform,
    source: Source,
    days: list[date],
    latest: list[Generation],
    live: list[Generation],
    totals: Totals,
) -> Iterator[Verdict]:
    waits = [g for g in latest if g.state in PENDING]
    calendar = Calendar(live, source.cadence, platform.settings.deadline(source), waits)
    now = datetime.now(UTC)
    rows = {day: held.rows if held else 0 for day, held in totals.items()}
    not_complete = _not_complete(connection, platform, source, days)
    for day in days:
        problems: list[str] = []
        figures: dict[str, int | float | str] = {}
        covering = [g for g in live if day in g.days]
        pending = [g for g in waits if concerns(g, day, live)]
        for generation in pending:
            problems.append(f"delivery {generation.scope} is {generation.state}: {generation.reason}")
        sectors = [sector for g in covering for sector in g.recency()]
        for sector in incomplete_sectors(sectors, day):
            problems.append(
                f"recency metadata calls {sector.start:%Y-%m-%d %H:%M} to {sector.end:%Y-%m-%d %H:%M} not complete"
            )
        count, status = not_complete.get(day, (0, None))
        if count:
            problems.append(f"{count} of {rows[day]} rows have {STATUS_COLUMN} {status!r}, not 'Complete'")
        if pending and len(problems) == len(pending):
            figures[ONLY_PENDING] = ", ".join(g.scope for g in pending)
        fine = f"{rows[day]:,} rows from {len(covering)} {'delivery' if len(covering) == 1 else 'deliveries'}"
        if not rows[day] and not problems:
            empty = calendar.of(day, now)
            figures["empty"] = empty.meaning
            if empty.meaning == COSTS_NOTHING:
                fine = f"costs nothing: {empty.why}"
            elif empty.meaning == AWAITED and not _gone(source):
                yield _awaited(source, day, empty, len(covering))
                continue
            else:
                problems.append(_missing(source, empty, latest))
        yield _verdict(
            COMPLETE,
            source,
            day,
            problems,
            fine,
            {"rows": rows[day], "rows_not_complete": count, "deliveries": len(covering), **figures},
            "say which of the deliveries counts; then run the day again"
            if any(g.beside for g in pending)
            else _MISSING_STEP.format(source=source.name) + _of_no_days(live)
            if figures.get("empty") == MISSING
            else "wait for the provider to finish the delivery or have it delivered again; then run the day again",
        )


_MISSING_STEP = (
    "look whether the provider has exported the day, then run it again; if no charge was due on it, or the source has"
    " ended, say cadence: weekdays, monthly or irregular of source {source} in finops.yaml"
)


def _of_no_days(live: list[Generation]) -> str:
    """What helps where a file without rows may be the day's bill, and nothing says of which days it is."""
    silent = sorted(g.scope for g in live if not g.days and not scope_days(g.scope))
    if not silent:
        return ""
    return (
        f"; {silent[-1]} holds no rows, and nothing says of which days: where names of files tell their month,"
        " period_pattern takes it for that month's bill"
    )


def _missing(source: Source, empty: Emptiness, latest: list[Generation]) -> str:
    """That a day has no rows though its deadline is over."""
    if not latest:
        return f"no rows: nothing was ever delivered at {without_secrets(source.uri)}{_gone(source)}"
    return f"no rows in any of {len(latest)} deliveries (newest scope: {max(g.scope for g in latest)}): {empty.why}"


def _awaited(source: Source, day: date, empty: Emptiness, deliveries: int) -> Verdict:
    return Verdict(
        gate=COMPLETE,
        day=day,
        passed=False,
        message=f"no rows yet: {empty.why}",
        blocking=source.required,
        source=source.name,
        figures={"rows": 0, "rows_not_complete": 0, "deliveries": deliveries, "empty": empty.meaning},
        awaited=True,
    )


def _gone(source: Source) -> str:
    local = "://" not in source.uri and not any(c in source.uri for c in "*?[")
    return ", which does not exist: check uri in finops.yaml" if local and not Path(source.uri).exists() else ""


def _not_complete(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date]
) -> dict[date, tuple[int, str]]:
    """Rows that say that their data set is not complete, by day. Any row counts, not the first."""
    files = platform.lake.day_files("raw", [source.name], days)
    if not files:
        return {}
    # Each file for itself: days may have it in types that nothing unites, or that one file's values do not survive.
    of_files = [
        f"SELECT charge_date, coalesce(CAST({identifier(name)} AS VARCHAR), 'NULL') AS status FROM {raw_relation([file])}"
        for file in files
        for name in column_types(connection, file)
        if name.casefold() == STATUS_COLUMN.casefold()
    ]
    if not of_files:
        return {}
    # A day fed by one delivery with the column and one without has NULLs that claim nothing.
    found = connection.execute(
        f"SELECT charge_date, count(*), min(status) FROM ({' UNION ALL '.join(of_files)})"
        " WHERE lower(trim(status)) NOT IN ('complete', 'null') GROUP BY 1"
    ).fetchall()
    return {day: (count, text) for day, count, text in found}


def _conforms(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date], live: list[Generation]
) -> Iterator[Verdict]:
    versions_of = {day: {g.focus_version for g in live if day in g.days} for day in days}
    every = set[str]().union(*versions_of.values())
    absent = absent_columns(source, every)
    found = _column_findings(connection, platform, source, days, every)
    for day in days:
        problems: list[str] = []
        named: list[str] = []
        tolerated: list[str] = []
        steps: set[str] = set()
        covering = [g for g in live if day in g.days]
        missing: set[str] = set()
        lacking: dict[str, str] = {}
        for generation in covering:
            present = {c.casefold() for c in generation.columns}
            for column in mandatory_columns(generation.focus_version):
                if column.name.casefold() in present:
                    continue
                text = (
                    f"column {column.name} is mandatory in FOCUS {generation.focus_version}"
                    f" and missing in delivery {generation.scope}"
                )
                if column.name in absent:
                    missing.add(column.name)
                    tolerated.append(text)
                elif column.name in DECIDE_FIGURES:
                    missing.add(column.name)
                    problems.append(text)
                    steps.add(_step_for(column.name))
                else:
                    lacking[column.name] = text
            if not present & {"tags", "allocatedtags"}:
                named.append(f"delivery {generation.scope} has neither Tags nor AllocatedTags: its rows are untagged")
        versions = versions_of[day]
        of_day = found.get(day, _Findings())
        figures: dict[str, int | float | str] = {}
        for name, wrong in of_day.columns:
            if wrong.kind == "null" and (
                name in missing
                or not any(columns()[name].mandatory(v) and not columns()[name].nullable(v) for v in versions)
            ):
                continue
            if wrong.known:
                tolerated.append(f"{name} is null in {counted(wrong.known)}")
            if not wrong.rows:
                continue
            text = f"{name} {'is null' if wrong.kind == 'null' else wrong.kind} in {counted(wrong.rows)}{wrong.example}"
            if wrong.kind != _OUTSIDE and (name in DECIDE_FIGURES or name not in columns()):
                problems.append(text)
                steps.add(_step_for(name) if wrong.kind == "null" else _CORRECT_STEP)
                continue
            if wrong.kind == "null" and name in lacking:
                text = f"{lacking.pop(name)}: null in {counted(wrong.rows)}"
            shares = {c: amount / of_day.positive[c] * 100 for c, amount in wrong.cost.items() if amount}
            policy = platform.settings.tag_policy
            small = [c for c in shares if of_day.positive[c] < policy.small(c)]
            told = ", ".join(
                f"{amount:,.2f} {c}, {shares[c]:.1f} % of the day's positive cost"
                for c, amount in wrong.cost.items()
                if amount
            )
            limit = _hold_above(platform.settings, source, name, wrong.kind)
            figures |= {f"{name} {c} %": round(float(share), 2) for c, share in shares.items()}
            if any(share > Decimal(str(limit)) for c, share in shares.items() if c not in small):
                problems.append(f"{text}, {told} (limit {limit:g} %)")
                steps.add(_SHARE_STEP.format(source=source.name, column=name))
            else:
                named.append(f"{text}, {told or 'no positive cost on them'}")
        named += lacking.values()
        fine = f"conforms to FOCUS {', '.join(sorted(versions)) or '(no delivery)'}"
        yield _verdict(
            CONFORMS,
            source,
            day,
            problems,
            f"{fine}; named: {'; '.join(named)}" if named else fine,
            {
                "findings": len(problems),
                "named": "; ".join(named) or "none",
                "known_gaps": "; ".join(tolerated) or "none",
                "focus_version": ", ".join(sorted(versions)),
                **figures,
            },
            f"have the export corrected at the provider, then run the day again; {'; '.join(sorted(steps)).format(source=source.name)}",
        )


_GAP_STEP = "where the provider documents that it leaves the column out, known_gaps of source {source} in finops.yaml takes that"
_CORRECT_STEP = "until then this source's day waits, as no sum over it could be right"
_NO_SUM_WITHOUT = frozenset(["BilledCost", "BillingCurrency", "ChargePeriodStart"])
"""No known gap makes a sum right that lacks these. What else decides figures is taken from others, or is of no sum."""
_SHARE_STEP = "where that share is right, give a higher one: conforms: sources: {source}: {column} in finops.yaml"
_OUTSIDE = "has values outside its closed list"
HOLD_ABOVE: Mapping[str, float] = {"ChargeCategory": 50, "ServiceCategory": 50, "ServiceName": 50}
"""The share of a day's positive cost, in percent, above which a column without a value holds; of others none does.

What stands on it: docs/guides/gates.md.
"""
KEPT_AS_WRITTEN = frozenset(["ServiceCategory"])
"""Cost is grouped by these words, whatever they are: one outside the closed list is a group of its own, and falsifies none."""


def _step_for(column: str) -> str:
    return _CORRECT_STEP if column in _NO_SUM_WITHOUT else _GAP_STEP


def _hold_above(settings: Settings, source: Source, column: str, kind: str) -> float:
    own = settings.conforms.sources.get(source.name, {}).get(column)
    given = settings.conforms.hold_above.get(column) if own is None else own
    if given is not None:
        return given
    return 100 if kind == _OUTSIDE and column in KEPT_AS_WRITTEN else HOLD_ABOVE.get(column, 100)


@dataclass
class _Wrong:
    """What is wrong with a column on a day: rows, positive effective cost on them by currency, and rows of known gaps."""

    kind: str
    rows: int = 0
    known: int = 0
    example: str = ""
    cost: dict[str, Decimal] = field(default_factory=dict)

    def add(self, rows: int, currency: str, cost: Decimal, example: str = "", known: int = 0) -> None:
        self.rows += rows
        self.known += known
        self.example = self.example or example
        self.cost[currency] = self.cost.get(currency, Decimal(0)) + cost

    def take(self, rows: int, currency: str, cost: Decimal) -> None:
        """These rows are told as something else."""
        counted_here = min(self.rows, rows)
        self.rows -= counted_here
        self.known -= min(self.known, rows - counted_here)
        if counted_here:
            self.cost[currency] = max(Decimal(0), self.cost.get(currency, Decimal(0)) - cost)


@dataclass
class _Findings:
    """Of one day: positive effective cost by currency, and what is wrong with which column."""

    positive: dict[str, Decimal] = field(default_factory=dict)
    found: dict[tuple[str, str], _Wrong] = field(default_factory=dict)

    @property
    def columns(self) -> list[tuple[str, _Wrong]]:
        return [(name, wrong) for (name, _), wrong in self.found.items()]

    def wrong(self, column: str, kind: str) -> _Wrong:
        return self.found.setdefault((column, kind), _Wrong(kind))


def _column_findings(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date], versions: set[str]
) -> dict[date, _Findings]:
    """What is wrong with the columns by day, from the rows as landed, and the money on it."""
    files = platform.lake.day_files("raw", [source.name], days)
    if not files:
        return {}
    relation = raw_relation(files)
    never_null = [c for c in columns().values() if any(c.mandatory(v) and not c.nullable(v) for v in versions)]
    closed = [c for c in columns().values() if c.allowed and c.name != "ServiceSubcategory"]
    currency_of = "coalesce(BillingCurrency, '')"

    def money_where(condition: str) -> str:
        return f"coalesce(sum(CASE WHEN {condition} THEN positive END), 0)"

    # Each condition stands once: the engine takes longer to read this than to answer it.
    told = [f"{POSITIVE} AS positive", f"{currency_of} AS currency"]
    asked = ["coalesce(sum(positive), 0)"]
    for n, column in enumerate(never_null):
        gap = gap_condition(source, column.name, versions)
        told += [f"{column.name} IS NULL AS null_{n}", f"{column.name} IS NULL AND {gap} AS known_{n}"]
        asked += [f"count(CASE WHEN null_{n} AND NOT known_{n} THEN 1 END)", money_where(f"null_{n} AND NOT known_{n}")]
        asked += [f"count(CASE WHEN known_{n} THEN 1 END)"]
    for n, column in enumerate(closed):
        told += [f"{_odd(column)} AS odd_{n}", f"{column.name} AS value_{n}"]
        asked += [
            f"count(CASE WHEN odd_{n} THEN 1 END)",
            money_where(f"odd_{n}"),
            f"min(CASE WHEN odd_{n} THEN value_{n} END)",
        ]
    result: dict[date, _Findings] = {}
    for day, currency, positive, *values in connection.execute(
        f"SELECT charge_date, currency, {', '.join(asked)} FROM (SELECT charge_date, {', '.join(told)} FROM {relation})"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall():
        into = result.setdefault(day, _Findings())
        into.positive[currency] = Decimal(positive)
        for place, column in enumerate(never_null):
            count, cost, known = values[3 * place : 3 * place + 3]
            if count or known:
                into.wrong(column.name, "null").add(count, currency, Decimal(cost), known=known)
        rest = values[3 * len(never_null) :]
        for place, column in enumerate(closed):
            count, cost, example = rest[3 * place : 3 * place + 3]
            if count:
                allowed = f", e.g. {example!r}; allowed: {', '.join(column.allowed)}"
                into.wrong(column.name, _OUTSIDE).add(count, currency, Decimal(cost), allowed)
    place_of = f"{SOURCE_FILE} || ', row ' || {SOURCE_ROW}"
    for day, currency, text, rows, cost, first in connection.execute(
        f"SELECT charge_date, {currency_of}, repairs, count(*), coalesce(sum({POSITIVE}), 0), min({place_of}) FROM {relation}"
        " WHERE repairs LIKE '%not_a%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 4 DESC, 3"
    ).fetchall():
        for item in json.loads(text):
            if item["rule"].startswith("not_a"):
                wrong = result[day].wrong(item["column"], f"is {item['rule'].replace('_', ' ')}")
                wrong.add(rows, currency, Decimal(cost), f", e.g. {item['found']!r} in file {first}")
                # What could not be read is null as landed, and is told once.
                if null := result[day].found.get((item["column"], "null")):
                    null.take(rows, currency, Decimal(cost))
    return result


def _odd(column: Column) -> str:
    return f"{column.name} NOT IN ({', '.join(literal(v) for v in column.allowed)})"


def _plausible(
    connection: duckdb.DuckDBPyConnection,
    platform: Platform,
    source: Source,
    days: list[date],
    totals: Totals,
    ledger: Ledger,
) -> Iterator[Verdict]:
    """A day against the version that it replaces: the one that people see now, in the facts."""
    limits = platform.settings.plausibility
    accepted = {a.day: a.reason for a in platform.settings.acknowledged if a.source == source.name}
    before = _facts_totals(connection, platform, source, days)
    for day in days:
        held = totals[day]
        rows = held.rows if held else 0
        effective = held.effective if held else {}
        problems: list[str] = []
        figures: dict[str, int | float | str] = {"rows": rows}
        let_go, cost_let_go = 0, dict[str, Decimal]()
        if day in before:
            old_rows, old_cost = before[day]
            falls = {currency: fall(old, effective.get(currency, Decimal(0))) for currency, old in old_cost.items()}
            fell = fall(Decimal(old_rows), Decimal(rows))
            figures |= {"rows_before": old_rows, "row_fall_percent": round(float(fell), 2)}
            figures |= {f"cost_fall_percent {currency}": round(float(each), 2) for currency, each in falls.items()}
            most_rows, most_cost = Decimal(str(limits.max_row_fall)), Decimal(str(limits.max_cost_fall))
            if fell > most_rows or any(each > most_cost for each in falls.values()):
                # Of what fell somebody may have looked at a part, and accepted the delivery that lacks it.
                let_go, cost_let_go = _let_go(connection, platform, source, day, ledger)
            if fall(Decimal(old_rows), Decimal(rows + let_go)) > most_rows:
                problems.append(f"rows fell {fell:.1f} %, from {old_rows} to {rows} (limit {limits.max_row_fall:g} %)")
            for currency, old in old_cost.items():
                new = effective.get(currency, Decimal(0))
                if fall(old, new + cost_let_go.get(currency, Decimal(0))) > most_cost:
                    problems.append(
                        f"effective cost fell {falls[currency]:.1f} %, from {money(old)} to {money(new)} {currency}"
                        f" (limit {limits.max_cost_fall:g} %)"
                    )
        acknowledged = accepted.get(day)
        if problems and acknowledged:
            yield Verdict(
                PLAUSIBLE,
                day,
                True,
                f"acknowledged ({acknowledged}): {'; '.join(problems)}",
                source.required,
                source.name,
                figures,
            )
            continue
        yield _verdict(
            PLAUSIBLE,
            source,
            day,
            problems,
            _why_plausible(day in before, let_go),
            figures,
            "look at the delivery; if the fall is right, add the source, day and reason under acknowledged in finops.yaml",
        )


def _why_plausible(compared: bool, let_go: int) -> str:
    if not compared:
        return "nothing to compare with: the first version of this day"
    if not let_go:
        return "no fall beyond the limit"
    return f"no fall beyond the limit but of {let_go} rows that an accepted delivery no longer holds"


def _let_go(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, day: date, ledger: Ledger
) -> tuple[int, dict[str, Decimal]]:
    """What the facts of a day still hold of deliveries that count now without it, because a person accepted them: rows, and
    effective cost by currency. Once the facts are built from those there is nothing of it left."""
    facts = facts_relation(platform.lake.day_files("facts", [source.name], [day]))
    rows, costs = 0, dict[str, Decimal]()
    for scope in ledger.scopes():
        entries = ledger.generations(scope)
        live = next((g for g in reversed(entries) if g.state == "live"), None)
        if live is None or ledger.accepted(scope) != live.identity:
            continue
        now = live.days.get(day)
        held = connection.execute(
            f"SELECT coalesce(BillingCurrency, ''), count(*), sum({EFFECTIVE}) FROM {facts}"
            " WHERE list_contains($files, source_file) GROUP BY 1",
            {"files": sorted({file[0] for generation in entries for file in generation.files})},
        ).fetchall()
        rows += max(sum(count for _, count, _ in held) - (now.rows if now else 0), 0)
        for currency, _, cost in held:
            less = cost - (now.effective.get(currency, Decimal(0)) if now else Decimal(0))
            costs[currency] = costs.get(currency, Decimal(0)) + max(less, Decimal(0))
    return rows, costs


def _facts_totals(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date]
) -> dict[date, tuple[int, dict[str, Decimal]]]:
    files = platform.lake.day_files("facts", [source.name], days)
    if not files:
        return {}
    result: dict[date, tuple[int, dict[str, Decimal]]] = {}
    for day, currency, rows, cost in connection.execute(
        f"""
        SELECT charge_date, coalesce(BillingCurrency, ''), count(*), sum({EFFECTIVE})
        FROM {facts_relation(files)} GROUP BY 1, 2
        """
    ).fetchall():
        count, costs = result.get(day, (0, {}))
        result[day] = (count + rows, {**costs, currency: cost})
    return result


def _verdict(
    gate: str,
    source: Source,
    day: date,
    problems: list[str],
    fine: str,
    figures: dict[str, int | float | str],
    next_step: str,
) -> Verdict:
    return Verdict(
        gate=gate,
        day=day,
        passed=not problems,
        message="; ".join(problems) or fine,
        blocking=source.required,
        source=source.name,
        figures=figures,
        next_step=next_step if problems else "",
    )
