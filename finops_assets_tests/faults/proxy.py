"""An HTTP proxy on loopback before a store's server, which does to requests what networks and services do to them."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("drop", "delay", "truncate", "429", "500", "503")
DELAY_SECONDS = 1.5
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade", "proxy-connection"}


@dataclass
class Plan:
    """What happens to requests: a fault of a kind to a share of them, by seed, and what is done at moments."""

    kind: str = ""
    share: float = 0.0
    seed: int = 0
    before_read: Callable[[], None] | None = None
    """Called once, before the first object is read."""
    stale_lists: int = 0
    """So many listings are answered as that place was listed before."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests, and faults, by kind."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    listings: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)

    def struck(self) -> bool:
        """Is the next request struck?"""
        with self.lock:
            self.asked["requests"] += 1
            number = self.asked["requests"]
            # The second in any case: a run may ask for little.
            chance = random.Random(f"{self.seed} {self.kind} {number}").random()
            hit = bool(self.kind) and (number == 2 or chance < self.share)
            self.asked["struck"] += hit
            return hit

    def first_read(self) -> Callable[[], None] | None:
        """What is to be done before the first object is read."""
        with self.lock:
            action, self.before_read = self.before_read, None
            return action


class Proxy:
    """The proxy; `plan` may be replaced at any time."""

    def __init__(self, upstream: str) -> None:
        self.plan = Plan()
        target = urlsplit(upstream)
        assert target.hostname
        assert target.port
        proxy, host, port = self, target.hostname, target.port

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def log_message(self, format: str, *args: object) -> None:
                pass

            def handle_one_request(self) -> None:
                with suppress(ConnectionError, TimeoutError):
                    super().handle_one_request()

            def _forward(self) -> None:
                plan, body = proxy.plan, self._body()
                struck = plan.struck()
                if struck and plan.kind == "drop":
                    self.close_connection = True
                    return
                if struck and plan.kind == "delay":
                    time.sleep(DELAY_SECONDS)
                if struck and plan.kind.isdigit():
                    self._answer(int(plan.kind), [("Retry-After", "1")], _refusal(int(plan.kind)))
                    return
                listing = self.command == "GET" and _lists(self.path)
                if self.command == "GET" and not listing and (action := plan.first_read()):
                    action()
                if listing and plan.stale_lists > 0 and (old := plan.listings.get(self.path)):
                    plan.stale_lists -= 1
                    plan.asked["stale"] += 1
                    self._answer(*old)
                    return
                connection = http.client.HTTPConnection(host, port, timeout=60)
                try:
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                    # Some clients sign the host that they ask, and servers write it into addresses.
                    connection.request(self.command, self.path, body, headers)
                    found = connection.getresponse()
                    content = found.read()
                finally:
                    connection.close()
                kept = [(k, v) for k, v in found.getheaders() if k.lower() not in HOP]
                length = found.getheader("Content-Length") if self.command == "HEAD" else None
                if listing and found.status == 200:
                    plan.listings[self.path] = (found.status, kept, content)
                cut = len(content) // 2 if struck and plan.kind == "truncate" and len(content) > 1 else None
                self._answer(found.status, kept, content, length, cut)

            def _body(self) -> bytes:
                if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
                    parts = []
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _answer(
                self,
                status: int,
                headers: list[tuple[str, str]],
                content: bytes,
                length: str | None = None,
                cut: int | None = None,
            ) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if status not in (204, 304):
                    self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content if cut is None else content[:cut])
                if cut is not None:
                    self.wfile.flush()
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _forward

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}{target.path}"


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """A proxy before a server, for as long as the block lasts."""
    proxy = Proxy(upstream)
    thread = threading.Thread(target=proxy.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()


def _lists(path: str) -> bool:
    """Is a GET a listing? S3 and Azure name it in the query; Google's has no object in its path."""
    where, _, query = path.partition("?")
    return (
        "list-type=" in query or "comp=list" in query or (where.startswith("/storage/v1/b/") and where.endswith("/o"))
    )


def _refusal(status: int) -> bytes:
    code = {429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}[status]
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>try later</Message></Error>'.encode()
