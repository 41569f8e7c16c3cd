"""AWS Cost and Usage Report: net or gross cost, the rounding between covered usage and its negation, tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb

from finops_assets.base.sql import literal
from finops_assets.focus.money import decimal_from_text
from finops_assets.ingest.conversion.mapping import Dialect
from finops_assets.ingest.conversion.named_sql import NamedSql
from finops_assets.ingest.conversion.source_columns import SourceColumns
from finops_assets.ingest.conversion.tags import from_columns, joined, unreadable
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable, Note

# What rounding may leave of an hour of a savings plan, in the currency.
_ROUNDING = Decimal("0.01")
_PAIR = "('SavingsPlanCoveredUsage', 'SavingsPlanNegation')"
# CUR 2.0 may give one map of all kinds of tags, each key with the kind before it.
_OWN = "resourceTags/"


def given(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, source: SourceColumns, dialect: Dialect
) -> NamedSql:
    has_net = False
    if source.has("lineItem/NetUnblendedCost"):
        net = source.text("lineItem/NetUnblendedCost")
        [(filled,)] = connection.execute(f"SELECT count({net}) FROM ({export.sql}) e").fetchall()
        has_net = filled > 0
    basis = {"has_net": str(has_net).lower()}
    named = {**dialect.named, **basis}
    kind, cost = source.filled("{@type}", named), source.filled("{@cost}", named)
    pair_billed, notes = _negations(connection, export, source, kind, cost)
    if has_net:
        discount = f"{kind} LIKE '%Discount' AND {source.text('lineItem/NetUnblendedCost')} IS NULL"
        gross = source.text("lineItem/UnblendedCost")
        notes += (Note("discount_in_net_cost", "BilledCost", f"CASE WHEN {discount} THEN {gross} END"),)
    tags, columns, unread = _tags(source)
    own = {**basis, "negation_rest": f"coalesce({pair_billed}, '0')", "tags": tags}
    return NamedSql(own, notes=(*notes, *unread), consumed=frozenset(columns))


def _negations(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, source: SourceColumns, kind: str, cost: str
) -> tuple[str, tuple[Note, ...]]:
    """SQL: what stays billed of covered usage at its on-demand price and of its negation, that the sum is the report's.

    Both are 0, and what they differ by stands on one row of a currency, if rounding explains it: a cent for each hour
    of a plan. What differs by more was not negated in this report, as in one that somebody filtered: then nothing of
    that plan is moved, every row keeps what it says, and its covered usage tells that it does.
    """
    currency, plan, hour = (
        source.text(name) for name in ("lineItem/CurrencyCode", "savingsPlan/SavingsPlanARN", "lineItem/UsageStartDate")
    )
    place = f"{{'file': e.{SOURCE_FILE}, 'row': e.{SOURCE_ROW}}}"
    plans: dict[str, list[_Plan]] = {}
    for code, *of_plan in connection.execute(
        f"""
        SELECT coalesce({currency}, ''), coalesce({plan}, ''), coalesce(sum({decimal_from_text(cost)}), 0),
            count(DISTINCT {hour}), min({place}) FILTER (WHERE {kind} = 'SavingsPlanNegation'), min({place})
        FROM ({export.sql}) e WHERE {kind} IN {_PAIR} GROUP BY 1, 2 ORDER BY 1, 2
        """
    ).fetchall():
        plans.setdefault(code, []).append(_Plan(*of_plan))
    corrected: list[_Plan] = []
    unmatched: list[tuple[str, str]] = []
    for code, of_currency in plans.items():
        # A negation may name no plan, so a currency that comes out is fine as a whole.
        together = _Plan(
            "",
            sum((each.rest for each in of_currency), Decimal(0)),
            sum(each.hours for each in of_currency),
            min((each.negation for each in of_currency if each.negation), key=_at, default=None),
            min((each.first for each in of_currency), key=_at),
        )
        if together.rounds:
            corrected.append(together)
            continue
        corrected += [each for each in of_currency if each.rounds]
        unmatched += [(code, each.arn) for each in of_currency if not each.rounds]
    whens = " ".join(
        f"WHEN e.{SOURCE_FILE} = {literal(each.place['file'])} AND e.{SOURCE_ROW} = {each.place['row']}"
        f" THEN '{each.rest:f}'"
        for each in corrected
        if each.rest
    )
    billed = f"CASE {whens} END" if whens else "CAST(NULL AS VARCHAR)"
    notes = [Note("savings_plan_rest", "BilledCost", billed)] if whens else []
    if unmatched:
        named = " OR ".join(
            f"(coalesce({currency}, '') = {literal(code)} AND coalesce({plan}, '') = {literal(arn)})"
            for code, arn in unmatched
        )
        covered = f"CASE WHEN {kind} = 'SavingsPlanCoveredUsage' AND ({named}) THEN {cost} END"
        notes.append(Note("savings_plan_without_negation", "BilledCost", covered))
        billed = f"coalesce({billed}, CASE WHEN {kind} IN {_PAIR} AND ({named}) THEN {cost} END)"
    return billed, tuple(notes)


@dataclass(frozen=True)
class _Plan:
    """A savings plan's covered usage less its negation, and where the first row of either stands."""

    arn: str
    rest: Decimal
    hours: int
    negation: Mapping[str, Any] | None
    first: Mapping[str, Any]

    @property
    def rounds(self) -> bool:
        """Is the rest no more than rounding can leave?"""
        return abs(self.rest) <= _ROUNDING * self.hours

    @property
    def place(self) -> Mapping[str, Any]:
        """The row that takes the rest."""
        return self.negation or self.first


def _at(place: Mapping[str, Any]) -> tuple[str, int]:
    return place["file"], place["row"]


def _tags(source: SourceColumns) -> tuple[str, list[str], list[Note]]:
    lists: list[str] = []
    notes: list[Note] = []
    own = source.starting_with(_OWN)
    flat = source.starting_with("resource_tags_user_", "resource_tags_aws_")
    columns = [column for _, column in (*own, *flat)]
    for holder in ("tags", "resource_tags"):
        found = source.raw(holder)
        if found is None:
            continue
        sql, kind = found
        columns.append(str(source.column(holder)))
        if kind.id == "varchar":
            notes.append(Note("not_a_tag_set", "Tags", str(unreadable(sql, kind))))
            sql = f"TRY_CAST(TRY_CAST({sql} AS JSON) AS MAP(VARCHAR, VARCHAR))"
        # Tags of the account, of its users and cost categories keep their prefix; the resource's own lose it.
        key = (
            f"CASE WHEN starts_with(t.key, '{_OWN}') THEN substr(t.key, {len(_OWN) + 1})"
            " ELSE regexp_replace(t.key, '^(user|aws)_', '\\1:') END"
        )
        lists.append(
            f"coalesce(list_transform(map_entries({sql}), lambda t: {{'key': {key}, 'value': CAST(t.value AS VARCHAR)}}),"
            ' []::STRUCT("key" VARCHAR, "value" VARCHAR)[])'
        )
    lists.append(
        from_columns(
            [(n[len(_OWN) :], column) for n, column in own]
            + [(re.sub(r"^resource_tags_(user|aws)_", r"\1:", n, flags=re.IGNORECASE), column) for n, column in flat]
        )
    )
    return joined(lists), columns, notes
