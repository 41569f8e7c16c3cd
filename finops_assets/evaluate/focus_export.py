"""FOCUS out: the attributed facts as FOCUS 1.2 or 1.4, a Parquet file a charge day, and FOCUS metadata beside them.

Facts hold the FOCUS columns and the dimensions; a provider's own x_ columns stay in raw and are not exported.
docs/guides/conformance.md says what is filled, what is left out, and why.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Literal

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.base.files import replacing
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.money import DECIMAL
from finops_assets.focus.specification import columns
from finops_assets.judge.conformance.rules import near_macro, rules_of
from finops_assets.platform import Platform
from finops_assets.storage.duck import ROW_GROUP_ROWS, by_source_and_day, connect, file_list, one_file
from finops_assets.storage.ledger import now

ExportVersion = Literal["1.2", "1.4"]

MANIFEST = "focus-export.json"
COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
SPLIT_COLUMNS = ("AllocatedMethodDetails", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags")
"""FOCUS 1.3, AllocatedTags and its like: must be null on a charge that the provider did not split."""

EXACT = Context(prec=100)

DATA_TYPES = {"decimal": "Decimal", "datetime": "Date/Time", "json": "JSON", "string": "String"}

Totals = Mapping[str, tuple[int, tuple[Decimal, ...]]]
"""By currency: rows and the sums of COSTS. Currencies are never added."""


@dataclass(frozen=True)
class FocusExport:
    """What an export came to."""

    version: ExportVersion
    rows: Mapping[date, int]
    """The days written, with their rows."""
    totals: Mapping[date, Totals]
    held: Mapping[date, Sequence[str]]
    missing: tuple[date, ...]
    """Days that no source has facts of."""
    parts: Mapping[date, Sequence[str]] = field(default_factory=dict)
    """Days written without all sources, or with the last good version of one, and why."""
    gaps: Mapping[str, int] = field(default_factory=dict)
    """Columns that must not be null in this version -> rows in which the provider gave none."""
    custom: tuple[str, ...] = ()
    """Conditional columns that a source has not and this version asks for: written as x_ columns."""


def export_focus(
    platform: Platform,
    days: Iterable[date],
    target: Path,
    version: ExportVersion,
    sources: Sequence[str] | None = None,
    held: Mapping[date, Sequence[str]] | None = None,
    parts: Mapping[date, Sequence[str]] | None = None,
) -> FocusExport:
    """Write the facts of these days below `target` as FOCUS of a version. `held` days, with their reasons, are not.

    `parts`: days that lack a source or have an older version of one, with the reasons. They are written, and the
    recency metadata calls them not complete, so that nobody takes them for the whole.

    Each file is proven to hold the facts' rows and costs, to the last digit, before it takes its place. A file that an
    earlier export wrote for a day that is now held stays as it was.

    Raises:
        FinopsError: a file does not hold what the facts hold; `target` holds an export of another version or other
            sources, or one with a column that a source of these days has not.
    """
    held, wanted = dict(held or {}), sorted(days)
    chosen = list(sources or platform.source_names)
    before = _before(target, version, chosen)
    lake = platform.lake
    files = {day: found for day in wanted if day not in held and (found := lake.day_files("facts", chosen, [day]))}
    missing = tuple(day for day in wanted if day not in held and day not in files)
    with lake.workspace() as workspace, connect(platform.settings.engine, workspace / "spill") as connection:
        filled = _filled(platform, version)
        everything = [file for found in files.values() for file in found]
        optional, gaps = _unmet(connection, everything, filled, version) if everything else (set(), {})
        custom = _custom(target, optional, before)
        selected = _selected(platform, version, filled, custom)
        rows, totals = {}, {}
        for day, found in files.items():
            file = target / _file_name(day)
            totals[day] = _write_day(connection, _relation(found), selected, version, file, day)
            rows[day] = sum(count for count, _ in totals[day].values())
    gaps = {name: count for name, count in gaps.items() if name not in custom}
    of_parts = {day: reasons for day, reasons in (parts or {}).items() if day in rows}
    export = FocusExport(version, rows, totals, held, missing, of_parts, gaps, tuple(sorted(custom)))
    _describe(platform, target, chosen, selected, export, before)
    return export


# ---- what stands in each column -----------------------------------------------------------------


def _filled(platform: Platform, version: str) -> dict[str, str]:
    """FOCUS column of the version -> SQL over a facts row.

    What a version requires and another did not have is filled where the specification says from what: the participants
    by the Version Migration Guidance (1.3), the pricing currency because a provider that leaves it out prices in the
    billing currency (1.2, PricingCurrency).
    """
    named = " ".join(
        f"WHEN {literal(s.name)} THEN {literal(s.provider)}" for s in platform.settings.counted if s.provider
    )
    provider = f"CASE source {named} END" if named else "NULL"
    same_currency = "coalesce(PricingCurrency, BillingCurrency) = BillingCurrency"
    fills = {
        "1.2": {
            "ProviderName": f"coalesce(ProviderName, HostProviderName, ServiceProviderName, {provider})",
            "PublisherName": f"coalesce(PublisherName, ServiceProviderName, ProviderName, {provider})",
        },
        "1.4": {
            "ServiceProviderName": f"coalesce(ServiceProviderName, ProviderName, {provider})",
            "PricingCurrency": "coalesce(PricingCurrency, BillingCurrency)",
            "PricingCurrencyEffectiveCost": (
                f"coalesce(PricingCurrencyEffectiveCost, CASE WHEN {same_currency} THEN EffectiveCost END)"
            ),
            **{name: f"CASE WHEN AllocatedMethodId IS NOT NULL THEN {name} END" for name in SPLIT_COLUMNS},
        },
    }
    return {name: fills[version].get(name, name) for name, c in columns().items() if version in c.level}


def _selected(platform: Platform, version: str, filled: Mapping[str, str], custom: set[str]) -> dict[str, str]:
    """Every column of the export, in its order -> SQL over a facts row."""
    result = {name: _typed(name, sql) for name, sql in filled.items() if name not in custom}
    for dimension in platform.rules.dimensions:
        result[f"x_{pascal(dimension)}"] = identifier(dimension)
        result[f"x_{pascal(dimension)}TagKey"] = identifier(f"{dimension}_key")
    result["x_Source"] = "source"
    for name in columns():
        if name not in filled or name in custom:
            result[f"x_{name}"] = _typed(name, name)
        elif name in SPLIT_COLUMNS:
            result[f"x_{name}"] = f"CASE WHEN AllocatedMethodId IS NULL THEN {name} END"
    return result


def pascal(name: str) -> str:
    """A dimension's name as FOCUS writes names of columns.

    >>> pascal("cost_center")
    'CostCenter'
    """
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _typed(name: str, sql: str) -> str:
    match columns()[name].type:
        case "decimal":
            return f"CAST({sql} AS {DECIMAL})"
        case "datetime":
            # With a zone: then the file says that it is UTC.
            return f"CAST({sql} AS TIMESTAMPTZ)"
        case _:
            return f"CAST({sql} AS VARCHAR)"


def _unmet(
    connection: duckdb.DuckDBPyConnection, files: list[Path], filled: Mapping[str, str], version: str
) -> tuple[set[str], dict[str, int]]:
    """What this version asks of columns and the facts cannot give: (conditional columns that a source has not at all
    and must then not be in the data set, rows without a value by column that must have one).

    A source of FOCUS 1.0 knows no SubAccountType; beside one of 1.2 it would break "must not be null where
    SubAccountId is not". A column that a source has, with holes, stays: that is the provider's fault, and is told.
    """
    asked: dict[str, list[str]] = {name: [] for name in filled}
    for rule in rules_of(version):
        if rule.severity != "error" or rule.column not in filled:
            continue
        if rule.kind == "nullability":
            asked[rule.column].append(f"{rule.column} IS NULL")
        elif rule.kind == "relation" and not columns()[rule.column].mandatory(version):
            asked[rule.column].append(f"({rule.when}) AND NOT ({rule.must}) AND {rule.column} IS NULL")
    names = [name for name, conditions in asked.items() if conditions]
    figures = ", ".join(f"count({n}), count(*) FILTER ({' OR '.join(f'({c})' for c in asked[n])})" for n in names)
    canonical = ", ".join(f"{sql} AS {name}" for name, sql in filled.items())
    connection.execute(near_macro())
    optional: set[str] = set()
    gaps: dict[str, int] = {}
    for row in connection.execute(
        f"SELECT {figures} FROM (SELECT source, {canonical} FROM {_relation(files)}) GROUP BY source"
    ).fetchall():
        for name, given, broken in zip(names, row[::2], row[1::2]):
            if broken and not given and not columns()[name].mandatory(version):
                optional.add(name)
            elif broken and not columns()[name].nullable(version):
                gaps[name] = gaps.get(name, 0) + broken
    return optional, gaps


def _custom(target: Path, optional: set[str], before: Mapping[str, Any] | None) -> set[str]:
    """The conditional columns that are written as x_ columns. An export that goes on keeps to what it began with."""
    if before is None or not before["days"]:
        return optional
    earlier = set(before["custom"])
    if optional - earlier:
        raise FinopsError(
            f"{target}: a source of these days has no {', '.join(sorted(optional - earlier))}, which the days exported"
            " before have as FOCUS columns; they must then be x_ columns. Export all days anew, into an empty folder"
        )
    return earlier


def _relation(files: Iterable[Path]) -> str:
    return by_source_and_day(file_list(files), union_by_name=True)


# ---- files --------------------------------------------------------------------------------------


def _file_name(day: date) -> str:
    return f"cost-and-usage-{day}.parquet"


def _write_day(
    connection: duckdb.DuckDBPyConnection,
    facts: str,
    selected: Mapping[str, str],
    version: str,
    file: Path,
    day: date,
) -> Totals:
    """Write one day; returns its totals, which are the facts'."""
    query = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in selected.items())
    with _replacing(file) as temporary:
        connection.execute(
            f"COPY (SELECT {query} FROM {facts}) TO {literal(str(temporary))} (FORMAT parquet, COMPRESSION zstd,"
            f" ROW_GROUP_SIZE {ROW_GROUP_ROWS}, KV_METADATA {{FocusVersion: {literal(version)}}})"
        )
        expected, written = (
            _totals(connection, facts),
            _totals(connection, f"read_parquet({literal(one_file(temporary))}, hive_partitioning = false)"),
        )
        if written != expected:
            raise FinopsError(
                f"export of {day}: the file holds {_told(written)}, the facts {_told(expected)}; nothing was replaced."
                " This is a fault of finops_assets: please report it"
            )
    return expected


