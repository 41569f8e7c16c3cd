"""What can be judged: export files as they were written, or the raw days of a source in the lake.

Both become one relation of canonical columns, with SQL for what only the written form tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.specification import Column, canonical_name, columns, detect_version
from finops_assets.ingest.reading.export_table import map_column, open_export
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable
from finops_assets.ingest.reading.spelling import NULL_SPELLINGS, how_written
from finops_assets.judge.conformance.rules import Kind, flat_json, pattern, repaired_kind
from finops_assets.storage.day_files import raw_relation
from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import Generation, Ledger

IN_FILE_ONLY = "the lake keeps the value as read, not as written; judge the file"


@dataclass(frozen=True)
class DataSet:
    """Rows of one FOCUS version, and what of them breaks the rules about single values.

    `rows` is a relation of every canonical column, source_file, source_row and charge_date (null where days are not
    told apart). `breaks` gives, by (kind, column), the SQL of a row that breaks the rule; `unjudged` the reason why a
    rule cannot be judged. A rule in neither is kept by the data's own types. `present` are the FOCUS columns in it by
    day (None: all days) with the name as written; `json` the columns whose text is to be looked into.
    """

    rows: str
    version: str
    present: Mapping[date | None, Mapping[str, str]]
    others: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    """FOCUS column -> SQL that is null where the row has no value for it."""
    found: Mapping[str, str] = field(default_factory=dict)
    """FOCUS column -> SQL of the value as written."""
    breaks: Mapping[tuple[Kind, str], str] = field(default_factory=dict)
    unjudged: Mapping[tuple[Kind, str], str] = field(default_factory=dict)
    json: Mapping[str, str] = field(default_factory=dict)
    repairs: str = "NULL"
    """SQL of what landing repaired in a row, where the rows have been landed."""

    @property
    def columns(self) -> set[str]:
        """The FOCUS columns that any day of it has."""
        return {name for names in self.present.values() for name in names}


def file_data_set(
    connection: duckdb.DuckDBPyConnection, root: Path, keys: Sequence[str], staging: Path, version: str | None = None
) -> DataSet:
    """Export files (Parquet, CSV, gzipped CSV) below `root`, as one data set, before anything is repaired.

    Raises:
        DeliveryRefused: a file is not what its name says, is cut off, or a CSV row is broken.
        FinopsError: it has no FOCUS column.
    """
    # In CSV only the empty field is null: a word is a value that somebody wrote.
    export = open_export(connection, "conformance", str(root), root, keys, staging, nulls=("",))
    names = export.focus_columns
    if not names:
        own = [name for name in export.types if name not in (SOURCE_FILE, SOURCE_ROW)]
        raise FinopsError(f"{', '.join(keys)}: no FOCUS column among {', '.join(own)}")
    words = ", ".join(literal(word) for word in sorted({s.lower() for s in NULL_SPELLINGS}))
    inner = [SOURCE_FILE, SOURCE_ROW]
    types: dict[str, str] = {}
    for focus, name in names.items():
        value, kind = identifier(name), export.types[name]
        types[focus] = kind
        inner.append(f"{value} AS {identifier(f'raw {focus}')}")
        blank = f"CASE WHEN lower(trim({value})) NOT IN ({words}) THEN {value} END" if kind == "VARCHAR" else value
        inner.append(f"{blank} AS {identifier(focus)}")
    without_words = ExportTable(f"SELECT {', '.join(inner)} FROM ({export.sql})", types)
    # Relations between columns are judged of what was meant, so that one misspelled date is one broken rule.
    written = how_written(connection, without_words)
    outer = [SOURCE_FILE, SOURCE_ROW, "CAST(NULL AS DATE) AS charge_date"]
    given, found, texts = {}, {}, {}
    breaks: dict[tuple[Kind, str], str] = {}
    for column in columns().values():
        if column.name not in types:
            outer.append(f"{map_column(column, None, '').sql} AS {column.name}")
            continue
        kind, raw = types[column.name], identifier(f"raw {column.name}")
        here = given[column.name] = identifier(f"given {column.name}")
        outer += [f"e.{raw} AS {raw}", f"e.{column.name} AS {here}"]
        outer.append(f"{map_column(column, column.name, kind, written).sql} AS {column.name}")
        found[column.name] = f"CAST({raw} AS VARCHAR)"
        breaks["nullability", column.name] = f"{here} IS NULL"
        if kind == "VARCHAR":
            breaks["placeholder", column.name] = f"({raw} IS NOT NULL AND {here} IS NULL)"
            if column.type == "json":
                texts[column.name] = here
        breaks |= _written_rules(column, kind, here)
    return DataSet(
        rows=f"(SELECT {', '.join(outer)} FROM ({without_words.sql}) e)",
        version=version or detect_version(export.types),
        present={None: names},
        others=tuple(export.other_columns),
        given=given,
        found=found,
        breaks=breaks,
        json=texts,
    )


def _written_rules(column: Column, kind: str, given: str) -> Iterator[tuple[tuple[Kind, str], str]]:
    """The SQL of a row whose value is of the wrong type or form, by the column's type in the file."""
    name = column.name
    is_text = kind == "VARCHAR"
    wrong_type = f"{given} IS NOT NULL"
    match column.type:
        case "decimal" | "datetime" if is_text:
            yield ("type", name), f"({given} IS NOT NULL AND {name} IS NULL)"
            yield ("format", name), f"NOT regexp_full_match({given}, {literal(pattern(column) or '')})"
        case "decimal" if not _is_number(kind):
            yield ("type", name), wrong_type
        case "datetime" if not kind.startswith("TIMESTAMP"):
            yield ("type", name), wrong_type
        case "string" if not is_text:
            yield ("type", name), wrong_type
        case "json" if (not is_text and not kind.startswith(("MAP", "STRUCT"))) or kind.endswith("]"):
            yield ("type", name), wrong_type
        case "json" if not is_text and name in flat_json() and kind.count("(") > 1 and "DECIMAL" not in kind:
            yield ("format", name), wrong_type
    if column.allowed:
        yield ("values", name), f"{given} NOT IN ({', '.join(literal(v) for v in column.allowed)})"


