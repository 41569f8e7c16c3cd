"""An export's relation -> a relation of FOCUS columns, in SQL that a mapping file holds.

Whatever no FOCUS column takes over as it is stays as an x_ column. Rows in are rows out, except those that another
set of the same delivery holds: they are counted, and their cost was compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from finops_assets.base.errors import DeliveryRefused
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.specification import canonical_name
from finops_assets.ingest.conversion import arithmetic, aws, azure, gcp, oci
from finops_assets.ingest.conversion.mapping import Dialect, dialects, mapping_of, native_layouts, service_macros
from finops_assets.ingest.conversion.named_sql import NamedSql
from finops_assets.ingest.conversion.source_columns import NULL_TEXT, SourceColumns, fields
from finops_assets.ingest.conversion.split_cost import split_costs
from finops_assets.ingest.layouts.delivery import Delivery
from finops_assets.ingest.reading.dlt_names import in_focus_names
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable, PlainFile
from finops_assets.ingest.vendors.shipped import mapping_file
from finops_assets.settings.sources import Source
from finops_assets.storage.duck import ROW_GROUP_ROWS, one_file
from finops_assets.storage.repair import Repair

_BY_TYPE = "gcp-focus-view"


def in_focus(
    connection: duckdb.DuckDBPyConnection, source: Source, delivery: Delivery, export: ExportTable
) -> ExportTable:
    """The export as FOCUS: converted if its layout is a native bill or its columns are a dialect, else as it is.

    Raises:
        DeliveryRefused: the columns are not those of the layout, or two sets of a delivery contradict each other.
    """
    if source.layout == "dlt":
        export = in_focus_names(source.name, delivery.scope, export)
    columns = SourceColumns(connection, export)
    try:
        mapping = mapping_of(source)
    except ValueError as error:
        raise DeliveryRefused(source.name, delivery.scope, f"mapping {error}") from error
    if mapping is None:
        other = native_bill(columns, export)
        if other is not None:
            raise DeliveryRefused(
                source.name,
                delivery.scope,
                f"its columns are those of {other.title}, not of FOCUS; set layout: {other.layout} on the source",
            )
        mapping = spoken_dialect(columns)
        return export if mapping is None else converted(connection, export, mapping)
    if mapping_file(source) is not None and not _speaks_native(columns, mapping):
        missing = ", ".join(name.replace("|", " or ") for name in mapping.needs if not columns.has(name))
        raise DeliveryRefused(
            source.name,
            delivery.scope,
            f"it has no column {missing}, which mapping {mapping.name} asks for (its columns begin with"
            f" {', '.join(columns.names[:5])}); correct the mapping, or name there under `optional` what may be absent",
        )
    if not _speaks_native(columns, mapping):
        raise DeliveryRefused(source.name, delivery.scope, _not_of_the_layout(columns, export, mapping))
    try:
        return converted(connection, export, mapping, dict(delivery.datasets))
    except azure.SetsDiffer as error:
        raise DeliveryRefused(source.name, delivery.scope, str(error)) from error
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
        if mapping_file(source) is None:
            raise
        said = str(error).partition("\n")[0]
        raise DeliveryRefused(source.name, delivery.scope, f"the SQL of mapping {mapping.name}: {said}") from error


def converted(
    connection: duckdb.DuckDBPyConnection,
    export: ExportTable,
    mapping: Dialect,
    datasets: Mapping[str, str] | None = None,
) -> ExportTable:
    """The export's rows in the columns that a mapping gives.

    Raises:
        azure.SetsDiffer: actual and amortised cost (`datasets`: file -> which) do not hold the same.
    """
    arithmetic.register(connection)
    for macro in service_macros():
        connection.execute(macro)
    source = SourceColumns(connection, export)
    given = _given(connection, export, source, mapping, datasets or {})
    named = {**mapping.named, **given.named}
    if mapping.native:
        select = _native(source, mapping, named)
        done = given.consumed | _taken_over(source, mapping)
        rest = [name for name in source.names if name not in done and name.casefold() not in mapping.without]
        select |= _rest(connection, export, rest, select)
        if mapping.name == "aws-cur" and (split := split_costs(connection, export, source, select)):
            select |= split.columns
            given = replace(given, join=split.join, notes=(*given.notes, *split.notes))
    else:
        select = _dialect(source, mapping, named)
    where = f" WHERE {given.where}" if given.where else ""
    # A note is said over the source's columns, so it travels as a column of its own.
    notes = tuple(replace(note, found=f"e.{identifier(f'note {n}')}") for n, note in enumerate(given.notes))
    said_of_rows = {f"note {n}": note.found for n, note in enumerate(given.notes)}
    listed = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in (select | said_of_rows).items())
    sql = f"SELECT {listed}, e.{SOURCE_FILE}, e.{SOURCE_ROW} FROM ({export.sql}) e{given.join}{where}"
    described = connection.execute(f"DESCRIBE {sql}").fetchall()
    types = {str(name): str(kind) for name, kind, *_ in described if name not in said_of_rows}
    said = () if mapping.native else _said(connection, export, source, mapping)
    return ExportTable(sql, types, (*export.counted, *given.counted, *said), notes, given.left_out)


def written_once(connection: duckdb.DuckDBPyConnection, export: ExportTable, folder: Path) -> ExportTable:
    """A converted export as a file below `folder`: whoever looks at its rows would convert them, each time anew.

    It stays as it was where a file of Parquet would bring another type back.
    """
    file = folder / "converted.parquet"
    connection.execute(
        f"COPY ({export.sql}) TO {literal(str(file))} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
    )
    read = f"SELECT * FROM read_parquet({literal(one_file(file))}, hive_partitioning = false)"
    before, after = (connection.execute(f"DESCRIBE {sql}").fetchall() for sql in (export.sql, read))
    if [column[:2] for column in before] != [column[:2] for column in after]:
        file.unlink()
        return export
    return replace(export, sql=read, files=(PlainFile(file, None),))


def native_bill(source: SourceColumns, export: ExportTable) -> Dialect | None:
    """The mapping of the native bill whose columns an export has; None if it is FOCUS, or unknown."""
    if "ChargePeriodStart" in export.focus_columns:
        return None
    return next((d for d in native_layouts().values() if _speaks_native(source, d)), None)


def spoken_dialect(source: SourceColumns) -> Dialect | None:
    """The dialect of FOCUS that an export's columns speak, if it is one that needs anything."""
    present = {name.casefold() for name in source.names}
    for dialect in dialects().values():
        if dialect.native or not any(name.casefold() in present for name in dialect.any):
            continue
        if any(name.casefold() in present for name in dialect.absent):
            continue
        if dialect.name != _BY_TYPE or _tags_say_what_they_are(source):
            return dialect
    return None


