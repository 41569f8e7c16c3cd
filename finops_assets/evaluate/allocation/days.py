"""daily_cost_allocated: the rollup's days after the rules of shared_cost. Days are made anew where anything changed."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from finops_assets.base.sql import identifier, literal
from finops_assets.cost.commitments import COMMITMENTS
from finops_assets.cost.coverage import BUILT, COVERAGE_TABLE
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.allocation.balance import ALLOCATED_COST, Unbalanced, unbalanced
from finops_assets.evaluate.allocation.metric import MetricError, Quantities, read_metric
from finops_assets.evaluate.allocation.split import POOL, UNTAGGED_TEAM, Owner, Piece, Step, Weights, allocate
from finops_assets.focus.money import DECIMAL, SCALE
from finops_assets.focus.normal import normal_value
from finops_assets.settings.shared_cost import SharedCost
from finops_assets.storage.duck import insert_pairs
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables import ddl

STATE, CHARGEBACK = "allocated_days", "daily_chargeback"
# Part of the stamp: a change of how cost is split makes every day anew, as a change of the rules does.
ALGORITHM = 1
DAYS_AT_ONCE = 31
_PRINT = 16
_DIRECT = 0


@dataclass
class Allocated:
    """What bringing the days up to date came to."""

    days: list[date] = field(default_factory=list)
    """The days that were made anew."""
    gone: list[date] = field(default_factory=list)
    """The days that the rollup has no more."""
    refused: list[Unbalanced] = field(default_factory=list)
    """What did not sum to the rollup. The days of it are not kept: they have no allocation."""
    unknown: list[str] = field(default_factory=list)
    """Names in rules and quantities that no cost has: mistakes of writing, or to come."""
    unread: list[str] = field(default_factory=list)
    """Quantities that cannot be read. Days whose rollup is as it was stand; of others the rules with them split nothing."""


def bring_up_to_date(
    warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, rules: Sequence[SharedCost]
) -> Allocated:
    """Allocate the days whose rollup, rules or quantities are not those that they were allocated with."""
    rules = [_normal(rule) for rule in rules]
    result = Allocated()
    # Rules may name a dimension that no day is built with yet: there it is null, and fits no rule.
    others = sorted({name for rule in rules for name in rule.cost.others})
    for table in (ROLLUP_TABLE, COMMITMENTS):
        if others and Warehouse.has(connection, table):
            ddl.create(connection, table, dimensions=others)
    metrics: dict[str, Quantities] = {}
    for rule in rules:
        if rule.metric:
            try:
                metrics[rule.name] = read_metric(connection, rule.metric)
            except MetricError as error:
                metrics[rule.name] = {}
                result.unread.append(f"rule {rule.name}: {error}")
    result.unknown = _unknown(connection, rules, metrics)
    _create(connection)
    wanted = _stamps(connection, rules, metrics)
    held: dict[date, str] = dict(connection.execute(f"SELECT charge_date, stamp FROM {STATE}").fetchall())
    whole = slice(None) if not result.unread else slice(_PRINT)
    result.days = sorted(day for day, stamp in wanted.items() if held.get(day, "")[whole] != stamp[whole])
    result.gone = sorted(held.keys() - wanted.keys())
    if result.gone:
        with warehouse.transaction(connection):
            _replace(connection, result.gone, [], {})
    for low in range(0, len(result.days), DAYS_AT_ONCE):
        days = result.days[low : low + DAYS_AT_ONCE]
        pieces = allocated(connection, rules, metrics, days)
        with warehouse.transaction(connection):
            _replace(connection, days, pieces, wanted)
            found = unbalanced(connection, days)
            if found:
                _replace(connection, sorted({u.day for u in found}), [], {})
                result.refused += found
    return result


def _unknown(
    connection: duckdb.DuckDBPyConnection, rules: Sequence[SharedCost], metrics: Mapping[str, Quantities]
) -> list[str]:
    columns = {"department", *(column for rule in rules for column in rule.cost.conditions)}
    known: dict[str, set[str]] = {
        column: {
            value
            for (value,) in connection.execute(f"SELECT DISTINCT {identifier(column)} FROM {ROLLUP_TABLE}").fetchall()
        }
        for column in columns
    }
    known["team (as department/team)"] = {
        f"{department}/{team}"
        for department, team in connection.execute(f"SELECT DISTINCT department, team FROM {ROLLUP_TABLE}").fetchall()
    }
    found: list[str] = []
    for rule in rules:
        given = [(column, value) for column, values in rule.cost.conditions.items() for value in values]
        for column in rule.cost.others:
            [(first, last, days)] = connection.execute(
                "SELECT min(charge_date), max(charge_date), count(DISTINCT charge_date)"
                f" FROM {ROLLUP_TABLE} WHERE {identifier(column)} IS NULL"
            ).fetchall()
            if days:
                found.append(
                    f"rule {rule.name}: {days} days from {first} to {last} were built before finops.yaml had {column}; the"
                    f" rule splits nothing of them until they are run again (`finops run {first} {last + timedelta(days=1)}`)"
                )
        measured = {f"{d}/{t}" for quantities in metrics.get(rule.name, {}).values() for d, t in quantities}
        given += [("team (as department/team)", team) for team in (*rule.named, *sorted(measured))]
        given += [("department", to.removesuffix("/*")) for to in rule.to if to.endswith("/*")]
        for column, value in given:
            if value not in known[column]:
                close = difflib.get_close_matches(value, known[column], n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                found.append(f"rule {rule.name}: no cost has the {column} {value!r}{hint}")
    return found


def _normal(rule: SharedCost) -> SharedCost:
    """Names as dimensions carry them."""
    cost = rule.cost.model_copy(
        update={
            "department": tuple(normal_value(v) for v in rule.cost.department),
            "team": tuple(normal_value(v) for v in rule.cost.team),
            "others": {d: tuple(normal_value(v) for v in values) for d, values in rule.cost.others.items()},
        }
    )
    return rule.model_copy(
        update={
            "cost": cost,
            "to": tuple(normal_value(t) for t in rule.to),
            "percent": {normal_value(t): p for t, p in rule.percent.items()},
        }
    )


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    for table in (ALLOCATED_COST, STATE, COVERAGE_TABLE):
        ddl.create(connection, table)
    connection.execute(
        f"""
        CREATE OR REPLACE VIEW {CHARGEBACK} AS
        SELECT charge_date, department, team, BillingCurrency, {
            ", ".join(
                f"CAST(coalesce(sum({cost}) FILTER (WHERE {side}), 0) AS {DECIMAL}) AS {name}_{cost}"
                for cost in ("effective_cost", "billed_cost")
                for name, side in (("showback", "before"), ("chargeback", "NOT before"))
            )
        }, charge_date IN (SELECT charge_date FROM {COVERAGE_TABLE} WHERE state <> '{BUILT}') AS provisional
        FROM (
            SELECT charge_date, origin_department AS department, origin_team AS team, BillingCurrency, effective_cost,
                billed_cost, true AS before FROM {ALLOCATED_COST}
            UNION ALL
            SELECT charge_date, department, team, BillingCurrency, effective_cost, billed_cost, false
            FROM {ALLOCATED_COST}
        ) WHERE department <> '{POOL}' GROUP BY ALL
        """
    )


def _stamps(
    connection: duckdb.DuckDBPyConnection, rules: Sequence[SharedCost], metrics: Mapping[str, Quantities]
) -> dict[date, str]:
    """By day of the rollup a hash of all that its allocation follows from: first of the rollup, then of the rest."""
    prints: dict[date, list[str]] = {}
    for table in (ROLLUP_TABLE, *([COMMITMENTS] if _has_commitments(connection, rules) else [])):
        for day, count, mixed in connection.execute(
            f"SELECT charge_date, count(*), bit_xor(hash(held)) FROM {table} AS held GROUP BY 1"
        ).fetchall():
            prints.setdefault(day, []).append(f"{table} {count} {mixed}")
    base = repr((ALGORITHM, [rule.model_dump(mode="json") for rule in rules]))
    days = {day for (day,) in connection.execute(f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE}").fetchall()}
    return {
        day: _hash(prints[day]) + _hash((base, [sorted(m.get(day, {}).items()) for m in metrics.values()]))
        for day in days
    }


def _hash(parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:_PRINT]


def _has_commitments(connection: duckdb.DuckDBPyConnection, rules: Sequence[SharedCost]) -> bool:
    """Are there commitments to split? A table from before they were kept by service is none: its days say too little."""
    if not any(rule.cost.commitments for rule in rules) or not Warehouse.has(connection, COMMITMENTS):
        return False
    return "ServiceCategory" in {row[0] for row in connection.execute(f"DESCRIBE {COMMITMENTS}").fetchall()}


def unknown_commitments(connection: duckdb.DuckDBPyConnection, rules: Sequence[SharedCost]) -> list[date]:
    """The days whose commitments were kept before they were kept by service: they are not split until they are run again."""
    if not any(rule.cost.commitments for rule in rules) or not Warehouse.has(connection, COMMITMENTS):
        return []
    some = "ServiceCategory IS NULL" if _has_commitments(connection, rules) else "true"
    found = connection.execute(f"SELECT DISTINCT charge_date FROM {COMMITMENTS} WHERE {some} ORDER BY 1").fetchall()
    return [day for (day,) in found]


def allocated(
    connection: duckdb.DuckDBPyConnection,
    rules: Sequence[SharedCost],
    metrics: Mapping[str, Quantities],
    days: Iterable[date],
) -> list[tuple[date, Piece]]:
    """These days of the rollup after the rules; plain values, nothing is written."""
    wanted = list(days)
    lines = connection.execute(lines_query(rules, _has_commitments(connection, rules)), {"days": wanted}).fetchall()
    used: dict[tuple[date, str, str], dict[Owner, Decimal]] = {}
    if _has_commitments(connection, rules):
        for day, commitment, currency, department, team, cost in connection.execute(
            f"SELECT charge_date, CommitmentDiscountId, BillingCurrency, department, team, sum(used_cost) FROM {COMMITMENTS}"
            " WHERE used_cost > 0 AND list_contains($days, charge_date) GROUP BY ALL",
            {"days": wanted},
        ).fetchall():
            used.setdefault((day, commitment, currency), {})[department, team] = cost
    by_day: dict[date, _Day] = {day: _Day() for day in wanted}
    for day, rule, department, team, currency, commitment, billed, effective, positive in lines:
        by_day[day].take(rule, Piece((department, team), currency, (department, team), billed, effective,
                                     commitment=commitment), positive)  # fmt: skip
    result: list[tuple[date, Piece]] = []
    for day, found in by_day.items():
        steps = [
            Step(
                rule.name,
                rule.method,
                found.pools.get(place, []),
                _takes_received(rule),
                _weights(rules, place - 1, found, metrics.get(rule.name, {}).get(day), day, used),
            )
            for place, rule in enumerate(rules, 1)
        ]
        result += [(day, piece) for piece in allocate(found.direct, steps)]
    return result


def _takes_received(rule: SharedCost) -> Callable[[Owner], bool]:
    return lambda owner: rule.chained and rule.splits(*owner)


class _Day:
    """One day's lines: what nobody shares, by owner; what each rule (counted from 1) splits; direct spend by currency."""

    def __init__(self) -> None:
        self.direct: list[Piece] = []
        self.pools: dict[int, list[Piece]] = {}
        self.spend: dict[str, dict[Owner, Decimal]] = {}

    def take(self, rule: int, piece: Piece, positive: Decimal) -> None:
        if rule == _DIRECT:
            self.direct.append(piece)
            if positive > 0:
                self.spend.setdefault(piece.currency, {})[piece.bearer] = positive
        else:
            self.pools.setdefault(rule, []).append(piece)


