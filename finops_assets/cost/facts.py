"""cloud_cost_facts: every raw row of a day, once, with its dimensions and the tag key or rule that gave each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import LakeError
from finops_assets.base.parquet_join import join_columns
from finops_assets.base.sql import identifier, literal
from finops_assets.cost.attribution.combinations import RULED, combinations_query, ruled_columns, ruled_table
from finops_assets.cost.attribution.row_rules import RulesOfDay
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.tag_sets import TagTexts, attribution
from finops_assets.cost.attribution.versions import keep_version
from finops_assets.cost.engines.choose import engine_on
from finops_assets.ingest.reading.export_table import SOURCE_FILE, SOURCE_ROW, all_columns
from finops_assets.settings.engine import Engine
from finops_assets.storage.day_files import stamp_of
from finops_assets.storage.duck import connect, one_file
from finops_assets.storage.lake import Key, Lake, LakeChanged, Layer, source_and_day
from finops_assets.storage.ledger import Ledger

LAYERS: tuple[Layer, ...] = ("unreleased", "facts")
ARROW_ROWS = 122_880
KEPT = (*(column.name for column in all_columns()), "tag_set_id", SOURCE_FILE, SOURCE_ROW)


@dataclass(frozen=True)
class FactsDay:
    """What building one (day, source) came to; `written` is false where the file already was what it would be."""

    source: str
    day: date
    written: bool


def build_facts(
    lake: Lake, engine: Engine, rules: Rules, sources: Iterable[str], days: Iterable[date]
) -> list[FactsDay]:
    """Attribute the raw files of these days and release them unjudged: for whoever has gates of their own, or none."""
    wanted = sorted(days)
    built = attribute_days(lake, engine, rules, [(source, day) for source in sources for day in wanted])
    release(lake, [(each.source, each.day) for each in built])
    return built


def attribute_days(lake: Lake, engine: Engine, rules: Rules, keys: Iterable[Key]) -> list[FactsDay]:
    """Attribute raw files, one facts file per (source, day), replaced as a whole. They wait unreleased for their gates.

    Nothing is written where the raw day and the rules are those that the released file, or the one that waits, was
    built from. A (source, day) without a raw file has no facts either.
    """
    keys = list(keys)
    # In this order: facts may be newer than their stamp says, and are then built again, but never older.
    released, waiting = _stamps(lake, "facts", keys), _stamps(lake, "unreleased", keys)
    stamps = {key: facts_stamp(lake, rules, *key) for key in keys}
    work = [key for key in keys if lake.holds(lake.day_file("raw", *key))]
    for key in waiting:
        if released.get(key) == stamps[key]:
            lake.remove(lake.day_file("unreleased", *key).parent)
    stale = [key for key in work if stamps[key] not in (released.get(key), waiting.get(key))]
    if stale:
        lake.fetch([lake.day_file("raw", *key) for key in stale])
        keep_version(lake, rules)
        resolved = attribution(lake, rules, sorted({s for s, _ in stale}))
        if engine.run_on:
            from finops_assets.cost.engines.transformation import write_facts  # needs the engine's extra

            write_facts(engine_on(engine.run_on, lake), lake, rules, resolved, {key: stamps[key] for key in stale})
        else:
            _attribute(lake, engine, rules, resolved, {key: stamps[key] for key in stale})
    written = set(stale)
    return [FactsDay(*key, key in written) for key in work]


def _attribute(lake: Lake, engine: Engine, rules: Rules, resolved: pa.Table, stamps: Mapping[Key, str]) -> None:
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        connection.execute("SET preserve_insertion_order = true")
        _load(connection, resolved)
        texts = TagTexts(lake)

        def build(key: Key) -> None:
            with connection.cursor() as cursor:
                _build_day(cursor, lake, rules, texts, *key, stamps[key])

        # Small days are bound by latency, not by the processor: two at a time fill it.
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(build, stamps))


def release(lake: Lake, keys: Iterable[Key]) -> None:
    """Let what waits of these days count: it takes the place of the facts that were there. Nothing waits: nothing happens."""

    def put(key: Key) -> None:
        waiting, target = (lake.day_file(layer, *key) for layer in ("unreleased", "facts"))
        stamp = stamp_of(waiting)
        try:
            lake.move(waiting, target)
        except LakeChanged:
            # Another machine that built the same day from the same rows and rules has done the work.
            if [stamp_of(file) for file in lake.anew().fetch([target])] != [stamp]:
                raise
            lake.remove(waiting)
        lake.remove(waiting.parent)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, [key for key in keys if lake.holds(lake.day_file("unreleased", *key))]))


def forget_facts(lake: Lake, keys: Iterable[Key]) -> None:
    """Remove what there is of facts of these days: of a source whose cost does not count any more."""
    for key in keys:
        for layer in LAYERS:
            if lake.holds(lake.day_file(layer, *key)):
                lake.remove(lake.day_file(layer, *key))


def _stamps(lake: Lake, layer: Layer, keys: Sequence[Key]) -> dict[Key, str | None]:
    return {source_and_day(file): stamp_of(file) for file in lake.fetch(lake.day_file(layer, *key) for key in keys)}


def facts_stamp(lake: Lake, rules: Rules, source: str, day: date) -> str:
    """What a facts file is built from: the content of the raw day and the version of the rules."""
    totals = Ledger(lake, source).day_totals(day)
    return f"{rules.version} {totals.fingerprint if totals else 'unknown'}"


def _load(connection: duckdb.DuckDBPyConnection, resolved: pa.Table) -> None:
    connection.register("resolved_arrow", resolved)
    connection.execute("CREATE OR REPLACE TABLE attribution AS SELECT * FROM resolved_arrow")
    connection.unregister("resolved_arrow")


def facts_query(
    rules: Rules,
    raw: str,
    attribution_table: str,
    of_day: RulesOfDay | None = None,
    ruled_relation: str = RULED,
    also: tuple[str, ...] = (),
) -> str:
    """SQL: raw rows joined to the dimension of their tag sets. One row out for each row in.

    `of_day`: the rules beyond tags of this day, if there are any; `ruled_relation` then holds what they say
    (`combinations.ruled_table`), a row for each combination that they say something of. `also` are columns of raw that facts do not keep.
    """
    columns = ", ".join(f"r.{name}" for name in (*KEPT, *also))
    return f"SELECT {columns}, {_dimensions(rules, of_day)} {_joined(raw, attribution_table, of_day, ruled_relation)}"


def _dimensions(rules: Rules, of_day: RulesOfDay | None) -> str:
    said = of_day.dimensions if of_day else ()
    return ", ".join(_ruled(d) if d in said else _tagged(d) for d in rules.dimensions)


def _joined(raw: str, attribution_table: str, of_day: RulesOfDay | None, ruled_relation: str = RULED) -> str:
    ruled = ""
    if of_day:
        same = " AND ".join(f"{sql} = u.{identifier(name)}" for name, sql in ruled_columns(of_day, "r").items())
        ruled = f"LEFT JOIN {ruled_relation} AS u ON {same}"
    return f"FROM {raw} AS r LEFT JOIN {attribution_table} AS a ON r.tag_set_id = a.tag_set_id {ruled}"


def _tagged(dimension: str) -> str:
    return f"a.{identifier(dimension)}, a.{identifier(f'{dimension}_key')}"


def _ruled(dimension: str) -> str:
    """A rule that overrides tags, else a tag, else a rule that fills; and which of them."""
    tag, key = f"a.{identifier(dimension)}", f"a.{identifier(f'{dimension}_key')}"
    over, over_key, fill, fill_key = (
        f"u.{identifier(f'{dimension}_{part}')}" for part in ("over", "over_key", "fill", "fill_key")
    )
    return (
        f"coalesce({over}, {tag}, {fill}) AS {identifier(dimension)}, CASE WHEN {over} IS NOT NULL THEN {over_key}"
        f" WHEN {tag} IS NOT NULL THEN {key} ELSE {fill_key} END AS {identifier(f'{dimension}_key')}"
    )


def _build_day(
    cursor: duckdb.DuckDBPyConnection,
    lake: Lake,
    rules: Rules,
    texts: TagTexts,
    source: str,
    day: date,
    stamp: str,
) -> None:
    raw_file = lake.day_file("raw", source, day)
    raw = f"read_parquet({literal(one_file(raw_file))}, hive_partitioning = false, file_row_number = true)"
    of_day = rules.of_day(source, day)
    if of_day:
        met = cursor.sql(combinations_query(of_day, raw)).to_arrow_table()
        cursor.register("ruled_arrow", ruled_table(of_day, met, texts.of(source)))
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {RULED} AS SELECT * FROM ruled_arrow")
        cursor.unregister("ruled_arrow")
    # Rows are not carried through the engine: it says what stands beside each, in the order in which they lie.
    query = f"SELECT r.file_row_number, {_dimensions(rules, of_day)} {_joined(raw, 'attribution', of_day)} ORDER BY 1"
    with lake.workspace() as workspace:
        beside = workspace / "dimensions.parquet"
        _write_dimensions(cursor.sql(query).to_arrow_reader(ARROW_ROWS), pq.read_metadata(raw_file), beside)
        put_day(
            lake,
            (source, day),
            lambda file: join_columns(raw_file, KEPT, beside, file, {"finops_stamp": stamp}),
        )


def _write_dimensions(batches: pa.RecordBatchReader, raw: pq.FileMetaData, target: Path) -> None:
    """The dimensions of a raw file's rows, in its row groups. The first column says which row each is of."""
    schema = pa.schema(list(batches.schema)[1:])
    waiting, seen = schema.empty_table(), 0
    with pq.ParquetWriter(target, schema, compression="zstd", store_schema=False) as writer:
        for rows in (raw.row_group(n).num_rows for n in range(raw.num_row_groups)):
            while waiting.num_rows < rows:
                batch = batches.read_next_batch()
                if not np.array_equal(batch.column(0), np.arange(seen, seen + batch.num_rows)):
                    raise LakeError(f"{target.name}: the engine gave rows in another order than the raw file's")
                seen += batch.num_rows
                waiting = pa.concat_tables([waiting, pa.table(batch).select(schema.names)])
            writer.write_table(waiting.slice(0, rows), row_group_size=max(rows, 1))
            waiting = waiting.slice(rows)


def put_day(lake: Lake, key: Key, write: Callable[[Path], object]) -> None:
    """Put what `write` writes to a path where a (source, day)'s facts wait for their gates; it must carry the stamp."""
    with lake.replacing(lake.day_file("unreleased", *key)) as temporary:
        write(temporary)