def _tags_say_what_they_are(source: SourceColumns) -> bool:
    found = source.raw("Tags")
    return found is not None and bool({"x_type", "type"} & {name.casefold() for name, _ in fields(found[1])})


def _speaks_native(source: SourceColumns, dialect: Dialect) -> bool:
    return all(source.has(name) for name in dialect.needs)


def _not_of_the_layout(source: SourceColumns, export: ExportTable, mapping: Dialect) -> str:
    missing = ", ".join(name.replace("|", " or ") for name in mapping.needs if not source.has(name))
    begins = ", ".join(source.names[:5])
    if "ChargePeriodStart" in export.focus_columns and "BilledCost" in export.focus_columns:
        fit = {"aws-cur": "aws-data-exports", "azure-actual-amortized": "azure-exports"}.get(str(mapping.layout))
        fit = fit or {"gcp-detailed": "gcs-export", "oci-cost-report": "oci-focus"}.get(str(mapping.layout))
        return f"its columns are FOCUS already, not {mapping.title}; set layout: {fit}, or files, on the source"
    other = next((d for d in native_layouts().values() if d is not mapping and _speaks_native(source, d)), None)
    choose = (
        f"they are those of {other.title}: set layout: {other.layout}" if other else "choose another layout or export"
    )
    return f"is not {mapping.title}: it has no column {missing} (its columns begin with {begins}); {choose}"