def lines_query(rules: Sequence[SharedCost], commitments: bool) -> str:
    """SQL: a day's cost by the rule that splits it (0: none), owner, currency and commitment. It sums to the rollup.

    The first rule that fits takes a line. What commitment rules take is taken out of the lines that hold it. `positive`
    is the cost without credits, which cost is split by. Bound: $days.
    """
    by_row = _first_of(rules, [r.cost.commitments is None for r in rules])
    parts = [
        f"SELECT charge_date, {by_row} AS rule, department, team, BillingCurrency, CAST(NULL AS VARCHAR) AS commitment,"
        f" billed_cost AS billed, effective_cost AS effective, positive_effective_cost AS positive FROM {ROLLUP_TABLE}"
    ]
    for kind, billed, effective in (
        (
            ("unused", "0", "unused_cost"),
            ("purchase", "purchase_billed_cost", "purchase_effective_cost"),
        )
        if commitments
        else ()
    ):
        by_kind = _first_of(rules, [r.cost.commitments in (None, kind) for r in rules])
        special = [str(i) for i, r in enumerate(rules, 1) if r.cost.commitments == kind]
        if special:
            source = (
                f"(SELECT *, {by_kind} AS taken_by, {by_row} AS held_by, {billed} AS part_billed, {effective} AS part"
                f" FROM {COMMITMENTS} WHERE ServiceCategory IS NOT NULL AND ({billed} <> 0 OR {effective} <> 0))"
            )
            taken = f"FROM {source} WHERE taken_by IN ({', '.join(special)})"
            owner = "department, team, BillingCurrency"
            parts += [
                f"SELECT charge_date, taken_by, {owner}, CommitmentDiscountId, part_billed, part, greatest(part, 0) {taken}",
                f"SELECT charge_date, held_by, {owner}, NULL, -part_billed, -part, -greatest(part, 0) {taken}",
            ]
    return f"""
        SELECT charge_date, rule, department, team, BillingCurrency, commitment, CAST(sum(billed) AS {DECIMAL}),
            CAST(sum(effective) AS {DECIMAL}), CAST(sum(positive) AS {DECIMAL})
        FROM ({" UNION ALL ".join(parts)}) WHERE list_contains($days, charge_date) GROUP BY ALL ORDER BY ALL
    """


