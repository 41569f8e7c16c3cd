"""Hostile text in every name and tag, and planted secrets, through the whole product: page, terminal, CSV, history, alerts."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets_tests.faults.bill import FIRST, SOURCES, Bill, Figure, Figures, charge, csv_text, of_day
from finops_assets_tests.faults.project import Fault, Project, told
from finops_assets_tests.faults.table import Row

WITHIN = 600.0
"""Seconds: a store that refuses is asked again three times, with pauses that add up to more than two minutes."""
MARK = "zqx"
"""Stands in every hostile text, so that it is found again wherever it comes out."""
TEXTS = {
    "SQL": f"{MARK}'; DROP TABLE daily_cost_by_team; --",
    "HTML": f'{MARK}"><img src=x onerror=alert(1)><script>alert(1)</script>',
    "Markdown": f"{MARK} [x](javascript:alert(1)) ![i](http://127.0.0.1:1/x) **b** `c` | a | b |",
    "ANSI": f"{MARK}\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b31m",
    "formula": f'=HYPERLINK("http://127.0.0.1:1/{MARK}","y")',
    "at formula": f"@sum(1+1)*cmd|' /c calc'!a0 {MARK}",
    "right to left": f"{MARK}\u202egnp.exe\u2066\u2069",
    "markup": f"{MARK} [/legacy] [bold]x[/bold] [link=http://127.0.0.1:1]y[/link] [red",
    "template": f"{MARK} {{{{7*7}}}} {{%x%}} %s %(a)s {{0}} $(id) `id`",
    "lines": f"{MARK}\r\nBcc: a@b.example\r\n\r\nbody\ttab",
    "sentinel": "__untagged__",
    "path": f"../../../../tmp/{MARK}/../..",
    "long": f"{MARK}" + "l" * 1_000_000,
}
SECRETS = {
    "FINOPS_SLACK": "http://127.0.0.1:{port}/services/T0/{secret}",
    "FINOPS_HOOK": "http://127.0.0.1:{port}/hook?token={secret}",
    "FINOPS_HEADER": "Bearer {secret}",
    "FINOPS_SMTP_USER": "user-{secret}",
    "FINOPS_SMTP_PASSWORD": "{secret}",
    "AWS_ACCESS_KEY_ID": "AKIA{secret}",
    "AWS_SECRET_ACCESS_KEY": "{secret}",
    "AWS_SESSION_TOKEN": "{secret}",
    "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=a;AccountKey={secret}==;"
    "BlobEndpoint=http://127.0.0.1:{port}/a;",
    "GOOGLE_APPLICATION_CREDENTIALS_JSON": '{{"private_key": "{secret}"}}',
}
ALERTS = """
alerts:
  channels:
    - {kind: slack, webhook_env: FINOPS_SLACK}
    - {kind: webhook, url_env: FINOPS_HOOK, headers_env: {Authorization: FINOPS_HEADER}}
    - {kind: smtp, host: 127.0.0.1, port: PORT, sender: finops@example.com, to: [team@example.com], starttls: false,
       username_env: FINOPS_SMTP_USER, password_env: FINOPS_SMTP_PASSWORD}
