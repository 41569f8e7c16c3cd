"""Apache Spark: facts as the lake's own files, one of a (day, source), each put in its place by the lake.

The lake must lie on a path that driver and workers share. Workers run no Python.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DateType,
    DecimalType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
)

from finops_assets.base.errors import FinopsError, LakeError
from finops_assets.base.spread import Found, Part
from finops_assets.cost.attribution.rules import Rules
from finops_assets.focus.money import SCALE
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.storage.day_files import put_day
from finops_assets.storage.lake import Key, Lake, Layer

SETTINGS = {
    # An overflow is an error, not a NULL.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    # Never trade places behind the point for places before it.
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    # The lake's TIMESTAMP has no zone, here as there.
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.compression.codec": "zstd",
}
# DuckDB holds a row group of 80 columns for each of its threads; by default they would be eight times as large.
ROW_GROUP_BYTES = 16 * 2**20
# What is joined is sent to every worker whole up to here; beyond it Spark sorts both sides.
BROADCAST_BYTES = 256 * 2**20
MASTER_PATIENCE_SECONDS = 5.0
WORKER_PATIENCE_SECONDS = 300.0

_TYPES: dict[str, DataType] = {"decimal": DecimalType(38, SCALE), "datetime": TimestampNTZType()}
_FOCUS = {column.name: _TYPES.get(column.type, StringType()) for column in all_columns()}
_ORIGIN: dict[str, DataType] = {"tag_set_id": StringType(), SOURCE_FILE: StringType(), SOURCE_ROW: LongType()}
_STARTING = Lock()
_running: list[SparkSession] = []
"""This process's one session, if there is one. Spark's own idea of it differs by thread."""


class Spark:
    """An `Engine` on a Spark session, local or on a cluster."""

    dialect = "spark"

    def __init__(self, session: SparkSession, lake: Lake) -> None:
        self.session, self.lake = session, lake
        self._sorted = False
        for name, value in SETTINGS.items():
            session.conf.set(name, value)

    @property
    def name(self) -> str:
        """Its version and master."""
        return f"Spark {self.session.version}, {self.session.sparkContext.master}"

    @property
    def at_once(self) -> int:
        """A day is written by one task: some for each core."""
        return int(16 * max(2, self.session.sparkContext.defaultParallelism))

    def put(self, table: pa.Table) -> str:
        """From Arrow: by way of pandas a missing value became the text 'NaN', and nothing was untagged."""
        frame: Any = self.session.createDataFrame(table)
        if table.nbytes <= BROADCAST_BYTES:
            return self._named(F.broadcast(frame))
        self._sorted = True
        return self._named(frame)

    def show(self, layer: Layer, keys: list[Key]) -> str:
        """A view over the days' files, source and charge_date from their folders.

        Raises:
            LakeError: a file lacks a column, which Spark would take for missing values.
        """
        files = self.lake.fetch([self.lake.day_file(layer, *key) for key in keys])
        columns = {**_FOCUS, **_ORIGIN}
        if layer not in ("raw", "split"):
            # Focus, then the dimensions, all of them texts.
            columns = {name: columns.get(name, StringType()) for name in pq.read_schema(files[0]).names}
        for file in files:
            lacking = columns.keys() - set(pq.read_schema(file).names)
            if lacking:
                raise LakeError(
                    f"lake {self.lake.name}: {file.relative_to(self.lake.root)} has no column {', '.join(sorted(lacking))};"
                    " it is of an older version or of other rules: run the day's raw and facts again"
                )
        folders: dict[str, DataType] = {"source": StringType(), "charge_date": DateType()}
        schema = StructType([StructField(name, kind) for name, kind in (columns | folders).items()])
        with self._explaining():
            reader = self.session.read.schema(schema).option("basePath", _uri(self.lake.root / layer))
            return self._named(reader.parquet(*map(_uri, files)))

    def forget(self, relation: str) -> None:
        """Drop the view."""
        self.session.catalog.dropTempView(relation)

    def keep_only(self, keys: Iterable[Key], days: Iterable[date]) -> None:
        """Nothing to do: it has no tables but the lake's files."""

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""
        with self._explaining():
            return self.session.sql(query).toArrow()

    def replace_facts(self, stamps: Mapping[Key, str], rules: Rules, query: str) -> None:
        """A task for each day writes its file beside the lake's, the lake puts it in its place: one rename, no folder.

        Spark lets nobody write keys of their own into a file's footer, but keeps there what is told with a column.
        """
        told = json.dumps({f"{source} {day}": stamp for (source, day), stamp in stamps.items()})
        with self.lake.workspace() as workspace, self._explaining():
            folder = workspace / "facts"
            with self._a_task_for_each_file():
                frame = self.session.sql(query).withMetadata(SOURCE_ROW, {"finops_stamps": told})
                # After a join by sorting the rows of a day are everywhere.
                frame = frame.repartition("source", "charge_date") if self._sorted else frame
                writer = frame.write.option("parquet.block.size", ROW_GROUP_BYTES)
                writer.partitionBy("source", "charge_date").parquet(_uri(folder))
            for key in stamps:
                parts = sorted((folder / f"source={key[0]}" / f"charge_date={key[1]}").glob("part-*.parquet"))
                if not parts and not pq.read_metadata(self.lake.day_file("raw", *key)).num_rows:
                    nothing = frame.where(F.lit(False)).drop("source", "charge_date")
                    nothing.coalesce(1).write.parquet(_uri(workspace / "nothing"), mode="overwrite")
                    parts = sorted((workspace / "nothing").glob("part-*.parquet"))
                if len(parts) != 1:
                    raise self._not_shared(f"for source {key[0]}, {key[1]}, {len(parts)} files came back, not 1")
                put_day(self.lake, key, partial(os.replace, parts[0]))

    @contextmanager
    def _a_task_for_each_file(self) -> Iterator[None]:
        """No file is split, and none is read together with another."""
        settings = {
            "spark.sql.files.maxPartitionBytes": str(2**40),
            "spark.sql.files.openCostInBytes": str(2**40),
            # A task has one day, so needs no sorting to write it; after a join by sorting it has several.
            "spark.sql.maxConcurrentOutputFileWriters": "0" if self._sorted else "2",
        }
        before = {name: self.session.conf.get(name) for name in settings}
        try:
            for name, value in settings.items():
                self.session.conf.set(name, value)
            yield
        finally:
            for name, old in before.items():
                self.session.conf.set(name, str(old))

    def _named(self, frame: Any) -> str:
        name = f"finops_{uuid.uuid4().hex}"
        frame.createOrReplaceTempView(name)
        return name

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Spark's complaints about the lake, and about its own end, as ours."""
        try:
            yield
        except (PySparkException, Py4JError) as error:
            text = str(error)
            if any(told in text for told in ("FILE_NOT_EXIST", "FileNotFoundException", "Mkdirs failed")):
                raise self._not_shared(_first_line(text)) from error
            if _ended(self.session):
                raise FinopsError(
                    f"{self.name}: the application ended while it worked ({_first_line(text)}). Nothing was replaced by"
                    " halves; see the master's page for who ended it, then run the days again"
                ) from error
            raise

    def _not_shared(self, found: str) -> LakeError:
        return LakeError(
            f"lake {self.lake.name}: Spark's workers do not see {self.lake.root} as this machine does ({found});"
            " nothing was replaced. Mount the lake on every worker under this path, writable for the user that runs"
            " them; or take engine.run_on out of finops.yaml, and DuckDB on this machine does the work"
        )


