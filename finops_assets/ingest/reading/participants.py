"""The three participants of FOCUS 1.3 and later, filled for exports that only know provider and publisher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import duckdb

from finops_assets.base.sql import identifier, literal
from finops_assets.focus.participants import same_company
from finops_assets.ingest.reading.export_table import CanonicalColumn
from finops_assets.ingest.reading.relation import ExportTable

FILLED = "participant_filled"


def marketplace_charges(connection: duckdb.DuckDBPyConnection, export: ExportTable) -> str:
    """SQL over the export's rows (alias e): does the publisher sell this through the provider's marketplace?"""
    names = export.focus_columns
    if not {"ProviderName", "PublisherName"} <= names.keys():
        return "false"
    provider, publisher = (f"CAST(e.{identifier(names[n])} AS VARCHAR)" for n in ("ProviderName", "PublisherName"))
    # There are few pairs: they are compared once, not in every row.
    pairs = connection.execute(
        f"""
        SELECT provider, publisher FROM (
            SELECT DISTINCT {provider} AS provider, {publisher} AS publisher FROM ({export.sql}) e
            WHERE {publisher} <> {provider} AND {publisher} <> ''
        ) WHERE NOT {same_company("provider", "publisher")} ORDER BY ALL
        """
    ).fetchall()
    by_provider: dict[str, list[str]] = {}
    for seller, vendor in pairs:
        by_provider.setdefault(seller, []).append(literal(vendor))
    listed = [
        f"({provider} = {literal(seller)} AND {publisher} IN ({', '.join(vendors)}))"
        for seller, vendors in by_provider.items()
    ]
    return f"coalesce({' OR '.join(listed)}, false)" if listed else "false"


def with_participants(
    columns: Mapping[str, CanonicalColumn], present: Mapping[str, str], marketplace: str
) -> dict[str, CanonicalColumn]:
    """The mappings of ServiceProviderName and HostProviderName, by the specification's Version Migration Guidance.

    service provider = ServiceProviderName, else the publisher of a marketplace charge, else ProviderName. A data set
    that has the column and leaves it empty is repaired; one that is older is not. Host = HostProviderName where the data
    set has it (it may be empty: licences, tax), else ProviderName, but for tax. InvoiceIssuerName is in every version.
    """
    provider, publisher = columns["ProviderName"].sql, columns["PublisherName"].sql
    sold = provider if marketplace == "false" else f"CASE WHEN {marketplace} THEN {publisher} ELSE {provider} END"
    own = columns["ServiceProviderName"]
    result = {}
    if "ServiceProviderName" not in present:
        result[own.name] = replace(own, sql=sold)
    elif provider_named(present):
        filled = (FILLED, f"({own.found_name} IS NULL AND {own.name} IS NOT NULL)")
        result[own.name] = replace(own, sql=f"coalesce({own.sql}, {sold})", found=own.sql, repairs=(filled,))
    if "HostProviderName" not in present:
        host = columns["HostProviderName"]
        category = columns["ChargeCategory"].sql
        result[host.name] = replace(host, sql=f"CASE WHEN {category} = 'Tax' THEN NULL ELSE {provider} END")
    return result


def provider_named(present: Mapping[str, str]) -> bool:
    """Can anything be derived at all? FOCUS 1.4 has no ProviderName."""
    return "ProviderName" in present
