"""Vendors that are asked for their costs: servers that behave as the vendors' documents say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import duckdb
import sqlglot

from finops_assets.ingest.vendors.answers import as_json, read_json

KEY, APPLICATION_KEY = "sk-admin-planted-secret-0123456789", "application-planted-secret-987"


def of_tokens(path: str) -> bool:
    """Is it one of the endpoints that count tokens?"""
    return path.endswith(("/usage/completions", "/usage_report/messages"))


BY_NAME = ("models", "api_keys", "api_key_breakdown")
"""Of LiteLLM's answers: what is called by the name of a model or a key."""


@dataclass
class Costs:
    """A vendor: cost rows by day, tokens by day, two days a page, and what it answers first instead."""

    kind: str
    days: dict[date, list[dict[str, Any]]] = field(default_factory=dict)
    used: dict[date, list[dict[str, Any]]] = field(default_factory=dict)
    first: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    first_of_usage: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    planted: Mapping[str, Any] = field(default_factory=dict)
    """Fields that no reference knows, in every object of every answer."""
    seats: list[dict[str, Any]] = field(default_factory=list)
    """GitHub's for Copilot, of now."""
    url: str = ""

    def answered(self, path: str, query: dict[str, list[str]], body: Mapping[str, Any] | None) -> str:
        answer = self.answer(path, query)
        return as_json(self._with_planted(read_json(answer))) if self.planted else answer

    def _with_planted(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._with_planted(one) for one in value]
        if not isinstance(value, dict):
            return value
        return self.planted | {
            name: {key: self._with_planted(o) for key, o in one.items()} if name in BY_NAME else self._with_planted(one)
            for name, one in value.items()
        }

    def answer(self, path: str, query: dict[str, list[str]]) -> str:
        if self.kind == "datadog":
            told = [
                {
                    "type": "cost_by_org",
                    "id": "x",
                    "attributes": {**row, "date": f"{d:%Y-%m}-01T00:00:00Z", "region": "us"},
                }
                for d, rows in sorted(self.days.items())
                if query["start_month"] == query["end_month"] == [f"{d:%Y-%m}"] and query["view"] == ["sub-org"]
                for row in rows
            ]
            return json.dumps({"data": told})
        if self.kind == "litellm":
            return self._activity(query)
        if path.endswith("/copilot/billing/seats"):
            at, many = int(query["page"][0]), int(query["per_page"][0])
            return json.dumps({"total_seats": len(self.seats), "seats": self.seats[(at - 1) * many : at * many]})
        if self.kind == "github":
            year, month = (int(query[name][0]) for name in ("year", "month"))
            items = [item for d in sorted(self.days) if (d.year, d.month) == (year, month) for item in self._items(d)]
            return f'{{"usageItems": [{", ".join(items)}]}}'
        kept, bucket = (self.used, self._usage_bucket) if of_tokens(path) else (self.days, self._bucket)
        if self.kind == "openai":
            first, end = (datetime.fromtimestamp(int(query[n][0]), UTC).date() for n in ("start_time", "end_time"))
        else:
            first, end = (date.fromisoformat(query[n][0][:10]) for n in ("starting_at", "ending_at"))
        days = [d for d in sorted(kept) if first <= d < end]
        at = int(query.get("page", ["0"])[0])
        buckets = [bucket(d) for d in days[at : at + 2]]
        more = at + 2 < len(days)
        # As text, so that amounts keep their digits.
        listed = ", ".join(buckets)
        return f'{{"object": "page", "data": [{listed}], "has_more": {str(more).lower()}, "next_page": {json.dumps(str(at + 2) if more else None)}}}'

    def _activity(self, query: dict[str, list[str]]) -> str:
        """Sums of some rows a page, the newest first: a day may lie on two pages, and each has its own sums of it."""
        first, last = (date.fromisoformat(query[name][0]) for name in ("start_date", "end_date"))
        rows = [(d, row) for d in sorted(self.days, reverse=True) if first <= d <= last for row in self.days[d]]
        at, many = int(query.get("page", ["1"])[0]), min(int(query["page_size"][0]), 3)
        days: dict[date, dict[str, Any]] = {}
        for day, row in rows[(at - 1) * many : at * many]:
            listed = days.setdefault(
                day, {"date": str(day), "metrics": {"spend": 0.0}, "breakdown": {"models": {}, "api_keys": {}}}
            )
            listed["metrics"]["spend"] += row["spend"]
            model = listed["breakdown"]["models"].setdefault(row["model"], {"metadata": {}, "api_key_breakdown": {}})
            used = model["api_key_breakdown"].setdefault(
                row["key"],
                {"metadata": {"key_alias": row.get("alias"), "team_id": row.get("team"), "user_id": row.get("user"), "user_email": "a@x"},
                 "metrics": dict.fromkeys(("spend", *row["tokens"]), 0)},
            )["metrics"]  # fmt: skip
            for name, number in {"spend": row["spend"], **row["tokens"]}.items():
                used[name] += number
        pages = -(-len(rows) // many)
        where = {"page": at, "total_pages": pages, "has_more": at < pages, "total_spend": 0}
        return json.dumps({"results": list(days.values()), "metadata": where})

    def _items(self, day: date) -> list[str]:
        """As text, so that amounts keep their digits; an item of no repository has no name of one."""
        return [
            f'{{"date": "{day}T00:00:00Z", "product": "{r["product"]}", "sku": "{r["sku"]}", "quantity": {r["quantity"]},'
            f' "unitType": "{r["unit"]}", "pricePerUnit": {r["price"]}, "grossAmount": {r["gross"]}, "discountAmount": 0,'
            f' "netAmount": {r["net"]}, "organizationName": "acme"'
            + (f', "repositoryName": "{r["repository"]}"}}' if "repository" in r else "}")
            for r in self.days[day]
        ]

    def _bucket(self, day: date) -> str:
        if self.kind == "openai":
            start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            results = ", ".join(
                f'{{"object": "organization.costs.result", "amount": {{"value": {r["amount"]}, "currency": "usd"}},'
                f' "line_item": {json.dumps(r["line_item"])}, "project_id": {json.dumps(r.get("project"))}, "api_key_id": {json.dumps(r.get("key"))}, "quantity": {json.dumps(r.get("quantity"))}, "quantity_unit": {json.dumps(r.get("unit"))}}}'
                for r in self.days[day]
            )
            return f'{{"object": "bucket", "start_time": {start}, "end_time": {start + 86400}, "results": [{results}]}}'
        results = json.dumps([
            {"currency": "USD", "amount": r["amount"], "workspace_id": r.get("project"), "description": r["line_item"],
             "cost_type": "tokens" if ", " in r["line_item"] else "web_search", "model": "big" if ", " in r["line_item"] else None, "service_tier": "standard", "context_window": "0-200k", "inference_geo": None,
             "token_type": {"output": "output_tokens", "input": "uncached_input_tokens"}.get(r["line_item"].partition(", ")[2])}
            for r in self.days[day]
        ])  # fmt: skip
        return (
            f'{{"starting_at": "{day}T00:00:00Z", "ending_at": "{day + timedelta(1)}T00:00:00Z", "results": {results}}}'
        )

    def _usage_bucket(self, day: date) -> str:
        """Input without the cached tokens, cached, written to the cache, output; as each vendor tells them."""
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        if self.kind == "openai":
            results = [
                {"object": "organization.usage.completions.result", "project_id": u.get("project"), "model": u.get("model", "big"),
                 "input_tokens": u["in"] + u["cached"], "input_cached_tokens": u["cached"], "output_tokens": u["out"],
                 "input_cache_write_tokens": u.get("written"), "num_model_requests": 3, "user_id": u.get("user"), "api_key_id": u.get("key"), "batch": None}
                for u in self.used[day]
            ]  # fmt: skip
            return json.dumps({"object": "bucket", "start_time": start, "end_time": start + 86400, "results": results})
        results = [
            {"workspace_id": u.get("project"), "model": u.get("model", "big"), "service_tier": u.get("tier", "standard"),
             "context_window": "0-200k", "uncached_input_tokens": u["in"], "cache_read_input_tokens": u["cached"],
             "cache_creation": {"ephemeral_5m_input_tokens": u.get("written", 0), "ephemeral_1h_input_tokens": 0},
             "output_tokens": u["out"], "server_tool_use": {"web_search_requests": 0}, "api_key_id": u.get("key")}
            for u in self.used[day]
        ]  # fmt: skip
        return json.dumps(
            {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{day + timedelta(1)}T00:00:00Z", "results": results}
        )


TABLES = {
    "databricks": """
        CREATE SCHEMA billing;
        CREATE TABLE billing.usage (record_id VARCHAR, account_id VARCHAR, workspace_id VARCHAR, sku_name VARCHAR, cloud VARCHAR,
            usage_date DATE, usage_start_time TIMESTAMPTZ, usage_end_time TIMESTAMPTZ, usage_unit VARCHAR, usage_quantity DECIMAL(38, 18),
            record_type VARCHAR, billing_origin_product VARCHAR, custom_tags MAP(VARCHAR, VARCHAR),
            usage_metadata STRUCT(cluster_id VARCHAR, warehouse_id VARCHAR, job_id VARCHAR, endpoint_name VARCHAR),
            identity_metadata STRUCT(run_as VARCHAR));
        CREATE TABLE billing.list_prices (sku_name VARCHAR, cloud VARCHAR, currency_code VARCHAR, usage_unit VARCHAR,
            price_start_time TIMESTAMPTZ, price_end_time TIMESTAMPTZ,
            pricing STRUCT("default" DECIMAL(38, 18), effective_list STRUCT("default" DECIMAL(38, 18))));""",
    "snowflake": """
        CREATE SCHEMA organization_usage;
        CREATE TABLE organization_usage.usage_in_currency_daily (organization_name VARCHAR, contract_number VARCHAR,
            account_name VARCHAR, account_locator VARCHAR, region VARCHAR, service_level VARCHAR, usage_date DATE,
            usage_type VARCHAR, usage DECIMAL(38, 3), currency VARCHAR, usage_in_currency DECIMAL(38, 2), balance_source VARCHAR,
            billing_type VARCHAR, rating_type VARCHAR, service_type VARCHAR, is_adjustment BOOLEAN);""",
}
"""What is asked for by SQL, as the references have it."""


@dataclass
class Statements:
    """A vendor that is asked in SQL, which runs in its tables; two rows a part, and it is not done at once."""

    kind: str
    rows: Sequence[tuple[str, Mapping[str, Any]]] = ()
    first: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    first_of_usage: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    planted: Mapping[str, Any] = field(default_factory=dict)
    lost: int = 0
    """So many rows are told, and do not come."""
    url: str = ""
    results: list[list[list[str | None]]] = field(default_factory=list)
    looks: int = 0

    def answered(self, path: str, query: dict[str, list[str]], body: Mapping[str, Any] | None) -> str:
        if body is not None:
            self.results, self.looks = [self.run(body)], 0
            return json.dumps(self._waiting() | self.planted)
        self.looks += 1
        if self.looks < 2:
            return json.dumps(self._waiting() | self.planted)
        rows = self.results[-1]
        parts = [rows[at : at + 2] for at in range(0, len(rows), 2)] or [[]]
        told = len(rows) + self.lost
        if self.kind == "snowflake":
            part = int(query.get("partition", ["0"])[0])
            about = {"numRows": told, "format": "jsonv2", "partitionInfo": [{"rowCount": len(p)} for p in parts]}
            return json.dumps(
                ({"resultSetMetaData": about, "code": "090001", "statementHandle": "01-x"} if part == 0 else {})
                | {"data": parts[part]}
                | self.planted
            )
        part = int(path.rpartition("/chunks/")[2]) if "/chunks/" in path else 0
        chunk = {"chunk_index": part, "data_array": parts[part]}
        if part + 1 < len(parts):
            chunk["next_chunk_index"] = part + 1
        if "/chunks/" in path:
            return json.dumps(chunk | self.planted)
        manifest = {"format": "JSON_ARRAY", "total_row_count": told, "truncated": False}
        status = {"state": "SUCCEEDED"}
        return json.dumps(
            {"statement_id": "01-x", "status": status, "manifest": manifest, "result": chunk} | self.planted
        )

    def _waiting(self) -> dict[str, Any]:
        if self.kind == "snowflake":
            return {"code": "333334", "message": "in progress", "statementHandle": "01-x"}
        return {"statement_id": "01-x", "status": {"state": "PENDING"}}

    def run(self, body: Mapping[str, Any]) -> list[list[str | None]]:
        assert body["warehouse_id" if self.kind == "databricks" else "warehouse"] == "wh1"
        tree = sqlglot.parse_one(body["statement"], read=self.kind)
        for named in tree.find_all(sqlglot.exp.Table):
            named.set("catalog", None)
        bound: Any
        if self.kind == "databricks":
            bound = {p["name"]: p["value"] for p in body["parameters"]}
        else:
            bound = [body["bindings"][n]["value"] for n in ("1", "2")]
        with duckdb.connect() as connection:
            connection.execute(TABLES[self.kind])
            for table, row in self.rows:
                names = ", ".join(row)
                connection.execute(
                    f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values())
                )
            found = connection.execute(tree.sql(dialect="duckdb"), bound).fetchall()
        return [[None if value is None else str(value) for value in row] for row in found]


Vendor = TypeVar("Vendor", bound=Costs | Statements)


@contextmanager
def served(costs: Vendor) -> Iterator[Vendor]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.do_GET(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self, sent: Mapping[str, Any] | None = None) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            costs.asked.append({**query, "path": [path]})
            first = costs.first_of_usage if of_tokens(path) else costs.first
            key = (
                self.headers.get("x-api-key")
                or self.headers.get("dd-api-key")
                or self.headers.get("authorization", "").removeprefix("Bearer ")
            )
            status, body = 200, ""
            headers: dict[str, str] = {}
            if key != KEY or self.headers.get("dd-application-key", APPLICATION_KEY) != APPLICATION_KEY:
                status, body = 401, f"no such key: {key}"
            elif first:
                status, headers, body = first.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((body or costs.answered(path, query, sent)).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        costs.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield costs
        finally:
            server.shutdown()
            thread.join()


def of_one_day(kind: str, day: date, text: str) -> Costs | Statements:
    """A vendor with one cost, in whose words a text stands, and whose tokens it tells if it tells any."""
    if kind == "snowflake":
        row = {
            "usage_date": day,
            "usage": 1,
            "usage_in_currency": 2,
            "currency": "USD",
            "service_type": text,
            "rating_type": "compute",
        }
        return Statements(kind, [("organization_usage.usage_in_currency_daily", row)])
    if kind == "databricks":
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        sku = {"sku_name": text, "cloud": "AWS", "usage_unit": "DBU"}
        used = {"usage_date": day, "usage_end_time": at, "usage_quantity": 2, **sku}
        listed = {
            "currency_code": "USD",
            "price_start_time": at,
            "pricing": {"default": 1, "effective_list": {"default": 1}},
            **sku,
        }
        return Statements(kind, [("billing.usage", used), ("billing.list_prices", listed)])
    github = {"product": "actions", "sku": text, "quantity": 1, "unit": "minutes", "price": 1, "gross": 1, "net": 1}
    of_one_kind = {"amount": "1.25", "line_item": text, "project": "proj_web"}
    product = {"org_name": "acme", "charges": [{"product_name": text, "charge_type": "total", "cost": 3}]}
    gateway = {"spend": 0.25, "model": "big", "key": "88dc", "alias": text, "tokens": {"total_tokens": 8}}
    seat = {"assignee": {"login": text, "email": "a@x"}, "created_at": f"{day}T00:00:00Z", "last_activity_at": None}
    others: dict[str, dict[str, Any]] = {"github": github, "litellm": gateway, "datadog": product}
    return Costs(
        kind,
        {day: [others.get(kind, of_one_kind)]},
        {day: [{"project": "proj_web", "in": 3, "cached": 0, "out": 5}]},
        seats=[seat],
    )