def _first_of(rules: Sequence[SharedCost], may: Sequence[bool]) -> str:
    """SQL: the number of the first rule that fits a line, among those that may; 0: none."""
    whens = []
    for place, (rule, allowed) in enumerate(zip(rules, may), 1):
        if allowed:
            fits = [
                f"{identifier(c)} IN ({', '.join(literal(v) for v in values)})"
                for c, values in rule.cost.conditions.items()
            ]
            whens.append(f"WHEN {' AND '.join(fits) or 'true'} THEN {place}")
    return f"CASE {' '.join(whens)} ELSE {_DIRECT} END" if whens else str(_DIRECT)


def _weights(
    rules: Sequence[SharedCost],
    place: int,
    day: _Day,
    quantities: Mapping[Owner, Decimal] | None,
    at: date,
    used: Mapping[tuple[date, str, str], Mapping[Owner, Decimal]],
) -> Weights:
    """Who gets how much of a piece by a rule, on one day."""
    rule = rules[place]
    emptied = [r for r in rules[: place + 1] if r.chained]
    cache: dict[str, Mapping[Owner, Decimal] | str] = {}

    def may(owner: Owner) -> bool:
        """Nobody that this or an earlier rule empties, and nobody without a name."""
        return owner[1] != UNTAGGED_TEAM and not any(r.splits(*owner) for r in emptied)

    def spend(currency: str) -> dict[Owner, Decimal]:
        """Direct spend of those who may get a share."""
        found = {o: v for o, v in day.spend.get(currency, {}).items() if may(o)}
        return found if not rule.to else {o: v for o, v in found.items() if _is_among(o, rule.to)}

    def of_currency(currency: str) -> Mapping[Owner, Decimal] | str:
        match rule.method:
            case "even":
                named = {_owner(t) for t in rule.named}
                return dict.fromkeys(named | spend(currency).keys(), Decimal(1)) or _nobody(currency)
            case "proportional":
                return spend(currency) or _nobody(currency)
            case "metric":
                if not quantities:
                    return "the metric has no quantity of this day"
                found = {o: q for o, q in quantities.items() if may(o) and (not rule.to or _is_among(o, rule.to))}
                return found if any(found.values()) else "the metric has no quantity of these teams on this day"
        return {}

    def weights(piece: Piece) -> Mapping[Owner, Decimal] | str:
        if rule.method == "benefit":
            found = used.get((at, piece.commitment or "", piece.currency))
            return found or "nobody used this commitment on this day"
        if rule.method == "fixed":
            left = 100 - sum(rule.percent.values())
            given = {_owner(t): p for t, p in rule.percent.items()}
            return {**given, piece.bearer: given.get(piece.bearer, Decimal(0)) + left}
        if piece.currency not in cache:
            cache[piece.currency] = of_currency(piece.currency)
        return cache[piece.currency]

    return weights