"""


def hostile(scratch: Path, seed: int, say: Callable[[str], None] = print) -> list[Row]:
    """Both; a row each."""
    rows = []
    for try_ in (texts, secrets):
        row = try_(scratch, seed)
        rows.append(row)
        say(f"{row.name}: {row.tried} tried, {len(row.faults)} found")
        for trial, fault in row.faults:
            say(f"    {fault.kind}: {trial}: {fault.what}")
    return rows


# ---- hostile texts ----


def texts(scratch: Path, seed: int, few: bool = False) -> Row:
    """A bill in which every text is hostile. `few`: not every command."""
    row = Row("hostile text in every name and tag")
    project = Project(scratch / "hostile", Bill(seed, days=2))
    project.make()
    truth = deliver(project, seed)
    done = project.finops("run", *project.range)
    row.add("finops run", told(done, (0, 3)) + escaping(done.said, "what finops run said"))
    rollup, facts = project.figures()
    days = sorted({key[0] for key in truth})
    for name, found in (("rollup", rollup), ("facts", facts)):
        wrong = [day for day in days if sums(of_day(found, day)) != sums(of_day(truth, day))]
        row.add(name, [Fault("silent", f"{name} of {day} differs from the bill") for day in wrong])
    period = ("--from", FIRST.isoformat(), "--to", project.bill.end.isoformat())
    for command in ("teams",) if few else ("teams", "services", "untagged", "savings"):
        for format in ("table", "csv") if few else ("table", "csv", "json"):
            done = project.finops("report", command, *period, "--format", format)
            faults = told(done, (0,))
            if format == "csv":
                faults += formulas(done.said, f"report {command}")
            else:
                faults += escaping(done.said, f"report {command} --format {format}")
            row.add(f"report {command} {format}", faults)
    others = (("deliveries",), ("tags", "values"), ("tags", "keys"), ("repairs",), ("restatements",))
    for words in () if few else others:
        done = project.finops(*words)
        row.add(" ".join(words), told(done, (0, 2)) + escaping(done.said, " ".join(words)))
    pages = sorted(project.folder.rglob("*.html"))
    row.add("the page", [] if pages else [Fault("lost", "there is no page")])
    for page in pages:
        row.add(page.name, in_page(page.read_text(encoding="utf-8")))
    row.add("the history", in_history(project.folder))
    return row


def deliver(project: Project, seed: int) -> Figures:
    """Write the bill; returns its figures by day and currency, the team left out."""
    chance = random.Random(seed)
    truth: Figures = {}
    for source, name in SOURCES.items():
        rows = []
        for day in (FIRST, FIRST.replace(day=2)):
            for number, (kind, text) in enumerate(TEXTS.items()):
                row = charge(day, source, number, chance)
                tags = {"team": text, f"{text[:200]} key": text[:500], "owner": text[:500]}
                row |= {"Tags": json.dumps(tags), "x_hostile": text[:500]}
                for column in ("ChargeDescription", "ResourceId", "ServiceName", "BillingAccountName", "PublisherName"):
                    row[column] = text if kind != "long" or column == "ChargeDescription" else text[:500]
                row["ProviderName"] = row["InvoiceIssuerName"] = text[:500]
                row["ServiceName"] = text[:500]
                rows.append(row)
                key = (day, "", row["BillingCurrency"])
                count, billed, effective = truth.get(key, (0, 0, 0))
                truth[key] = (
                    count + 1,
                    billed + pa.scalar(row["BilledCost"]).cast(pa.decimal128(38, 18)).as_py(),
                    effective + pa.scalar(row["EffectiveCost"]).cast(pa.decimal128(38, 18)).as_py(),
                )
        target = project.exports / source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".csv"):
            target.write_text(csv_text(rows), encoding="utf-8", newline="")
        else:
            pq.write_table(pa.Table.from_pylist(rows), target)
    return truth


def sums(figures: Figures) -> dict[str, Figure]:
    """Rows, billed and effective cost by currency."""
    found: dict[str, Figure] = {}
    for (_, _, currency), (rows, billed, effective) in figures.items():
        a, b, c = found.get(currency, (0, Decimal(0), Decimal(0)))
        found[currency] = (a + rows, b + billed, c + effective)
    return found


csv.field_size_limit(1 << 30)
# Controls but line feed, carriage return and tab; those of C1; what turns the direction of writing.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def escaping(said: str, where: str) -> list[Fault]:
    """Controls that reach a terminal."""
    found = sorted({match.group() for match in CONTROL.finditer(said)})
    return [Fault("unclear", f"{where}: control characters {found!r} reach the terminal")] if found else []


def formulas(text: str, where: str) -> list[Fault]:
    """Cells that a spreadsheet would run."""
    cells = (cell for line in csv.reader(io.StringIO(text)) for cell in line)
    found = [cell[:60] for cell in cells if MARK in cell and cell[:1] in "=+-@\t\r"]
    return [Fault("unclear", f"{where}: a spreadsheet runs {cell!r}") for cell in found]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.bad.append(f"<{tag} {name}={value!r:.80}>")
        if tag in ("img", "iframe", "object", "embed") or (tag == "script" and attrs):
            self.bad.append(f"<{tag} {attrs!r:.80}>")

    def handle_data(self, data: str) -> None:
        if self._in_script and "alert(1)" in data:
            self.bad.append(f"script: {data[:80]!r}")
        self._in_script = False


def in_page(text: str) -> list[Fault]:
    """What a page would run or fetch."""
    parser = _Elements()
    parser.feed(text)
    found = [Fault("unclear", f"the page holds {what}") for what in parser.bad]
    return found + escaping(text, "the page")


MARKDOWN = re.compile(r'"md_str": "((?:[^"\\]|\\.)*)"')


def in_history(folder: Path) -> list[Fault]:
    """Markdown in the history, shown by the UI, in which foreign text is not as it was written."""
    found: set[str] = set()
    for file in sorted((folder / ".dagster").rglob("*.db")):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'event_logs'").fetchall():
                continue
            for (event,) in database.execute("SELECT event FROM event_logs"):
                for match in MARKDOWN.finditer(event):
                    text = json.loads(f'"{match.group(1)}"')
                    for sign in ("<img", "<script", "](javascript:", "![i](", "__untagged__"):
                        at = text.find(sign)
                        if at >= 0 and text[at - 1 : at] not in ("\\", "`"):
                            found.add(
                                f"Markdown holds {sign!r} as it was delivered: {text[max(0, at - 60) : at + 40]!r}"
                            )
    return [Fault("unclear", what) for what in sorted(found)]


# ---- planted secrets ----


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A server that refuses all and answers with what it was asked; its port, and the bodies that came."""
    came: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def _refuse(self) -> None:
            came.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            answer = f"refused {self.path} {dict(self.headers)}".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_HEAD = _refuse

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, came
    finally:
        server.shutdown()
        server.server_close()