def _is_number(kind: str) -> bool:
    plain = kind.removeprefix("U")
    return kind.startswith("DECIMAL") or plain in (
        "DOUBLE", "FLOAT", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
    )  # fmt: skip


def source_data_sets(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    source: str,
    days: Iterable[date],
    version: str | None = None,
) -> list[DataSet]:
    """Raw days of a source, a data set for each FOCUS version that they were delivered in.

    What a day's deliveries had for columns is in the ledger; what was wrong as written stands in the rows' repairs.
    """
    live = list(Ledger(lake, source).all_live())
    held = [day for day in sorted(days) if lake.holds(lake.day_file("raw", source, day))]
    versions = sorted({g.focus_version for g in live if any(day in g.days for day in held)})
    result = []
    for found in versions:
        of_version = [g for g in live if g.focus_version == found]
        its_days = [day for day in held if any(day in g.days for g in of_version)]
        files = lake.day_files("raw", [source], its_days)
        rows = raw_relation(files)
        if len(versions) > 1:
            # The file that a row stood in tells its delivery, and so its version.
            listed = ", ".join(literal(key) for g in of_version for key, *_ in g.files)
            rows = f"(SELECT * FROM {rows} WHERE {SOURCE_FILE} IN ({listed}))"
        result.append(_source_data_set(connection, rows, of_version, its_days, version or found))
    return result


def _source_data_set(
    connection: duckdb.DuckDBPyConnection, rows: str, live: list[Generation], days: list[date], version: str
) -> DataSet:
    present: dict[date | None, Mapping[str, str]] = {}
    for day in days:
        of_day = [_focus_names(g.columns) for g in live if day in g.days]
        # A column that one of the day's deliveries lacks is missing on that day.
        present[day] = {name: of_day[0][name] for name in set(of_day[0]).intersection(*of_day)}
    broken: dict[tuple[Kind, str], list[str]] = {}
    for repair, repaired in _repairs(connection, rows):
        kind = repaired_kind(repair)
        if kind is not None:
            broken.setdefault((kind, repaired), []).append(
                f"(repairs IS NOT NULL AND contains(repairs, {literal(_entry(repair, repaired))}))"
            )
    breaks = {key: " OR ".join(conditions) for key, conditions in broken.items()}
    unjudged: dict[tuple[Kind, str], str] = {}
    for column in columns().values():
        name = column.name
        elsewhere = f"(repairs IS NOT NULL AND contains(repairs, {literal(_of_column(name))}))"
        breaks["nullability", name] = f"({name} IS NULL AND NOT {elsewhere})"
        unjudged["placeholder", name] = IN_FILE_ONLY
        if column.type in ("decimal", "datetime") and ("format", name) not in breaks:
            unjudged["format", name] = IN_FILE_ONLY
        if column.type in ("string", "json") and ("type", name) not in breaks:
            unjudged["type", name] = IN_FILE_ONLY
        if column.allowed:
            odd = f"{name} NOT IN ({', '.join(literal(v) for v in column.allowed)})"
            respelled = breaks.get(("values", name))
            breaks["values", name] = f"({odd} OR {respelled})" if respelled else odd
    others = {n for g in live for n in g.columns if canonical_name(n) is None} - {SOURCE_FILE, SOURCE_ROW}
    names = list(columns())
    return DataSet(
        rows=rows,
        version=version,
        present=present,
        others=tuple(sorted(others)),
        given={n: n for n in names},
        found={n: f"CAST({n} AS VARCHAR)" for n in names},
        breaks=breaks,
        unjudged=unjudged,
        json={c.name: c.name for c in columns().values() if c.type == "json"},
        repairs="repairs",
    )


def _focus_names(written: Iterable[str]) -> dict[str, str]:
    return {focus: name for name in written if (focus := canonical_name(name))}


def _entry(repair: str, column: str) -> str:
    """How a repair stands in the JSON of a row's repairs."""
    return f'"rule":"{repair}","column":"{column}"'


def _of_column(column: str) -> str:
    return f'"column":"{column}"'


def _repairs(connection: duckdb.DuckDBPyConnection, rows: str) -> list[tuple[str, str]]:
    """The distinct (repair, column) in a relation of raw rows."""
    return [
        (str(repair), str(column))
        for repair, column in connection.execute(
            f"""
            SELECT DISTINCT unnest(json_extract_string(repairs, '$[*].rule')), unnest(json_extract_string(repairs, '$[*].column'))
            FROM (SELECT DISTINCT repairs FROM {rows} WHERE repairs IS NOT NULL)
            ORDER BY ALL
            """
        ).fetchall()
    ]
