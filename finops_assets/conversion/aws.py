"""AWS Cost and Usage Report: net or gross cost, the rounding between covered usage and its negation, tags."""

from __future__ import annotations

import re

import duckdb

from finops_assets.conversion.given import Given
from finops_assets.conversion.mapping import Dialect
from finops_assets.conversion.source_columns import SourceColumns
from finops_assets.conversion.tags import from_columns, joined, unreadable
from finops_assets.engine import literal
from finops_assets.focus.money import decimal_from_text
from finops_assets.sources.reading import ExportTable, Note
from finops_assets.sources.spelling import SOURCE_FILE, SOURCE_ROW

_PAIR = "('SavingsPlanCoveredUsage', 'SavingsPlanNegation')"
# CUR 2.0 may give one map of all kinds of tags, each key with the kind before it.
_OWN = "resourceTags/"


def given(connection: duckdb.DuckDBPyConnection, export: ExportTable, source: SourceColumns, dialect: Dialect) -> Given:
    has_net = False
    if source.has("lineItem/NetUnblendedCost"):
        net = source.text("lineItem/NetUnblendedCost")
        [(filled,)] = connection.execute(f"SELECT count({net}) FROM ({export.sql}) e").fetchall()
        has_net = filled > 0
    basis = {"has_net": str(has_net).lower()}
    named = {**dialect.named, **basis}
    kind, cost = source.filled("{@type}", named), source.filled("{@cost}", named)
    currency = source.text("lineItem/CurrencyCode")
    place = f"{{'file': e.{SOURCE_FILE}, 'row': e.{SOURCE_ROW}}}"
    # By currency: what covered usage at its on-demand price and the negation of it differ by.
    differing = connection.execute(
        f"""
        SELECT sum({decimal_from_text(cost)}) AS rest,
            coalesce(min({place}) FILTER (WHERE {kind} = 'SavingsPlanNegation'), min({place})) AS place
        FROM ({export.sql}) e WHERE {kind} IN {_PAIR} GROUP BY {currency} HAVING rest <> 0
        """
    ).fetchall()
    whens = " ".join(
        f"WHEN e.{SOURCE_FILE} = {literal(at['file'])} AND e.{SOURCE_ROW} = {at['row']} THEN '{rest:f}'"
        for rest, at in differing
    )
    rest = f"CASE {whens} END" if whens else "CAST(NULL AS VARCHAR)"
    notes: tuple[Note, ...] = (Note("savings_plan_rest", "BilledCost", rest),) if whens else ()
    if has_net:
        discount = f"{kind} LIKE '%Discount' AND {source.text('lineItem/NetUnblendedCost')} IS NULL"
        gross = source.text("lineItem/UnblendedCost")
        notes += (Note("discount_in_net_cost", "BilledCost", f"CASE WHEN {discount} THEN {gross} END"),)
    tags, columns, unread = _tags(source)
    own = {**basis, "negation_rest": f"coalesce({rest}, '0')", "tags": tags}
    return Given(own, notes=(*notes, *unread), consumed=frozenset(columns))


def _tags(source: SourceColumns) -> tuple[str, list[str], list[Note]]:
    lists: list[str] = []
    notes: list[Note] = []
    own = source.starting_with(_OWN)
    flat = source.starting_with("resource_tags_user_", "resource_tags_aws_")
    columns = [*own, *flat]
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
            [(n[len(_OWN) :], n) for n in own]
            + [(re.sub(r"^resource_tags_(user|aws)_", r"\1:", n, flags=re.IGNORECASE), n) for n in flat]
        )
    )
    return joined(lists), columns, notes