def _totals(connection: duckdb.DuckDBPyConnection, relation: str) -> Totals:
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in COSTS)
    found = connection.execute(
        f"SELECT coalesce(BillingCurrency, ''), count(*), {sums} FROM {relation} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {str(currency): (int(count), tuple(costs)) for currency, count, *costs in found}


def _told(totals: Totals) -> str:
    parts = [
        f"{count} rows, " + ", ".join(f"{name} {cost} {currency}" for name, cost in zip(COSTS, costs))
        for currency, (count, costs) in totals.items()
    ]
    return "; ".join(parts) or "no rows"


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """As `replacing`, with an error for people."""
    try:
        with replacing(file) as temporary:
            yield temporary
    except OSError as error:
        raise FinopsError(f"{file}: cannot be written ({error}); nothing was replaced") from error


def _write_json(file: Path, body: Any) -> None:
    with _replacing(file) as temporary:
        temporary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _before(target: Path, version: str, sources: list[str]) -> dict[str, Any] | None:
    """The manifest of the export that `target` holds, which this one continues.

    Raises:
        FinopsError: it is of another version or of other sources, or `target` is no folder.
    """
    if target.exists() and not target.is_dir():
        raise FinopsError(f"{target} is a file; give a folder")
    file = target / MANIFEST
    if not file.is_file():
        return None
    try:
        body: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        held = (body["FocusVersion"], body["sources"])
    except (ValueError, KeyError, TypeError) as error:
        raise FinopsError(f"{file} is damaged ({error}); export into an empty folder") from error
    if held != (version, sources):
        raise FinopsError(
            f"{target} holds an export of FOCUS {held[0]} of {', '.join(held[1])}, this one is FOCUS {version} of"
            f" {', '.join(sources)}; export into a folder of its own"
        )
    return body


# ---- metadata -----------------------------------------------------------------------------------


def _describe(
    platform: Platform,
    target: Path,
    sources: list[str],
    selected: Mapping[str, str],
    export: FocusExport,
    before: Mapping[str, Any] | None,
) -> None:
    """Write the manifest, and FOCUS metadata (1.3, Schema and Recency), over all days that the folder holds."""
    written_at = f"{now():%Y-%m-%dT%H:%M:%SZ}"
    days = {entry["day"]: entry for entry in (before or {}).get("days", ())}
    for day, totals in export.totals.items():
        days[day.isoformat()] = {
            "day": day.isoformat(),
            "file": _file_name(day),
            "bytes": (target / _file_name(day)).stat().st_size,
            "rows": export.rows[day],
            "exported": written_at,
            "costs": {c: dict(zip(COSTS, map(str, costs))) for c, (_, costs) in totals.items()},
        }
    gone = {day.isoformat() for day in export.missing}
    for name in gone & days.keys():
        (target / days.pop(name)["file"]).unlink(missing_ok=True)
    held = {d: r for d, r in (before or {}).get("held", {}).items() if d not in days.keys() | gone}
    held |= {day.isoformat(): list(reasons) for day, reasons in export.held.items()}
    written = {day.isoformat() for day in export.rows}
    held = {d: r for d, r in held.items() if d not in written}
    parts = {d: r for d, r in (before or {}).get("not_whole", {}).items() if d not in written | gone}
    parts |= {day.isoformat(): list(reasons) for day, reasons in export.parts.items()}
    lacking = held.keys() | parts.keys()
    instance = str(uuid.uuid5(uuid.NAMESPACE_OID, f"finops_assets {export.version} {','.join(sources)}"))
    schema = _schema(selected, export.version, instance, written_at)
    _write_json(target / "metadata" / f"schema-{instance}.json", schema)
    _write_json(
        target / "metadata" / f"recency-{instance}.json",
        {
            "DatasetInstanceId": instance,
            "DatasetInstanceLastUpdated": written_at,
            "RecencyLastUpdated": written_at,
            "TimeSectors": [_sector(day, day in days and day not in lacking, days.get(day, {}).get("exported", written_at))
                            for day in sorted(days.keys() | held.keys())],
        },
    )  # fmt: skip
    _write_json(
        target / MANIFEST,
        {
            "FocusVersion": export.version,
            "DatasetInstanceId": instance,
            "sources": sources,
            "rules_version": platform.rules.version,
            "custom": list(export.custom),
            "null_in_mandatory_columns": dict(export.gaps),
            "rows": sum(entry["rows"] for entry in days.values()),
            "costs": _sums(days.values()),
            "held": held,
            "not_whole": parts,
            "days": [days[name] for name in sorted(days)],
        },
    )


def _schema(selected: Mapping[str, str], version: str, instance: str, created: str) -> dict[str, Any]:
    definitions = []
    for name in selected:
        column = columns().get(name.removeprefix("x_"))
        kind = column.type if column else "string"
        entry: dict[str, Any] = {"ColumnName": name, "DataType": DATA_TYPES[kind], "Deprecated": False}
        if kind == "decimal":
            entry |= {"NumericPrecision": 38, "NumberScale": 18}
        elif kind in ("string", "json"):
            entry |= {"StringEncoding": "UTF-8"}
        definitions.append(entry)
    digest = hashlib.sha256(json.dumps([version, definitions]).encode()).hexdigest()[:32]
    return {
        "SchemaId": str(uuid.UUID(digest)),
        "FocusVersion": version,
        "CreationDate": created,
        "DataGeneratorVersion": f"finops_assets {package_version('finops_assets')}",
        "DatasetInstanceId": instance,
        "ColumnDefinition": definitions,
    }


def _sector(day: str, complete: bool, updated: str) -> dict[str, Any]:
    start = datetime.fromisoformat(day)
    return {
        "TimeSectorStart": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "TimeSectorEnd": f"{start + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
        "TimeSectorComplete": complete,
        "TimeSectorLastUpdated": updated,
    }


def _sums(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    sums: dict[str, dict[str, Decimal]] = {}
    for entry in entries:
        for currency, costs in entry["costs"].items():
            into = sums.setdefault(currency, dict.fromkeys(COSTS, Decimal(0)))
            for name in COSTS:
                into[name] = EXACT.add(into[name], Decimal(costs[name]))
    return {currency: {name: str(cost) for name, cost in costs.items()} for currency, costs in sums.items()}