class SparkSpread:
    """A `Spread` on a master: each part is a task of its own, in a Python of the workers that has this project.

    The session is made when there is work: a night without a large delivery needs none.
    """

    least_bytes = 64 << 20

    def __init__(self, master: str) -> None:
        self.master = master

    def __call__(self, work: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
        """Of one that a worker was lost with, Spark begins anew elsewhere.

        Raises:
            FinopsError: the workers' Python lacks this project, or is of another version.
        """
        if not parts:
            return []
        context: Any = session_on(self.master).sparkContext
        try:
            found = context.parallelize(list(parts), len(parts)).map(partial(_answered, work)).collect()
        except Py4JError as error:
            told = str(error)
            if "ModuleNotFoundError" in told or "PYTHON_VERSION_MISMATCH" in told:
                raise FinopsError(
                    f"{_setting(context.master)}, and its workers' Python cannot land deliveries ({_last_line(told)}): give"
                    " them one of this version with this project in it, and name it in spark.pyspark.python of"
                    " spark-defaults.conf; facts and rollup need none"
                ) from error
            raise FinopsError(f"Spark, {context.master}: a task of landing failed: {_last_line(told)}") from error
        for answer in found:
            if isinstance(answer, Exception):
                raise answer
        return list(found)


def _answered(work: Callable[[Part], Found], part: Part) -> Found | Exception:
    """Its error is handed on as it is: Spark would try it again, and then tell it as text."""
    try:
        return work(part)
    except Exception as error:
        return error


def session_on(master: str) -> SparkSession:
    """This process's session on a master, made when first asked for, stopped when the process ends.

    Everything else about it is Spark's own configuration: `spark-defaults.conf` in $SPARK_CONF_DIR, $SPARK_LOCAL_IP.

    Raises:
        FinopsError: no Java, nobody answers there, or no worker takes the application.
    """
    with _STARTING:
        if _running and _ended(_running[0]):
            _running.pop().stop()
        if not _running:
            _require_java(master)
            _require_master(master)
            # Where nobody has said which Python the workers have, it is this one's path: so it is on one machine.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            # Nothing is kept there, but Spark makes the folder, else in the current one.
            scratch = Path(tempfile.gettempdir()) / f"finops-spark-{os.getpid()}"
            unnamed: Any = SparkSession.builder
            builder = unnamed.master(master).appName("finops_assets").config("spark.sql.warehouse.dir", _uri(scratch))
            try:
                _running.append(builder.getOrCreate())
            except Exception as error:
                raise FinopsError(f"{_setting(master)}: Spark does not start: {_first_line(str(error))}") from error
            atexit.register(shutil.rmtree, scratch, ignore_errors=True)
            atexit.register(stop_session)
        [session] = _running
        at = session.sparkContext.master
        if at != master:
            raise FinopsError(
                f"{_setting(master)}, but this process has a Spark session on {at} already; stop it first"
            )
        _require_worker(session, master)
        return session


def stop_session() -> None:
    """Give back what this process has of a cluster. The next `session_on` begins anew."""
    while _running:
        _running.pop().stop()


def _require_java(master: str) -> None:
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java") and not (home and (Path(home) / "bin" / "java").is_file()):
        raise FinopsError(
            f"{_setting(master)}, which needs Java 17 on this machine, in PATH or at $JAVA_HOME; none is there"
        )


def _require_master(master: str) -> None:
    """Spark itself would try for a minute and then fail in words about something else."""
    if not master.startswith("spark://"):
        return
    problems = []
    for place in master.removeprefix("spark://").split(","):
        host, _, port = place.rpartition(":")
        try:
            socket.create_connection((host, int(port)), MASTER_PATIENCE_SECONDS).close()
        except OSError as error:
            problems.append(f"{place}: {error}")
        else:
            return
    raise FinopsError(
        f"{_setting(master)}, but no master answers there ({'; '.join(problems)}). Start it, correct the address, or let"
        " this machine through to it; without the line DuckDB on this machine does the work"
    )


def _require_worker(session: SparkSession, master: str) -> None:
    """Spark itself would wait without an end."""
    context: Any = session.sparkContext
    # Dynamic allocation takes workers when there are tasks for them, not before.
    if master.startswith("local") or context.getConf().get("spark.dynamicAllocation.enabled") == "true":
        return
    deadline = time.monotonic() + WORKER_PATIENCE_SECONDS
    # One of them is this process.
    while not _ended(session) and context._jsc.sc().getExecutorMemoryStatus().size() < 2:
        if time.monotonic() > deadline:
            session.stop()
            raise FinopsError(
                f"{_setting(master)}, whose master answers, but no worker took the application within"
                f" {WORKER_PATIENCE_SECONDS:g} s: none is registered, none has cores and memory free, or they do not"
                " reach this machine. See the master's page; memory and cores asked for are Spark's own settings"
                " (spark.executor.memory, spark.cores.max in spark-defaults.conf)"
            )
        time.sleep(0.2)


def _ended(session: SparkSession) -> bool:
    context: Any = session.sparkContext
    try:
        return context._jsc is None or bool(context._jsc.sc().isStopped())
    except Py4JError:
        return True


def _setting(master: str) -> str:
    return f"engine.run_on in finops.yaml is {master}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]


def _last_line(text: str) -> str:
    """Of a traceback of Python within one of Java: what Python said."""
    lines = [line.strip() for line in text.splitlines()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|MISMATCH)\b", line) and "py4j" not in line]
    return (named or [_first_line(text)])[0][:300]


def _uri(path: Path) -> str:
    """With its scheme: a cluster's own default may be another file system."""
    return f"file://{path.absolute()}"