def _nobody(currency: str) -> str:
    return f"no team has direct spend in {currency} on this day"


def _owner(text: str) -> Owner:
    department, team = text.split("/", 1)
    return department, team


def _is_among(owner: Owner, to: Sequence[str]) -> bool:
    return f"{owner[0]}/{owner[1]}" in to or f"{owner[0]}/*" in to


_MONEY = pa.decimal128(38, SCALE)
_SCHEMA = pa.schema(
    {
        "charge_date": pa.date32(), "department": pa.string(), "team": pa.string(), "BillingCurrency": pa.string(),
        "rule": pa.string(), "method": pa.string(), "ratio": _MONEY, "origin_department": pa.string(),
        "origin_team": pa.string(), "via": pa.string(), "CommitmentDiscountId": pa.string(), "billed_cost": _MONEY,
        "effective_cost": _MONEY, "note": pa.string(),
    }
)  # fmt: skip


def _replace(
    connection: duckdb.DuckDBPyConnection,
    days: Sequence[date],
    pieces: Sequence[tuple[date, Piece]],
    stamps: Mapping[date, str],
) -> None:
    columns: list[list[Any]] = [[] for _ in _SCHEMA.names]
    for day, p in pieces:
        values = (day, *p.bearer, p.currency, p.rule, p.method, p.ratio, *p.origin, " > ".join(p.via) or None,
                  p.commitment, p.billed, p.effective, p.note)  # fmt: skip
        for column, value in zip(columns, values):
            column.append(value)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, _SCHEMA.types)]
    connection.register("incoming_allocated", pa.Table.from_arrays(arrays, schema=_SCHEMA))
    try:
        for table in (ALLOCATED_COST, STATE):
            connection.execute(f"DELETE FROM {table} WHERE list_contains(?, charge_date)", [list(days)])
        connection.execute(f"INSERT INTO {ALLOCATED_COST} BY NAME SELECT * FROM incoming_allocated")
        insert_pairs(connection, STATE, ((day, stamps[day]) for day in days if day in stamps))
    finally:
        connection.unregister("incoming_allocated")
