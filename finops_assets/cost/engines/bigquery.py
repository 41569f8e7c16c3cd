"""BigQuery: facts as a table partitioned by day and clustered by source; raw days loaded from the lake's bucket.

Never run against the service: docs/guides/engines.md says what stood in its place. Every query has a limit of bytes billed.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from finops_assets.base.errors import FinopsError
from finops_assets.cost.attribution.rules import Rules
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.storage.lake import Key, Lake, Layer

_TYPES = {"decimal": "BIGNUMERIC", "datetime": "DATETIME"}
FACTS = "facts"
"""The table."""
KEPT_HOURS = 24
"""How long what is only shown stays when nobody is left to forget it."""


class BigQuery:
    """An `Engine` on a dataset, by Google's client (dagster-gcp's `BigQueryResource` gives one).

    The dataset must be in the location of the lake's bucket. A query that would bill more than `most_bytes` is refused by
    BigQuery before it costs anything; loading is free of charge.

    Raises:
        FinopsError: the lake is not on Google Cloud Storage.
    """

    dialect = "bigquery"
    at_once = 2_000
    """Partitions that one statement may change are 4,000 a table; a day of several sources is one."""

    def __init__(self, client: bigquery.Client, dataset: str, lake: Lake, most_bytes: int) -> None:
        if not lake.name.startswith("gs://"):
            raise FinopsError(
                f"lake {lake.name}: BigQuery loads raw days from Google Cloud Storage only; set `lake:` in finops.yaml to"
                " gs://bucket/folder"
            )
        self.client, self.lake, self.most_bytes = client, lake, most_bytes
        self.dataset = bigquery.DatasetReference.from_string(dataset, client.project)

    @property
    def name(self) -> str:
        """Where it is."""
        return f"BigQuery, {self.dataset.project}.{self.dataset.dataset_id}"

    def query(self, statement: str) -> bigquery.QueryJob:
        """Run a statement to its end; tables without a dataset are this one's."""
        config = bigquery.QueryJobConfig(default_dataset=self.dataset, maximum_bytes_billed=self.most_bytes)
        with self._explaining():
            job = self.client.query(statement, job_config=config)
            job.result()
        return job

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""
        job = self.query(query)
        with self._explaining():
            return job.to_arrow(create_bqstorage_client=False)

    def put(self, table: pa.Table) -> str:
        """Uploaded as Parquet."""
        relation = f"given_{uuid.uuid4().hex}"
        columns = dict.fromkeys(table.column_names, "STRING")
        self.query(f"CREATE TABLE {_name(relation)} ({_declared(columns)}) OPTIONS ({_EXPIRES})")
        file = io.BytesIO()
        pq.write_table(table, file)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            schema=[bigquery.SchemaField(name, "STRING") for name in table.column_names],
        )
        target = self.dataset.table(relation)
        with self._explaining():
            self.client.load_table_from_file(
                file, target, rewind=True, size=file.getbuffer().nbytes, job_config=config
            ).result()
        return relation

    def show(self, layer: Layer, keys: list[Key]) -> str:
        """Raw days are loaded from the bucket; of facts it is a view over their partitions."""
        relation = f"shown_{uuid.uuid4().hex}"
        if layer == "facts":
            of_keys = f"SELECT * FROM {_table(self.dataset, FACTS)} WHERE {_of(keys)}"
            self.query(f"CREATE VIEW {_name(relation)} OPTIONS ({_EXPIRES}) AS {of_keys}")
            return relation
        columns = {column.name: _TYPES.get(column.type, "STRING") for column in all_columns()} | _OWN
        self.query(_create(relation, columns, f" OPTIONS ({_EXPIRES})"))
        with self._explaining():
            self.client.load_table_from_uri(
                [self._uri(source, day) for source, day in keys], self.dataset.table(relation), job_config=self._load()
            ).result()
        return relation

    def forget(self, relation: str) -> None:
        """Drop the table or view."""
        with self._explaining():
            self.client.delete_table(self.dataset.table(relation), not_found_ok=True)

    def replace_facts(self, stamps: Mapping[Key, str], rules: Rules, query: str) -> None:
        """One MERGE takes the days' rows out and puts the new ones in: all of it happens or nothing.

        The stamps are not kept: nothing asks this engine yet what it holds.
        """
        columns = {column.name: _TYPES.get(column.type, "STRING") for column in all_columns()}
        columns |= {name: "STRING" for d in rules.dimensions for name in (d, f"{d}_key")} | _OWN
        self.query(_create(FACTS, columns).replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))
        there = {field.name for field in self.client.get_table(self.dataset.table(FACTS)).schema}
        for name in columns.keys() - there:  # dimensions may have come since
            self.query(f"ALTER TABLE {_name(FACTS)} ADD COLUMN IF NOT EXISTS {_name(name)} {columns[name]}")
        names = ", ".join(map(_name, [*columns, "source", "charge_date"]))
        self.query(
            f"MERGE INTO {_name(FACTS)} AS facts USING ({query}) AS built ON FALSE"
            f" WHEN NOT MATCHED BY SOURCE AND {_of(stamps)} THEN DELETE"
            f" WHEN NOT MATCHED BY TARGET THEN INSERT ({names}) VALUES ({names})"
        )

    def _load(self) -> bigquery.LoadJobConfig:
        """How raw days are loaded: day and source by the names of their folders, amounts without losing a digit."""
        folders = bigquery.HivePartitioningOptions()
        folders.mode = "CUSTOM"
        folders.source_uri_prefix = f"{self.lake.name}/raw/{{source:STRING}}/{{charge_date:DATE}}"
        return bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            hive_partitioning=folders,
            ignore_unknown_values=True,  # a source's own x_ columns
            decimal_target_types=[bigquery.DecimalTargetType.BIGNUMERIC],
        )

    def _uri(self, source: str, day: object) -> str:
        return f"{self.lake.name}/raw/source={source}/charge_date={day}/data.parquet"

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except GoogleAPICallError as error:
            told = error.errors[0] if error.errors else {"message": error.message}
            if told.get("reason") == "bytesBilledLimitExceeded":
                raise FinopsError(
                    f"{self.name}: the statement would bill more than {self.most_bytes:,} bytes, so it was not run and"
                    f" cost nothing ({told['message']}); ask for fewer days at a time, or raise the limit"
                ) from error
            raise FinopsError(f"{self.name}: {told['message']}") from error


