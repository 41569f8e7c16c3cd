"""BigQuery's REST API on loopback, as much of it as the adapter asks for. No BigQuery is behind it.

Every statement must be read by sqlglot's BigQuery dialect; what it read is then run by DuckDB. That shows that requests
are formed as Google's client forms them and that the statements say what they should; not that BigQuery takes them.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import sqlglot
from sqlglot import exp

from finops_assets.base.sql import identifier, literal
from finops_assets.focus.money import SCALE

KINDS = {"DECIMAL": "BIGNUMERIC", "VARCHAR": "STRING", "TIMESTAMP": "DATETIME", "DATE": "DATE", "BOOLEAN": "BOOLEAN"}
BILLED = 10 << 20
"""What every query is said to bill: BigQuery's least."""


@dataclass
class Service:
    """A dataset `finops` of the project `p`, and a bucket that is a folder."""

    bucket: dict[str, Path]
    database: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    """The configurations of the jobs that came, in order."""
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)

    def insert(self, asked: dict[str, Any], file: bytes | None = None) -> dict[str, Any]:
        """jobs.insert: run at once."""
        job = asked.get("jobReference", {}).get("jobId") or uuid.uuid4().hex
        configuration = asked["configuration"]
        self.jobs.append(configuration)
        status: dict[str, Any] = {"state": "DONE"}
        try:
            if "query" in configuration:
                self.answers[job] = self._query(configuration["query"])
            else:
                self._load(configuration["load"], file)
        except Refused as error:
            status["errorResult"] = {"reason": error.args[0], "message": error.args[1]}
            status["errors"] = [status["errorResult"]]
        reference = {"projectId": "p", "jobId": job, "location": "EU"}
        return {"kind": "bigquery#job", "jobReference": reference, "configuration": configuration, "status": status}

    def _query(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["useLegacySql"] or int(asked["maximumBytesBilled"]) < BILLED:
            raise Refused(
                "bytesBilledLimitExceeded", f"Query exceeded limit for bytes billed. {BILLED} or higher required."
            )
        assert asked["defaultDataset"] == {"projectId": "p", "datasetId": "finops"}
        try:
            cursor = self.database.execute(in_duckdb(asked["query"]))
        except duckdb.Error as error:
            raise Refused("invalidQuery", str(error)) from error
        found = cursor.fetchall()
        kinds = [(name, str(kind).partition("(")[0]) for name, kind, *_ in cursor.description or []]
        if [name for name, _ in kinds] == ["Count"]:
            return {"jobComplete": True}  # of a statement that changes something
        schema = [{"name": name, "type": KINDS.get(kind, "INTEGER")} for name, kind in kinds]
        rows = [{"f": [{"v": None if v is None else _text(v)} for v in row]} for row in found]
        return {"jobComplete": True, "schema": {"fields": schema}, "rows": rows, "totalRows": str(len(rows))}

    def _load(self, asked: dict[str, Any], file: bytes | None) -> None:
        table = asked["destinationTable"]["tableId"]
        assert asked["sourceFormat"] == "PARQUET"
        assert asked["writeDisposition"] == "WRITE_APPEND"
        columns = [column["name"] for column in self.schema(table)]
        if file is not None:
            path = next(iter(self.bucket.values())) / f"{uuid.uuid4().hex}.parquet"
            path.write_bytes(file)
            self.database.execute(f"INSERT INTO {identifier(table)} BY NAME FROM read_parquet({literal(str(path))})")
            path.unlink()
            return
        assert asked["ignoreUnknownValues"]
        assert asked["decimalTargetTypes"] == ["BIGNUMERIC"]
        prefix, _, folders = asked["hivePartitioningOptions"]["sourceUriPrefix"].partition("/{")
        assert folders == "source:STRING}/{charge_date:DATE}"
        for uri in asked["sourceUris"]:
            [path] = [folder / uri.removeprefix(f"{at}/") for at, folder in self.bucket.items() if uri.startswith(at)]
            assert uri.startswith(prefix)
            placed = dict(part.split("=") for part in uri.split("/") if "=" in part)
            names = ", ".join(identifier(c) for c in columns if c not in placed)
            self.database.execute(
                f"INSERT INTO {identifier(table)} BY NAME SELECT {names}, {literal(placed['source'])} AS source,"
                f" DATE {literal(placed['charge_date'])} AS charge_date"
                f" FROM read_parquet({literal(str(path))}, hive_partitioning = false)"
            )

    def schema(self, table: str) -> list[dict[str, str]]:
        found = self.database.execute(f"DESCRIBE {identifier(table)}").fetchall()
        return [{"name": name, "type": KINDS.get(kind.partition("(")[0], "INTEGER")} for name, kind, *_ in found]

    def forget(self, table: str) -> None:
        kind = (
            "VIEW" if self.database.execute("FROM duckdb_views() WHERE view_name = ?", [table]).fetchall() else "TABLE"
        )
        self.database.execute(f"DROP {kind} {identifier(table)}")
        self.forgotten.append(table)


class Refused(Exception):
    """(reason, message)"""


def in_duckdb(sql: str) -> str:
    """A statement as sqlglot's BigQuery dialect reads it, for DuckDB."""
    [tree] = sqlglot.parse(sql, read="bigquery")
    assert tree is not None
    assert not isinstance(tree, exp.Command), f"not understood: {sql}"
    for create in tree.find_all(exp.Create):
        create.set("properties", None)  # partitions, clusters and options
    for table in tree.find_all(exp.Table):
        table.set("db", None)
        table.set("catalog", None)
    for kind in tree.find_all(exp.DataType):
        if kind.is_type(exp.DataType.Type.BIGDECIMAL):
            kind.replace(exp.DataType.build(f"DECIMAL(38, {SCALE})"))
    return tree.sql("duckdb")


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@contextmanager
def bigquery_service(bucket: dict[str, Path]) -> Iterator[tuple[str, Service]]:
    """Its address; the bucket's URIs and where they lie."""
    service, one_at_a_time = Service(bucket), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path.partition("?")[0].endswith("/projects/p/jobs"), self.path
            with one_at_a_time:
                if self.path.startswith("/upload/"):
                    boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
                    told, file = (part.partition(b"\r\n\r\n")[2] for part in body.split(b"--" + boundary)[1:3])
                    self._answer(service.insert(json.loads(told), file.removesuffix(b"\r\n")))
                else:
                    self._answer(service.insert(json.loads(body)))

        def do_GET(self) -> None:
            path, last = urlsplit(self.path).path, urlsplit(self.path).path.rpartition("/")[2]
            with one_at_a_time:
                if "/queries/" in path:
                    answer = dict(service.answers[last])
                    if parse_qs(urlsplit(self.path).query).get("maxResults") == ["0"]:
                        answer.pop("rows", None)
                    self._answer(answer | {"jobReference": {"projectId": "p", "jobId": last, "location": "EU"}})
                else:
                    reference = {"projectId": "p", "datasetId": "finops", "tableId": last}
                    self._answer({"tableReference": reference, "schema": {"fields": service.schema(last)}})

        def do_DELETE(self) -> None:
            with one_at_a_time:
                service.forget(urlsplit(self.path).path.rpartition("/")[2])
            self._answer({})

        def _answer(self, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", service
        server.shutdown()
