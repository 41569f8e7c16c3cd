"""The same charges in two scopes of a source: a copy of a file, a restated copy beside the old one, a longer snapshot.

FOCUS has no row key and identical rows of one delivery are right, so nothing is dropped here: two scopes are set side
by side, and what is proved is told. Two proofs count.

* Rows that stand in both, money included: on some day at least half of the rows of the one with fewer of them.
* The same charges at other amounts, as in a restated copy: on the days that both hold, at least half of the charges
  of either, and no fewer than three, each of a named resource or SKU. Corrections repeat what they correct on purpose.

The files of one scope are parts of it, cut anywhere, so of two of them more is asked: `shared_by_files`.

A third one needs no common row: a day that costs the same in both to the last digit, charge by charge, though one of them has
hours where the other has days (`at_another_grain`).

Rows that cost nothing prove nothing. Parts of a day by account, region, service or hour share no charge at all.
A sample of every day is kept when a delivery is landed, so that two scopes that share nothing cost no reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb

from finops_assets.focus.measures import EFFECTIVE
from finops_assets.ingest.reading.relation import SOURCE_FILE
from finops_assets.storage.duck import by_day, file_list

# What a charge is, apart from its amounts. The tags of a resource may be restated; without a resource they say whose it is.
_CHARGE = (
    "BillingAccountId", "SubAccountId", "BillingPeriodStart", "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ServiceName", "RegionId", "ResourceId", "SkuId", "SkuPriceId",
    "CommitmentDiscountId", "PricingCategory", "BillingCurrency", "CASE WHEN ResourceId IS NULL THEN tag_set_id END",
)  # fmt: skip
_CHARGE_OF_A_DAY = (
    "BillingAccountId", "SubAccountId", "ChargeCategory", "ServiceName", "RegionId", "ResourceId", "SkuId", "BillingCurrency",
)  # fmt: skip
_AMOUNTS = ("BilledCost", "EffectiveCost", "PricingQuantity", "ConsumedQuantity")
_COSTS = "(coalesce(BilledCost, 0) <> 0 OR coalesce(EffectiveCost, 0) <> 0)"
_NAMED = "(coalesce(ResourceId, SkuId, SkuPriceId) IS NOT NULL AND coalesce(ChargeClass, '') <> 'Correction')"
SAMPLED = 40
"""Rows and charges that are kept of a day of a scope."""
_CHARGE_HASH = f"hash({', '.join(_CHARGE)})"
_ROW_HASH = f"hash({_CHARGE_HASH}, {', '.join(_AMOUNTS)})"
SAMPLE = (
    f"min({_ROW_HASH}, {SAMPLED}) FILTER (WHERE {_COSTS})",
    f"min({_CHARGE_HASH}, {SAMPLED}) FILTER (WHERE {_COSTS} AND {_NAMED})",
)
"""SQL over canonical rows: what a `Sample` is of."""
_TELLING = 5
"""So many common candidates and a sample says that two days share nothing; below, the rows are read."""
_DIGITS = 10
LEAST_CHARGES = 3
HALF, NEARLY_ALL = Decimal("0.5"), Decimal("0.9")
LEAST_ROWS = 3
"""So many rows of two files of one scope are no accident: a bill may have rows that say the same."""

Slices = Mapping[date, Sequence[Path]]
"""The files of one scope's days."""


@dataclass(frozen=True)
class Sample:
    """The smallest hashes of a day's rows and charges, ascending: two of them are samples by one rule."""

    rows: tuple[str, ...]
    charges: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[int] | None, charges: Iterable[int] | None) -> Sample:
        """Of hashes, ascending."""
        return cls(_texts(rows), _texts(charges))

    def joined(self, other: Sample) -> Sample:
        """Of the rows of both."""
        return Sample(_smallest(self.rows, other.rows), _smallest(self.charges, other.charges))

    def as_json(self) -> list[str]:
        return ["".join(self.rows), "".join(self.charges)]

    @classmethod
    def from_json(cls, body: Sequence[str]) -> Sample:
        rows, charges = (
            tuple(text[at : at + _DIGITS] for at in range(0, len(text), _DIGITS)) for text in (body[0], body[1])
        )
        return cls(rows, charges)