_OWN = {"tag_set_id": "STRING", SOURCE_FILE: "STRING", SOURCE_ROW: "INT64"}
_EXPIRES = f"expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {KEPT_HOURS} HOUR)"


def _create(table: str, columns: Mapping[str, str], options: str = "") -> str:
    return (
        f"CREATE TABLE {_name(table)} ({_declared(columns)}, {_name('source')} STRING, {_name('charge_date')} DATE)"
        f" PARTITION BY {_name('charge_date')} CLUSTER BY {_name('source')}{options}"
    )


def _of(keys: Mapping[Key, str] | list[Key]) -> str:
    """The rows of these days. Each column is compared with literals: only so partitions are left out of the bill."""
    by_source: dict[str, list[str]] = {}
    for source, day in keys:
        by_source.setdefault(source, []).append(f"DATE '{day}'")
    days = sorted({day for found in by_source.values() for day in found})
    each = " OR ".join(
        f"({_name('source')} = {_text(source)} AND {_name('charge_date')} IN ({', '.join(found)}))"
        for source, found in by_source.items()
    )
    return f"{_name('charge_date')} IN ({', '.join(days)}) AND ({each})"


def _declared(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{_name(name)} {kind}" for name, kind in columns.items())


def _table(dataset: bigquery.DatasetReference, table: str) -> str:
    """In full: a view has no default dataset."""
    return f"{_name(dataset.project)}.{_name(dataset.dataset_id)}.{_name(table)}"


def _name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
