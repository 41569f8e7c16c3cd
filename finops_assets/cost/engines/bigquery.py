"""BigQuery: tables partitioned by day and clustered by source; the lake's days are loaded from its bucket.

Never run against the service: docs/guides/engines.md says what stood in its place. Every query has a limit of bytes billed.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery

from finops_assets.base.errors import FinopsError
from finops_assets.cost.engines.mirror import DAYS, DAYS_COLUMNS, Kind, by_source
from finops_assets.storage.lake import Key, Lake, Layer

_TYPES: dict[Kind, str] = {"decimal": "BIGNUMERIC", "datetime": "DATETIME", "text": "STRING", "count": "INT64"}
KEPT_HOURS = 24
"""How long what is only shown stays when nobody is left to forget it."""


class BigQuery:
    """`Tables` of a dataset, by Google's client (dagster-gcp's `BigQueryResource` gives one, too).

    The dataset must be in the location of the lake's bucket. A query that would bill more than `most_bytes` is refused by
    BigQuery before it costs anything; loading is free of charge.
    """

    dialect = "bigquery"
    at_once = 2_000
    """Partitions that one statement may change are 4,000 a table; a day of several sources is one."""

    def __init__(self, client: bigquery.Client, dataset: str, most_bytes: int) -> None:
        self.client, self.most_bytes = client, most_bytes
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

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The same, a page of the answer at a time."""
        job = self.query(query)
        with self._explaining():
            yield from job.result().to_arrow_iterable()

    def put(self, table: pa.Table) -> str:
        """Uploaded as Parquet."""
        relation = f"given_{uuid.uuid4().hex}"
        columns = dict.fromkeys(table.column_names, "STRING")
        self.query(f"CREATE TABLE {_name(relation)} ({_declared(columns)}) OPTIONS ({_EXPIRES})")
        self._upload(relation, table)
        return relation

    def forget(self, relation: str) -> None:
        """Drop the table or view."""
        with self._explaining():
            self.client.delete_table(self.dataset.table(relation), not_found_ok=True)

    def note(self, table: pa.Table) -> None:
        """Uploaded, too: free of charge, where an INSERT is counted."""
        self._upload(DAYS, table)

    def have(self, table: str, columns: Mapping[str, Kind]) -> None:
        """Columns that came since, as those of new dimensions, are added."""
        texts = _declared(dict.fromkeys(DAYS_COLUMNS, "STRING"))
        self.query(f"CREATE TABLE IF NOT EXISTS {_name(DAYS)} ({texts})")
        kinds = {name: _TYPES[kind] for name, kind in columns.items()}
        self.query(_create(table, kinds).replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))
        there = {field.name for field in self.client.get_table(self.dataset.table(table)).schema}
        for name in kinds.keys() - there:
            self.query(f"ALTER TABLE {_name(table)} ADD COLUMN IF NOT EXISTS {_name(name)} {kinds[name]}")

    def view(self, table: str, keys: Sequence[Key]) -> str:
        """Over the days' partitions."""
        relation = f"shown_{uuid.uuid4().hex}"
        of_keys = f"SELECT * FROM {_table(self.dataset, table)} WHERE {self.of_keys(keys)}"
        self.query(f"CREATE VIEW {_name(relation)} OPTIONS ({_EXPIRES}) AS {of_keys}")
        return relation

    def replace(self, table: str, keys: Sequence[Key], columns: Sequence[str], query: str) -> None:
        """One MERGE takes the days' rows out and puts the new ones in: all of it happens or nothing."""
        names = ", ".join(map(_name, [*columns, "source", "charge_date"]))
        self.query(
            f"MERGE INTO {_name(table)} AS held USING ({query}) AS built ON FALSE"
            f" WHEN NOT MATCHED BY SOURCE AND {self.of_keys(keys)} THEN DELETE"
            f" WHEN NOT MATCHED BY TARGET THEN INSERT ({names}) VALUES ({names})"
        )

    def take(self, table: str, keys: Sequence[Key], columns: Sequence[str], other: str) -> None:
        """By the same statement."""
        names = ", ".join(map(_name, [*columns, "source", "charge_date"]))
        self.replace(table, keys, columns, f"SELECT {names} FROM {_name(other)} WHERE {self.of_keys(keys)}")

    def load(self, table: str, lake: Lake, layer: Layer, keys: Sequence[Key], columns: Mapping[str, Kind]) -> None:
        """By a load job into a table beside it, from which they take the days' place.

        Raises:
            FinopsError: the lake is not on Google Cloud Storage.
        """
        if not lake.name.startswith("gs://"):
            raise FinopsError(
                f"lake {lake.name}: BigQuery loads days from Google Cloud Storage only; set `lake:` in finops.yaml to"
                " gs://bucket/folder"
            )
        beside = f"loaded_{uuid.uuid4().hex}"
        kinds = {name: _TYPES[kind] for name, kind in columns.items()}
        self.query(_create(beside, kinds, f" OPTIONS ({_EXPIRES})"))
        files = [f"{lake.name}/{layer}/source={source}/charge_date={day}/data.parquet" for source, day in keys]
        try:
            with self._explaining():
                job = self.client.load_table_from_uri(
                    files, self.dataset.table(beside), job_config=_by_folders(lake, layer)
                )
                job.result()
            self.replace(table, keys, list(columns), f"SELECT * FROM {_name(beside)}")
        finally:
            self.forget(beside)

    def quoted(self, name: str) -> str:
        """In backquotes."""
        return _name(name)

    def of_keys(self, keys: Iterable[Key]) -> str:
        """Each column is compared with literals: only so partitions are left out of the bill."""
        of_source = {source: [f"DATE '{day}'" for day in days] for source, days in by_source(keys).items()}
        all_days = sorted({day for days in of_source.values() for day in days})
        each = " OR ".join(
            f"({_name('source')} = {_text(source)} AND {_name('charge_date')} IN ({', '.join(days)}))"
            for source, days in of_source.items()
        )
        return f"{_name('charge_date')} IN ({', '.join(all_days)}) AND ({each})"

    def _upload(self, relation: str, table: pa.Table) -> None:
        file = io.BytesIO()
        pq.write_table(table, file)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            schema=[bigquery.SchemaField(name, "STRING") for name in table.column_names],
        )
        with self._explaining():
            self.client.load_table_from_file(
                file, self.dataset.table(relation), rewind=True, size=file.getbuffer().nbytes, job_config=config
            ).result()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except GoogleAPICallError as error:
            told = error.errors[0] if error.errors else {"message": error.message}
            if told.get("reason") == "bytesBilledLimitExceeded":
                raise FinopsError(
                    f"{self.name}: the statement would bill more than {self.most_bytes:,} bytes, so it was not run and"
                    f" cost nothing ({told['message']}); ask for fewer days at a time, or raise"
                    " engine.maximum_bytes_billed in finops.yaml"
                ) from error
            raise FinopsError(f"{self.name}: {told['message']}") from error