@dataclass(frozen=True)
class Shared:
    """What two scopes hold both, on the days on which that is proved."""

    days: tuple[date, ...]
    rows: int
    """Rows that stand in both; 0 where only the charges are the same."""
    of: int
    """Rows with cost of the one that has fewer on these days."""
    charges: int
    cost: Mapping[str, Decimal]
    """The effective cost of these rows, or of the charges in the first scope, by currency."""
    contained: bool
    """Does the first scope hold every row with cost of the second?"""
    grain: bool = False
    """Are the charges the same at the same cost, in rows of other times?"""

    def __str__(self) -> str:
        money = ", ".join(f"{amount.normalize():f} {currency}" for currency, amount in sorted(self.cost.items()))
        when = f"{self.days[0]}" if len(self.days) == 1 else f"{self.days[0]} to {self.days[-1]}"
        if self.rows:
            return f"{self.rows} of {self.of} rows with cost of {when} ({money}) stand in both"
        if self.grain:
            return f"{self.charges} charges of {when} ({money}) stand in both, in rows of other times"
        if not self.charges:
            return f"the rows of {when} are the same in both, and cost nothing"
        return f"{self.charges} charges of {when} stand in both, at other amounts ({money} here)"


def may_share(ours: Mapping[date, Sample], theirs: Mapping[date, Sample]) -> bool:
    """Can two scopes hold the same charges, as far as their samples tell? Then their rows are to be compared."""
    days = ours.keys() & theirs.keys()
    return any(_meet(ours[day].rows, theirs[day].rows) or _meet(ours[day].charges, theirs[day].charges) for day in days)


def _meet(a: Sequence[str], b: Sequence[str]) -> bool:
    """Of two ordered samples only what lies below the ends of both was looked at in both."""
    ends = [sample[-1] for sample in (a, b) if len(sample) >= SAMPLED]
    end = min(ends, default="g")
    below = [{each for each in sample if each <= end} for sample in (a, b)]
    if below[0] & below[1]:
        return True
    return bool(a and b) and min(map(len, below)) < _TELLING and bool(ends)


def shared(
    connection: duckdb.DuckDBPyConnection, ours: Slices, theirs: Slices, *, exactly: bool, whole: bool
) -> Shared | None:
    """What two scopes hold both on the days that both have, read row by row; None where neither proof is given.

    `exactly`: these days' fingerprints are equal, so they are the same even where nothing costs anything. `whole`: the
    second has no other days.
    """
    days = sorted(ours.keys() & theirs.keys())
    if not days:
        return None
    compared = [_Compared(*row) for row in connection.execute(_compared(ours, theirs, days)).fetchall()]
    rows = [c for c in compared if c.what == "rows"]
    whole = whole and all(c.common == c.theirs for c in rows)
    same = days if exactly else [d for d in days if _half([c for c in rows if c.day == d], min, least=1)]
    if same:
        found = [c for c in rows if c.day in same]
        return Shared(tuple(same), sum(c.common for c in found), _fewer(found), 0, _cost(found), whole)
    charges = [c for c in compared if c.what == "charges"]
    if not _half(charges, max, LEAST_CHARGES):
        return None
    found = [c for c in charges if c.common]
    return Shared(tuple(sorted({c.day for c in found})), 0, 0, sum(c.common for c in found), _cost(found), False)


