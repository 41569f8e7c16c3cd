"""What a cluster's exporter wrote, as one relation of rows: a container or pod, its node, its window, its weights.

OpenCost and Kubecost answer `/allocation` with the same objects. Their Parquet and CSV have the same fields under names
that differ in dots and case, so a column is known by its letters alone. Amounts are doubles that the exporter made of
measurements and of prices of its own: here they are only weights, in decimals, so that their sums do not depend on order.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import DeliveryRefused
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.tags import canonical_tags
from finops_assets.focus.times import time_from_text
from finops_assets.ingest.reading.export_table import open_export
from finops_assets.ingest.reading.parts import moment_of

IDLE, UNMOUNTED, UNALLOCATED = "__idle__", "__unmounted__", "__unallocated__"
FLAT = "allocations.parquet"
WEIGHT = "DECIMAL(38, 12)"

# OpenCost's own prices (configs/default.json: a core, a GiB and a GPU an hour), for rows that have amounts but no cost.
_CORE_HOUR, _GIB_HOUR, _GPU_HOUR = "0.031611", "0.004237", "0.95"
_GIB = "1073741824.0"

COLUMNS: Mapping[str, str] = {
    "cluster": "VARCHAR", "node": "VARCHAR", "provider_id": "VARCHAR", "idle": "BOOLEAN", "namespace": "VARCHAR",
    "controller_kind": "VARCHAR", "controller": "VARCHAR", "pod": "VARCHAR", "container": "VARCHAR", "labels": "VARCHAR",
    "window_start": "TIMESTAMP", "window_end": "TIMESTAMP", "weight": WEIGHT, "requested": WEIGHT, "used": WEIGHT,
}  # fmt: skip
"""A row of usage. `weight` is what of the node it held, `requested` and `used` what it asked for and took, all three in
the exporter's own money; `labels` a JSON object, those of the pod over those of its namespace."""

_TEXTS: Mapping[str, tuple[str, ...]] = {
    "cluster": ("propertiescluster", "cluster", "clusterid"),
    "node": ("propertiesnode", "node", "nodename"),
    "provider_id": ("propertiesproviderid", "providerid"),
    "namespace": ("propertiesnamespace", "namespace"),
    "controller_kind": ("propertiescontrollerkind", "controllerkind"),
    "controller": ("propertiescontroller", "controller", "controllername"),
    "pod": ("propertiespod", "pod"),
    "container": ("propertiescontainer", "container"),
    "name": ("name",),
}
_LABELS = {
    "labels": ("propertieslabels", "labels"),
    "namespace_labels": ("propertiesnamespacelabels", "namespacelabels"),
}
_LABEL_COLUMNS = {
    "labels": re.compile(r"(?i)^(?:properties\.labels\.|label_)(.+)$"),
    "namespace_labels": re.compile(r"(?i)^properties\.namespacelabels\.(.+)$"),
}
_START, _END = ("windowstart", "start", "date"), ("windowend", "end")
_AMOUNTS: Mapping[str, tuple[str, ...]] = {
    name: (name.lower(), *others)
    for name, others in {
        "minutes": (), "cpuCores": (), "cpuCoreHours": (), "cpuCoreRequestAverage": (), "cpuCoreUsageAverage": (),
        "cpuCost": (), "cpuCostAdjustment": (), "ramBytes": (), "ramByteHours": (), "ramCost": (), "ramCostAdjustment": (),
        "ramByteRequestAverage": ("rambytesrequestaverage",), "ramByteUsageAverage": ("rambytesusageaverage",),
        "gpuHours": (), "gpuCount": ("gpus",), "gpuCost": (), "gpuCostAdjustment": (),
    }.items()
}  # fmt: skip


@dataclass(frozen=True)
class UsageFile:
    """A file that was read: its days, each with the number of its rows and a hash of them, whatever their order."""

    days: Mapping[date, tuple[int, str]]


