"""The gates on raw days: complete, conforms, plausible."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

from finops_assets.cadence import AWAITED, COSTS_NOTHING, MISSING, Calendar, Emptiness
from finops_assets.engine import connect, identifier, literal
from finops_assets.facts import facts_relation, raw_relation
from finops_assets.focus.specification import Column, columns, mandatory_columns
from finops_assets.gates.verdict import Verdict, counted, money
from finops_assets.ledger import PENDING, DayTotals, Generation, Ledger, concerns, fall
from finops_assets.platform import Platform
from finops_assets.settings import Source, without_secrets
from finops_assets.sources.delivery import incomplete_sectors
from finops_assets.sources.layouts import KNOWN_GAPS
from finops_assets.sources.reading import SOURCE_FILE, SOURCE_ROW

COMPLETE, CONFORMS, PLAUSIBLE = "complete", "conforms", "plausible"
GATES = {
    COMPLETE: "Every file of the delivery is there, the provider calls the day complete, and it has the rows that are due.",
    CONFORMS: "Mandatory FOCUS columns are there and filled, closed lists are respected, types could be read.",
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
    with platform.lake.workspace() as workspace, connect(platform.settings.engine, workspace) as connection:
        return [
            *_complete(connection, platform, source, days, latest, live, totals),
            *_conforms(connection, platform, source, days, live),
            *_plausible(connection, platform, source, days, totals),
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
            else _MISSING_STEP.format(source=source.name)
            if figures.get("empty") == MISSING
            else "wait for the provider to finish the delivery or have it delivered again; then run the day again",
        )


_MISSING_STEP = (
    "look whether the provider has exported the day, then run it again; if no charge was due on it, say"
    " cadence: weekdays, monthly or irregular of source {source} in finops.yaml"
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
    relation = raw_relation(files)
    names = [r[0] for r in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    column = next((n for n in names if n.casefold() == STATUS_COLUMN.casefold()), None)
    if column is None:
        return {}
    status = f"coalesce(CAST({identifier(column)} AS VARCHAR), 'NULL')"
    # A day fed by one delivery with the column and one without has NULLs that claim nothing.
    found = connection.execute(
        f"SELECT charge_date, count(*), min({status}) FROM {relation}"
        f" WHERE lower(trim({status})) NOT IN ('complete', 'null') GROUP BY 1"
    ).fetchall()
    return {day: (count, text) for day, count, text in found}


def _conforms(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date], live: list[Generation]
) -> Iterator[Verdict]:
    gaps = {*source.known_gaps, *KNOWN_GAPS.get(source.layout, ())}
    found = _column_findings(connection, platform, source, days)
    for day in days:
        problems: list[str] = []
        tolerated: list[str] = []
        covering = [g for g in live if day in g.days]
        missing: set[str] = set()
        for generation in covering:
            present = {c.casefold() for c in generation.columns}
            for column in mandatory_columns(generation.focus_version):
                if column.name.casefold() not in present:
                    missing.add(column.name)
                    into = tolerated if column.name in gaps else problems
                    into.append(
                        f"column {column.name} is mandatory in FOCUS {generation.focus_version}"
                        f" and missing in delivery {generation.scope}"
                    )
            if not present & {"tags", "allocatedtags"}:
                problems.append(
                    f"delivery {generation.scope} has neither Tags nor AllocatedTags, so no cost can be attributed"
                )
        versions = {g.focus_version for g in covering}
        for name, kind, rows, example in found.get(day, []):
            if kind == "null":
                column = columns()[name]
                if not any(column.mandatory(v) and not column.nullable(v) for v in versions):
                    continue
                if name in missing:
                    continue
                (tolerated if name in gaps else problems).append(f"{name} is null in {counted(rows)}")
            else:
                problems.append(f"{name} {kind} in {counted(rows)}, e.g. {example}")
        yield _verdict(
            CONFORMS,
            source,
            day,
            problems,
            f"conforms to FOCUS {', '.join(sorted(versions)) or '(no delivery)'}",
            {
                "findings": len(problems),
                "known_gaps": "; ".join(tolerated) or "none",
                "focus_version": ", ".join(sorted(versions)),
            },
            "have the export corrected at the provider; a gap that the provider documents goes under"
            f" known_gaps of source {source.name} in finops.yaml",
        )


def _column_findings(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date]
) -> dict[date, list[tuple[str, str, int, str]]]:
    """(column, what is wrong, rows, example) by day, from the rows as landed."""
    files = platform.lake.day_files("raw", [source.name], days)
    if not files:
        return {}
    relation = raw_relation(files)
    never_null = [c for c in columns().values() if any(c.mandatory(v) and not c.nullable(v) for v in c.level)]
    closed = [c for c in columns().values() if c.allowed and c.name != "ServiceSubcategory"]
    nulls = ", ".join(f"count(*) - count({c.name})" for c in never_null)
    odd = ", ".join(
        f"count(CASE WHEN {_odd(c)} THEN 1 END), min(CASE WHEN {_odd(c)} THEN {c.name} END)" for c in closed
    )
    result: dict[date, list[tuple[str, str, int, str]]] = {}
    for day, *counts in connection.execute(f"SELECT charge_date, {nulls}, {odd} FROM {relation} GROUP BY 1").fetchall():
        into = result.setdefault(day, [])
        for column, count in zip(never_null, counts):
            if count:
                into.append((column.name, "null", count, ""))
        rest = counts[len(never_null) :]
        for column, count, example in zip(closed, rest[::2], rest[1::2]):
            if count:
                allowed = ", ".join(column.allowed)
                into.append(
                    (column.name, "has values outside its closed list", count, f"{example!r}; allowed: {allowed}")
                )
    place = f"{SOURCE_FILE} || ', row ' || {SOURCE_ROW}"
    for day, text, rows, first in connection.execute(
        f"SELECT charge_date, repairs, count(*), min({place}) FROM {relation}"
        " WHERE repairs LIKE '%not_a%' GROUP BY 1, 2 ORDER BY 1, 3 DESC"
    ).fetchall():
        for item in json.loads(text):
            if item["rule"].startswith("not_a"):
                kind = f"is {item['rule'].replace('_', ' ')}"
                found = f"{item['found']!r} in file {first}"
                result.setdefault(day, []).append((item["column"], kind, rows, found))
    return result


def _odd(column: Column) -> str:
    return f"{column.name} NOT IN ({', '.join(literal(v) for v in column.allowed)})"


def _plausible(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date], totals: Totals
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
        if day in before:
            old_rows, old_cost = before[day]
            fell = fall(Decimal(old_rows), Decimal(rows))
            figures |= {"rows_before": old_rows, "row_fall_percent": round(float(fell), 2)}
            if fell > Decimal(str(limits.max_row_fall)):
                problems.append(f"rows fell {fell:.1f} %, from {old_rows} to {rows} (limit {limits.max_row_fall:g} %)")
            for currency, old in old_cost.items():
                new = effective.get(currency, Decimal(0))
                fell = fall(old, new)
                figures[f"cost_fall_percent {currency}"] = round(float(fell), 2)
                if fell > Decimal(str(limits.max_cost_fall)):
                    problems.append(
                        f"effective cost fell {fell:.1f} %, from {money(old)} to {money(new)} {currency}"
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
            "no fall beyond the limit" if day in before else "nothing to compare with: the first version of this day",
            figures,
            "look at the delivery; if the fall is right, add the source, day and reason under acknowledged in finops.yaml",
        )


def _facts_totals(
    connection: duckdb.DuckDBPyConnection, platform: Platform, source: Source, days: list[date]
) -> dict[date, tuple[int, dict[str, Decimal]]]:
    files = platform.lake.day_files("facts", [source.name], days)
    if not files:
        return {}
    result: dict[date, tuple[int, dict[str, Decimal]]] = {}
    for day, currency, rows, cost in connection.execute(
        f"""
        SELECT charge_date, coalesce(BillingCurrency, ''), count(*), sum(coalesce(EffectiveCost, BilledCost, 0))
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
