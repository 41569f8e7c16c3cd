"""ClickHouse's HTTP interface before chDB: as much of it as the real client, clickhouse-connect, asks for.

The engine behind it is the real one. Like a server's, a request's settings are those of its parameters and no others.
"""

from __future__ import annotations

import base64
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PLAIN = "TabSeparated"
"""The interface's format where a statement names none."""
# Parameters of the interface that are no settings.
OWN = {
    "query", "database", "session_id", "session_timeout", "query_id", "client_protocol_version", "wait_end_of_query",
    "buffer_size", "role", "user", "password", "default_format", "http_headers_progress_interval_ms",
    "send_progress_in_http_headers", "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip


@dataclass
class Front:
    """A server's other side: the settings of each request that came, and how it is to misbehave."""

    session: Any
    port: int = 0
    password: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    fails_at: str | None = None
    """A server that is stopped before it does a statement that has this in it, and answers nothing from then on."""
    down: bool = False


@contextmanager
def front(session: Any, password: str = "") -> Iterator[Front]:
    """ClickHouse's HTTP interface on loopback, for the user `default`."""
    one_at_a_time = threading.Lock()
    state = Front(session, password=password)
    seen = state.seen
    expected = "Basic " + base64.b64encode(f"default:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200, b"Ok.\n")  # /ping

        def do_POST(self) -> None:
            given = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
            body = self._body()
            statement = given.get("query", "") or body.decode(errors="replace")
            state.statements.append(statement)
            state.down = state.down or bool(state.fails_at and state.fails_at in statement)
            if state.down:
                self.close_connection = True
                return
            if self.headers.get("Authorization", "Basic ZGVmYXVsdDo=") != expected:
                self._answer(403, b"Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)")
                return
            settings = {k: v for k, v in given.items() if k not in OWN and not k.startswith("param_")}
            seen.append(settings)
            try:
                with one_at_a_time:
                    session.query(f"USE `{given.get('database') or 'default'}`")
                    found = self._run(given.get("query", ""), body, settings)
            except Exception as error:
                self._answer(500, str(error).encode())
            else:
                self._answer(200, found)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _run(self, query: str, body: bytes, settings: dict[str, str]) -> bytes:
            for name, value in settings.items():
                session.query(f"SET {name} = '{value}'")
            try:
                if not query:
                    return bytes(session.query(body.decode(), PLAIN).bytes())
                insert, _, kind = query.rpartition(" FORMAT ")
                if not body or not insert:
                    return bytes(session.query(f"{query}\n{body.decode()}", PLAIN).bytes())
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / "given"
                    file.write_bytes(body)
                    session.query(f"{insert} SELECT * FROM file('{file}', {kind.strip()})")
                return b""
            finally:
                for name in settings:
                    session.query(f"SET {name} = DEFAULT")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.port = server.server_port
        yield state
        server.shutdown()