def secrets(scratch: Path, seed: int) -> Row:
    """Secrets in the environment and in addresses, while everything that may tell of them fails."""
    row = Row("planted secrets")
    chance = random.Random(f"{seed} secrets")
    secret = "S3CR" + "".join(chance.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(24))
    with listening() as (port, came):
        environment = {name: text.format(port=port, secret=secret) for name, text in SECRETS.items()}
        places = {
            "S3": f"uri: 's3://bucket/one', endpoint_url: 'http://127.0.0.1:{port}'",
            "Azure": "uri: 'az://container/one'",
            "GCS": f"uri: 'gs://bucket/one', endpoint_url: 'http://127.0.0.1:{port}'",
            "SAS": f"uri: 'https://a.blob.core.windows.net/c/one?sv=1&sig={secret}'",
            "user": f"uri: 's3://user:{secret}@bucket/one'",
            "endpoint": f"uri: 's3://bucket/one', endpoint_url: 'http://user:{secret}@127.0.0.1:{port}/?sig={secret}'",
        }
        project = Project(scratch / "secrets", Bill(seed, days=2), environment=environment)
        project.make()
        project.bill.deliver(project.exports, 1)
        alerts = ALERTS.replace("PORT", str(port))
        for name, place in places.items():
            project.sources = {"one": place}
            project.configure(alerts)
            meanwhile: tuple[tuple[str, ...], ...] = (("run", *project.range), ("config", "check"))
            for command in meanwhile:
                done = project.finops(*command, within=WITHIN)
                row.add(f"{name}: {' '.join(command)}", told(done, (0, 1, 3, 4)) + shown(done.said, secret, name))
        project.sources = {}
        project.configure(alerts)
        afterwards: tuple[tuple[str, ...], ...] = (
            ("run", *project.range),
            ("alerts", "test"),
            ("alerts", "list"),
            ("health",),
            ("deliveries",),
        )
        for command in afterwards:
            done = project.finops(*command)
            row.add(" ".join(command), told(done, (0, 1, 2, 3, 4)) + shown(done.said, secret, " ".join(command)))
        row.add(
            "what channels were sent",
            [f for body in came for f in shown(body.decode(errors="replace"), secret, "a body")],
        )
        kept = [
            Fault("unclear", f"a secret lies in {path.relative_to(project.folder)}")
            for path in sorted(project.folder.rglob("*"))
            if path.is_file() and path.name != "finops.yaml" and secret.encode() in path.read_bytes()
        ]
        row.add("files of the project", kept)
    return row


def shown(text: str, secret: str, where: str) -> list[Fault]:
    """Does a secret stand in a text?"""
    at = text.find(secret)
    return [Fault("unclear", f"{where}: the secret is shown: {text[max(0, at - 120) : at + 10]!r}")] if at >= 0 else []