@cache
def connected_to(place: str, most_bytes: int) -> BigQuery:
    """This process's tables at `bigquery://project/dataset`, with Google's own credentials of the environment.

    Raises:
        FinopsError: there are no credentials.
    """
    project, _, dataset = place.removeprefix("bigquery://").partition("/")
    try:
        client = bigquery.Client(project=project)
    except GoogleAuthError as error:
        raise FinopsError(
            f"engine.run_on in finops.yaml is {place}, but Google's client finds no credentials ({error}); set"
            " GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
        ) from error
    return BigQuery(client, f"{project}.{dataset}", most_bytes)


def _by_folders(lake: Lake, layer: Layer) -> bigquery.LoadJobConfig:
    """How days are loaded: day and source by the names of their folders, amounts without losing a digit."""
    folders = bigquery.HivePartitioningOptions()
    folders.mode = "CUSTOM"
    folders.source_uri_prefix = f"{lake.name}/{layer}/{{source:STRING}}/{{charge_date:DATE}}"
    return bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        hive_partitioning=folders,
        ignore_unknown_values=True,  # a source's own x_ columns
        decimal_target_types=[bigquery.DecimalTargetType.BIGNUMERIC],
    )


_EXPIRES = f"expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {KEPT_HOURS} HOUR)"


def _create(table: str, columns: Mapping[str, str], options: str = "") -> str:
    return (
        f"CREATE TABLE {_name(table)} ({_declared(columns)}, {_name('source')} STRING, {_name('charge_date')} DATE)"
        f" PARTITION BY {_name('charge_date')} CLUSTER BY {_name('source')}{options}"
    )


def _declared(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{_name(name)} {kind}" for name, kind in columns.items())


def _table(dataset: bigquery.DatasetReference, table: str) -> str:
    """In full: a view has no default dataset."""
    return f"{_name(dataset.project)}.{_name(dataset.dataset_id)}.{_name(table)}"


def _name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