def shared_by_files(connection: duckdb.DuckDBPyConnection, slices: Slices) -> list[tuple[str, str, Shared]]:
    """Pairs of one scope's files that hold the same charges, with what both hold, those with most rows first.

    Proved by rows that stand in both: half of those of the smaller file, or half of all of either on one day; or by
    nearly all charges of either, at other amounts, where each stands once in both: a restated copy. Parts that were cut
    out of one table at random share few of them.
    """
    files = file_list(file for day in sorted(slices) for file in slices[day])
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE by_file AS SELECT {SOURCE_FILE} AS file, charge_date,"
        f" hash(charge, {', '.join(_AMOUNTS)}) AS id, charge, count(*) AS n, any_value(named) AS named,"
        f" any_value(coalesce(BillingCurrency, '')) AS currency, any_value({EFFECTIVE}) AS each FROM"
        f" (SELECT *, hash({', '.join(_CHARGE)}) AS charge, {_NAMED} AS named FROM {by_day(files)} WHERE {_COSTS})"
        " GROUP BY 1, 2, 3, 4"
    )
    held: dict[str, dict[date, int]] = {}
    for file, day, n in connection.execute("SELECT file, charge_date, sum(n) FROM by_file GROUP BY 1, 2").fetchall():
        held.setdefault(file, {})[day] = int(n)
    common: dict[tuple[str, str], dict[date, int]] = {}
    cost: dict[tuple[str, str], list[tuple[date, str, Decimal]]] = {}
    for a, b, day, currency, n, amount in connection.execute(
        "SELECT a.file, b.file, charge_date, any_value(a.currency), sum(least(a.n, b.n)),"
        " sum(a.each * least(a.n, b.n))::DECIMAL(38, 18)"
        " FROM by_file a JOIN by_file b USING (charge_date, id) WHERE a.file < b.file GROUP BY 1, 2, 3, a.currency"
    ).fetchall():
        of_day = common.setdefault((a, b), {})
        of_day[day] = of_day.get(day, 0) + int(n)
        cost.setdefault((a, b), []).append((day, currency, amount))
    found = []
    for (a, b), by_days in common.items():
        rows, fewer = sum(by_days.values()), min(sum(held[file].values()) for file in (a, b))
        copied = rows >= HALF * fewer and (rows >= LEAST_ROWS or held[a] == held[b] == by_days)
        days = by_days if copied else {
            day: n for day, n in by_days.items() if n >= LEAST_ROWS and n >= HALF * max(held[a][day], held[b][day])
        }  # fmt: skip
        if days:
            of = sum(min(held[a][day], held[b][day]) for day in days)
            amounts = _by_currency((currency, amount) for day, currency, amount in cost[a, b] if day in days)
            found.append((a, b, Shared(tuple(sorted(days)), sum(days.values()), of, 0, amounts, False)))
    return sorted(found or _restated_copies(connection), key=lambda each: (-each[2].rows, -each[2].charges, each[:2]))


def _restated_copies(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, Shared]]:
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE charges_by_file AS SELECT file, charge_date, charge, sum(n) AS n,"
        " any_value(currency) AS currency, sum(each * n) AS each FROM by_file WHERE named GROUP BY 1, 2, 3"
    )
    of_file = dict(connection.execute("SELECT file, count(*) FROM charges_by_file GROUP BY 1").fetchall())
    pairs: dict[tuple[str, str], list[tuple[date, str, int, Decimal]]] = {}
    for a, b, *rest in connection.execute(
        "SELECT a.file, b.file, charge_date, a.currency, count(*), sum(a.each)::DECIMAL(38, 18)"
        " FROM charges_by_file a JOIN charges_by_file b USING (charge_date, charge)"
        " WHERE a.file < b.file AND a.n = 1 AND b.n = 1 GROUP BY 1, 2, 3, 4"
    ).fetchall():
        pairs.setdefault((a, b), []).append(tuple(rest))
    found = []
    for (a, b), parts in pairs.items():
        charges = sum(n for _, _, n, _ in parts)
        if charges >= LEAST_CHARGES and charges >= NEARLY_ALL * max(of_file[a], of_file[b]):
            amounts = _by_currency((currency, amount) for _, currency, _, amount in parts)
            found.append((a, b, Shared(tuple(sorted({day for day, *_ in parts})), 0, 0, charges, amounts, False)))
    return found


def at_another_grain(connection: duckdb.DuckDBPyConnection, ours: Slices, theirs: Slices) -> Shared | None:
    """What two scopes hold both on the days that both have, where one bills by the hour what the other bills by the day.

    Proved by a day on which each charge, whatever its times, costs the same in both, covers its time without a gap in both
    and at common times, and some named one stands in another number of rows. Parts of a day by hour have no common time.
    """
    days = sorted(ours.keys() & theirs.keys())
    sides = [
        f"SELECT charge_date, hash({', '.join(_CHARGE_OF_A_DAY)}) AS id, any_value(coalesce(BillingCurrency, '')) AS currency,"
        f" sum({EFFECTIVE}) AS cost, count(*) AS n, bool_and({_NAMED}) AS named, min(ChargePeriodStart) AS first,"
        " max(ChargePeriodEnd) AS end, sum(epoch(ChargePeriodEnd) - epoch(ChargePeriodStart)) AS seconds"
        f" FROM {by_day(file_list(f for day in days for f in side[day]))} WHERE {_COSTS} GROUP BY 1, 2"
        for side in (ours, theirs)
    ]
    whole = " AND ".join(f"{s}.seconds >= epoch({s}.end) - epoch({s}.first)" for s in "ot")
    same = f"o.cost = t.cost AND o.first < t.end AND t.first < o.end AND {whole}"
    found = connection.execute(
        f"SELECT charge_date, any_value(o.currency), count(*), sum(o.cost)::DECIMAL(38, 18)"
        f" FROM ({sides[0]}) o FULL JOIN ({sides[1]}) t USING (charge_date, id) GROUP BY charge_date, o.currency"
        f" HAVING bool_and(coalesce({same}, false)) AND bool_or(o.n <> t.n AND o.named AND t.named) ORDER BY 1"
    ).fetchall()
    if not found:
        return None
    amounts = _by_currency((currency, amount) for _, currency, _, amount in found)
    told = tuple(sorted({day for day, *_ in found}))
    return Shared(told, 0, 0, sum(n for _, _, n, _ in found), amounts, False, grain=True)