def _given(
    connection: duckdb.DuckDBPyConnection,
    export: ExportTable,
    source: SourceColumns,
    mapping: Dialect,
    datasets: Mapping[str, str],
) -> NamedSql:
    match mapping.name:
        case "aws-cur":
            return aws.given(connection, export, source, mapping)
        case "azure-actual-amortized":
            return azure.given(connection, export, source, mapping, datasets)
        case "gcp-detailed":
            return gcp.given(connection, export, source, mapping)
        case "oci-cost-report":
            return oci.given(source)
        case "gcp-focus-export":
            order = (("x_SystemLabels",), ("x_ProjectLabels",), ("x_Labels",), ("x_Tags",))
            tags, _, notes = gcp.tags_by_precedence(source, *order)
            return NamedSql({"tags": tags}, notes=notes)
        case "gcp-focus-view":
            return NamedSql({"tags": gcp.view_tags(source)})
        case _:
            return NamedSql()


def _native(source: SourceColumns, mapping: Dialect, named: Mapping[str, str]) -> dict[str, str]:
    """The FOCUS columns of a native bill, and the originals that a mapping keeps under one name."""
    select: dict[str, str] = {}
    for name, sql in _expressions(mapping):
        alone = source.alone(sql) if sql else None
        if alone is not None:
            select[name] = alone[0]
        elif name not in mapping.kept or source.has(str(sql).strip("{}")):
            select[name] = source.filled(sql, named) if sql else NULL_TEXT
    return select


def _expressions(mapping: Dialect) -> list[tuple[str, str | None]]:
    return [(column.name, column.sql) for column in mapping.columns.values()] + list(mapping.kept.items())


def _taken_over(source: SourceColumns, mapping: Dialect) -> set[str]:
    """The columns as written that stand in the result as they are; a field of a struct is not the whole of it."""
    alone = (source.alone(sql) for _, sql in _expressions(mapping) if sql)
    return {name for found in alone if found for sql, name in [found] if sql == f"e.{identifier(name)}"}


def _rest(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, names: Sequence[str], taken: Iterable[str]
) -> dict[str, str]:
    """All other columns that hold any value, as x_ columns: what no FOCUS column takes over as it is."""
    if not names:
        return {}
    counts = ", ".join(f"count({identifier(name)})" for name in names)
    filled = connection.execute(f"SELECT {counts} FROM ({export.sql})").fetchone() or ()
    folded = {name.casefold() for name in taken}
    rest = {}
    for name, count in zip(names, filled):
        if count:
            kept = "x_" + re.sub(r"\W+", "_", name.removeprefix("x_")).strip("_")
            while kept.casefold() in folded:
                kept += "_"
            folded.add(kept.casefold())
            rest[kept] = f"e.{identifier(name)}"
    return rest


def _dialect(source: SourceColumns, mapping: Dialect, named: Mapping[str, str]) -> dict[str, str]:
    """Every column as it is, those of the mapping added; one that is replaced stays under another name."""
    changed = _changed(source, mapping)
    select: dict[str, str] = {}
    for name in source.names:
        focus = canonical_name(name)
        select[f"x_{focus}_as_written" if focus in changed else name] = f"e.{identifier(name)}"
    for name, sql in changed.items():
        alone = source.alone(sql)
        select[name] = alone[0] if alone else source.filled(sql, named)
    return select


def _changed(source: SourceColumns, mapping: Dialect) -> dict[str, str]:
    """The FOCUS columns that a dialect's mapping gives for this file, with their SQL."""
    return {
        column.name: column.sql
        for column in mapping.columns.values()
        if column.sql and (column.kind != "filled" or source.has(column.sql.strip("{}")))
    }


def _said(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, source: SourceColumns, mapping: Dialect
) -> tuple[Repair, ...]:
    """That a file spoke a dialect, by the columns that were translated."""
    files = connection.execute(f"SELECT {SOURCE_FILE}, count(*) FROM ({export.sql}) GROUP BY 1 ORDER BY 1").fetchall()
    return tuple(
        Repair(file, f"dialect {mapping.name}", name, rows)
        for file, rows in files
        for name in _changed(source, mapping)
    )