def read_allocations(
    connection: duckdb.DuckDBPyConnection, name: str, cluster: str | None, root: Path, key: str, workspace: Path
) -> UsageFile:
    """Read one file into the table `usage_rows` (COLUMNS, charge_date); `cluster` stands where rows name none.

    What is of no node, such as volumes that nothing mounts, is left out, and so are rows that held nothing.

    Raises:
        DeliveryRefused: it is no such file, or a row has no window within one UTC day, or windows of one cluster overlap.
    """
    file = key
    if key.lower().endswith((".json", ".json.gz")):
        root, file = _as_parquet(name, root, key, workspace), FLAT
    export = open_export(connection, name, key, root, [file], workspace, nulls=("",))
    columns = _columns(name, key, export.types)
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE usage_read AS SELECT {columns} FROM ({export.sql}) AS e")
    except duckdb.Error as error:
        raise DeliveryRefused(name, key, f"cannot be read as allocations: {error}") from error
    _require_windows(connection, name, key)
    _put_labels(connection)
    given = {
        "cluster": f"coalesce(r.cluster, {literal(cluster or name)})",
        "labels": "l.merged",
    }
    kept = ", ".join(f"{given.get(c, f'r.{c}')} AS {c}" for c in COLUMNS)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE usage_rows AS SELECT {kept}, CAST(window_start AS DATE) AS charge_date"
        " FROM usage_read r LEFT JOIN usage_labels l ON coalesce(r.labels, '') = l.own"
        " AND coalesce(r.namespace_labels, '') = l.of_namespace"
        " WHERE NOT unmounted AND (weight > 0 OR requested > 0 OR used > 0)"
    )
    _require_apart(connection, name, key)
    hashed = ", ".join(f"CAST({c} AS VARCHAR)" for c in COLUMNS)
    found = connection.execute(
        f"SELECT charge_date, count(*), CAST(sum(CAST(hash({hashed}) AS HUGEINT)) AS VARCHAR) FROM usage_rows GROUP BY 1"
    ).fetchall()
    return UsageFile({day: (rows, f"{rows:x}.{hashes}") for day, rows, hashes in sorted(found)})


def known_columns(names: Iterable[str]) -> bool:
    """Are these the columns of allocations: a window or day, and cost or hours of CPU and memory?"""
    letters = {_letters(name) for name in names}
    return bool(letters.intersection(_START)) and bool(letters & {"cpucost", "cpucorehours", "rambytehours"})