@dataclass(frozen=True)
class _Compared:
    """Of a day and currency the rows, or the charges, of both sides, and what those in both cost in ours."""

    what: str
    day: date
    currency: str
    common: int
    ours: int
    theirs: int
    cost: Decimal


def _half(compared: Sequence[_Compared], of: Callable[[int, int], int], least: int) -> bool:
    """Are at least half in both, of the side with fewer (`min`) or with more (`max`) of them?"""
    common = sum(c.common for c in compared)
    return common >= least and common >= HALF * of(sum(c.ours for c in compared), sum(c.theirs for c in compared))


def _fewer(compared: Iterable[_Compared]) -> int:
    return sum(min(c.ours, c.theirs) for c in compared)


def _cost(compared: Iterable[_Compared]) -> dict[str, Decimal]:
    return _by_currency((each.currency, each.cost) for each in compared if each.common)


def _by_currency(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for currency, amount in amounts:
        total[currency] = total.get(currency, Decimal(0)) + amount
    return total


def _compared(ours: Slices, theirs: Slices, days: Iterable[date]) -> str:
    """SQL: what `_Compared` says, of rows and of charges."""
    wanted = list(days)
    sides = [_hashed({day: slices[day] for day in wanted}) for slices in (ours, theirs)]
    grouped = [
        f"SELECT charge_date, row_hash AS id, count(*) AS n, any_value(charge_hash) FILTER (WHERE {_NAMED}) AS charge,"
        f" any_value(coalesce(BillingCurrency, '')) AS currency, any_value({EFFECTIVE}) AS each"
        f" FROM ({side}) GROUP BY 1, 2"
        for side in sides
    ]
    by_charge = [
        "SELECT charge_date, charge AS id, 1 AS n, any_value(currency) AS currency, sum(n * each) AS each"
        f" FROM {side} WHERE charge IS NOT NULL GROUP BY 1, 2"
        for side in ("ours", "theirs")
    ]
    both = "o.n IS NOT NULL AND t.n IS NOT NULL"

    def side_by_side(what: str, a: str, b: str) -> str:
        return (
            f"SELECT '{what}', charge_date, coalesce(o.currency, t.currency),"
            f" coalesce(sum(least(o.n, t.n)) FILTER (WHERE {both}), 0)::BIGINT,"
            " coalesce(sum(o.n), 0)::BIGINT, coalesce(sum(t.n), 0)::BIGINT,"
            f" coalesce(sum(o.each * least(o.n, t.n)) FILTER (WHERE {both}), 0)::DECIMAL(38, 18)"
            f" FROM {a} o FULL JOIN {b} t USING (charge_date, id) GROUP BY 2, 3"
        )

    return (
        f"WITH ours AS ({grouped[0]}), theirs AS ({grouped[1]}),"
        f" our_charges AS ({by_charge[0]}), their_charges AS ({by_charge[1]})"
        f" {side_by_side('rows', 'ours', 'theirs')} UNION ALL"
        f" {side_by_side('charges', 'our_charges', 'their_charges')}"
    )


def _hashed(slices: Slices) -> str:
    """SQL: the rows with cost of a scope's days, a hash of each as it is and one of the charge that it is."""
    files = file_list(file for day in sorted(slices) for file in slices[day])
    return (
        f"SELECT charge_date, {', '.join(_AMOUNTS)}, BillingCurrency, ChargeClass, ResourceId, SkuId, SkuPriceId,"
        f" {_CHARGE_HASH} AS charge_hash, {_ROW_HASH} AS row_hash FROM {by_day(files)} WHERE {_COSTS}"
    )


def _texts(hashes: Iterable[int] | None) -> tuple[str, ...]:
    """The highest digits of hashes: they keep their order. One that many rows have is there as often."""
    return tuple(f"{each:016x}"[:_DIGITS] for each in hashes or ())


def _smallest(*samples: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(each for sample in samples for each in sample)[:SAMPLED])