def labels_of(own: str | None, of_namespace: str | None) -> str | None:
    """The labels of a pod over those of its namespace, as one canonical JSON object; None for none.

    What cannot be read as labels is none: they are no cost.

    >>> labels_of('{"app": "web"}', '{"team": "shop", "app": "x"}')
    '{"app":"web","team":"shop"}'
    """
    merged = {**(canonical_tags(of_namespace).tags or {}), **(canonical_tags(own).tags or {})}
    return json.dumps(merged, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if merged else None


def _letters(column: str) -> str:
    return re.sub("[^a-z0-9]", "", column.lower())


def _columns(name: str, key: str, types: Mapping[str, str]) -> str:
    """SQL: every column of COLUMNS from a file's own, with `unmounted` and `namespace_labels` beside."""
    by_letters = {_letters(column): column for column in reversed(list(types))}

    def find(aliases: Iterable[str]) -> str | None:
        return next((by_letters[alias] for alias in aliases if alias in by_letters), None)

    start, end = find(_START), find(_END)
    if start is None or not any(find(_AMOUNTS[c]) for c in ("cpuCost", "ramCost", "cpuCoreHours", "ramByteHours")):
        raise DeliveryRefused(
            name,
            key,
            "has no window or neither cost nor hours of CPU and memory; ask the allocation API for step=1d (or 1h),"
            f" includeIdle=true, without accumulate (columns: {', '.join(list(types)[:12])})",
        )

    def text(aliases: Iterable[str]) -> str:
        column = find(aliases)
        if column is None:
            return "CAST(NULL AS VARCHAR)"
        value = f"nullif(trim(CAST(e.{identifier(column)} AS VARCHAR)), '')"
        return f"nullif({value}, {literal(UNALLOCATED)})"

    def moment(column: str) -> str:
        value, kind = f"e.{identifier(column)}", types[column]
        return time_from_text(value) if kind == "VARCHAR" else moment_of(value, kind)

    texts = {column: text(aliases) for column, aliases in _TEXTS.items()}
    amounts = {
        column: f"TRY_CAST(e.{identifier(found)} AS DOUBLE)" if (found := find(aliases)) else "CAST(NULL AS DOUBLE)"
        for column, aliases in _AMOUNTS.items()
    }
    parts = [f"coalesce({texts[c]}, '')" for c in ("name", "namespace", "pod", "controller", "container")]

    def is_named(what: str) -> str:
        return (
            "(" + " OR ".join(f"{part} = {literal(what)} OR {part} LIKE {literal(f'%/{what}')}" for part in parts) + ")"
        )

    starts = moment(start)
    # An exporter of whole days writes their last second, or nothing: a date.
    ends = f"coalesce({moment(end) if end else 'NULL'}, {starts} + INTERVAL 1 DAY)"
    return f"""
        {", ".join(f"{sql} AS {column}" for column, sql in texts.items() if column != "name")},
        {is_named(IDLE)} AS idle, {is_named(UNMOUNTED)} AS unmounted,
        {", ".join(f"{_labels(which, by_letters, types)} AS {which}" for which in _LABELS)},
        {starts} AS window_start, {ends} AS window_end, {_weights(amounts, starts, ends)}
    """


def _labels(which: str, by_letters: Mapping[str, str], types: Mapping[str, str]) -> str:
    """SQL: labels as a JSON text, whether they stand in one column or each in its own."""
    column = next((by_letters[alias] for alias in _LABELS[which] if alias in by_letters), None)
    if column is not None:
        value = f"e.{identifier(column)}"
        return value if types[column] == "VARCHAR" else f"CAST(to_json({value}) AS VARCHAR)"
    own = {m[1]: column for column in types if (m := _LABEL_COLUMNS[which].match(column))}
    if not own:
        return "CAST(NULL AS VARCHAR)"
    pairs = ", ".join(f"{{'k': {literal(label)}, 'v': CAST(e.{identifier(c)} AS VARCHAR)}}" for label, c in own.items())
    return (
        f"CAST(to_json(map_from_entries(list_transform(list_filter([{pairs}], lambda x: nullif(x.v, '') IS NOT NULL),"
        " lambda x: struct_pack(key := x.k, value := x.v)))) AS VARCHAR)"
    )


def _weights(of: Mapping[str, str], starts: str, ends: str) -> str:
    """SQL: weight, requested and used, in the exporter's money: amounts at the price that its own cost implies."""
    hours = f"coalesce({of['minutes']} / 60.0, epoch({ends} - {starts}) / 3600.0)"
    cpu_hours = f"coalesce({of['cpuCoreHours']}, {of['cpuCores']} * {hours}, 0.0)"
    ram_hours = f"(coalesce({of['ramByteHours']}, {of['ramBytes']} * {hours}, 0.0) / {_GIB})"
    gpu_hours = f"coalesce({of['gpuHours']}, {of['gpuCount']} * {hours}, 0.0)"
    cpu, ram, gpu = (
        f"({of[f'{what}Cost']} + coalesce({of[f'{what}CostAdjustment']}, 0.0))" for what in ("cpu", "ram", "gpu")
    )
    cost = f"(coalesce({cpu}, 0.0) + coalesce({ram}, 0.0) + coalesce({gpu}, 0.0))"
    priced = f"({of['cpuCost']} IS NOT NULL OR {of['ramCost']} IS NOT NULL)"
    by_amount = f"({cpu_hours} * {_CORE_HOUR} + {ram_hours} * {_GIB_HOUR} + {gpu_hours} * {_GPU_HOUR})"
    core = f"coalesce(CASE WHEN {cpu} > 0 AND {cpu_hours} > 0 THEN {cpu} / {cpu_hours} END, {_CORE_HOUR})"
    gib = f"coalesce(CASE WHEN {ram} > 0 AND {ram_hours} > 0 THEN {ram} / {ram_hours} END, {_GIB_HOUR})"
    gpus = f"coalesce({gpu}, {gpu_hours} * {_GPU_HOUR})"

    def asked(which: str) -> str:
        cores, ram_bytes = of[f"cpuCore{which}Average"], of[f"ramByte{which}Average"]
        amount = f"coalesce({cores}, 0.0) * {hours} * {core} + coalesce({ram_bytes}, 0.0) / {_GIB} * {hours} * {gib} + {gpus}"
        return f"CAST(greatest(coalesce({amount}, 0.0), 0.0) AS {WEIGHT})"

    weight = f"CAST(greatest(CASE WHEN {priced} THEN {cost} ELSE {by_amount} END, 0.0) AS {WEIGHT})"
    return f"{weight} AS weight, {asked('Request')} AS requested, {asked('Usage')} AS used"


def _put_labels(connection: duckdb.DuckDBPyConnection) -> None:
    """The table `usage_labels`: every distinct pair of label texts of `usage_read`, and what `labels_of` makes of it."""
    pairs = connection.execute(
        "SELECT DISTINCT coalesce(labels, ''), coalesce(namespace_labels, '') FROM usage_read"
    ).fetchall()
    texts = {
        "own": [own for own, _ in pairs],
        "of_namespace": [other for _, other in pairs],
        "merged": [labels_of(own, other) for own, other in pairs],
    }
    connection.register("labels_arrow", pa.table(texts, pa.schema([(name, pa.string()) for name in texts])))
    connection.execute("CREATE OR REPLACE TEMP TABLE usage_labels AS SELECT * FROM labels_arrow")
    connection.unregister("labels_arrow")


def _require_windows(connection: duckdb.DuckDBPyConnection, name: str, key: str) -> None:
    """Rows are given to a day by their window; one that reaches into another day could not be."""
    bad = connection.execute(
        """
        SELECT count(*), any_value(CAST(window_start AS VARCHAR)), any_value(CAST(window_end AS VARCHAR)) FROM usage_read
        WHERE window_start IS NULL OR window_end <= window_start
            OR window_end > CAST(CAST(window_start AS DATE) AS TIMESTAMP) + INTERVAL 1 DAY
        """
    ).fetchone()
    if bad and bad[0]:
        raise DeliveryRefused(
            name,
            key,
            f"{bad[0]} rows have no window within one UTC day (such as {bad[1]} to {bad[2]}); have it exported with"
            " step=1d or 1h, without accumulate",
        )


def _require_apart(connection: duckdb.DuckDBPyConnection, name: str, key: str) -> None:
    twice = connection.execute(
        """
        WITH windows AS (SELECT DISTINCT cluster, window_start, window_end FROM usage_rows)
        SELECT a.cluster, CAST(a.window_start AS VARCHAR), CAST(a.window_end AS VARCHAR), CAST(b.window_start AS VARCHAR),
            CAST(b.window_end AS VARCHAR)
        FROM windows a JOIN windows b ON a.cluster = b.cluster AND a.window_start < b.window_end
            AND b.window_start < a.window_end AND (a.window_start, a.window_end) < (b.window_start, b.window_end)
        ORDER BY ALL LIMIT 1
        """
    ).fetchone()
    if twice:
        cluster, *windows = twice
        raise DeliveryRefused(
            name,
            key,
            f"cluster {cluster} has windows that overlap, {windows[0]} to {windows[1]} and {windows[2]} to {windows[3]}:"
            " what ran would count twice; export one step a file",
        )


def _as_parquet(name: str, root: Path, key: str, workspace: Path) -> Path:
    """An answer of the allocation API as a Parquet file of flat rows; the folder that it lies in."""
    folder = workspace / "answer"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rows = [dict(_flat(allocation)) for allocation in _allocations(_parsed(root / key))]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DeliveryRefused(name, key, f"is no answer of the allocation API: {error}") from error
    if not rows:
        raise DeliveryRefused(name, key, "holds no allocation; an empty answer is not a success")
    columns: dict[str, None] = {column: None for row in rows for column in row}
    table = pa.table({column: pa.array([row.get(column) for row in rows], pa.string()) for column in columns})
    pq.write_table(table, folder / FLAT, compression="zstd")
    return folder


def _parsed(file: Path) -> Any:
    content = file.read_bytes()
    return json.loads(gzip.decompress(content) if file.name.lower().endswith(".gz") else content)


def _allocations(answer: Any) -> Iterator[Mapping[str, Any]]:
    """The allocations of an answer: a list of sets, each of them name -> allocation; with or without what is around it."""
    if isinstance(answer, dict) and "data" in answer:
        answer = answer["data"]
    sets = answer if isinstance(answer, list) else [answer]
    for each in sets:
        if each is None:  # a step without anything
            continue
        if not isinstance(each, dict):
            raise ValueError(f"a set is {type(each).__name__}, not an object of allocations")
        # Some ask for the sets below "allocations", with the window beside.
        inner = each.get("allocations")
        for allocation in (inner if isinstance(inner, dict) else each).values():
            if not isinstance(allocation, dict) or "window" not in allocation:
                raise ValueError("an entry is no allocation: it has no window")
            yield allocation


_KEPT: Callable[[str], bool] = {
    *(alias for aliases in (*_TEXTS.values(), *_AMOUNTS.values(), *_LABELS.values()) for alias in aliases),
    *_START,
    *_END,
}.__contains__


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The fields of an allocation that are read, by dotted name, as texts; labels as JSON."""
    for key, each in value.items():
        name = f"{prefix}{key}"
        if isinstance(each, dict) and name in ("properties", "window"):
            yield from _flat(each, f"{name}.")
        elif each is not None and _KEPT(_letters(name)):
            yield name, each if isinstance(each, str) else json.dumps(each)
