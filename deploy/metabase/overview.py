"""Make the overview in Metabase by its API: a collection, eight questions and a dashboard. docs/guides/bi-tools.md

    METABASE_API_KEY=... python deploy/metabase/overview.py https://metabase.example.com DATABASE [SCHEMA]

DATABASE is what Metabase calls the connection to the published copy. SCHEMA is given where that is the copy in PostgreSQL
which `finops publish --to` keeps. Needs Python and nothing else. Run again, it replaces what it made.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = Path(__file__).with_name("questions")
NAME = "Cloud cost: overview"
MONEY = {"number_style": "decimal", "decimals": 2}
WORDS = (
    "Amounts of several **currencies** are never added: choose one. Days that are held or awaited look cheap: *Source-days held or"
    " awaited* and the last two tables say which they are."
)


@dataclass(frozen=True)
class Question:
    """One card: its file of SQL, how it is shown, its place (row, column, width, height) and the dashboard's filters for it."""

    file: str
    title: str
    display: str
    place: tuple[int, int, int, int]
    axes: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    money: tuple[str, ...] = ("effective_cost",)

    def sql(self, schema: str | None) -> str:
        """Its SQL, over the file or over a schema of PostgreSQL."""
        text = (QUESTIONS / f"{self.file}.sql").read_text(encoding="utf-8")
        main, reports = (f'"{schema}".', f'"{schema}".reports_') if schema else ("main.", "reports.")
        return text.replace("{main}", main).replace("{reports}", reports)

    def filters(self) -> list[str]:
        return [name for name in FILTERS if f"{{{{{name}}}}}" in self.sql(None)]


FILTERS = {"currency": "Currency", "department": "Department"}
_COSTS = ("effective_cost", "effective_cost_compared", "effective_cost_before", "change")
QUESTION_LIST = (
    Question("spent_by_day", "Spent by day", "bar", (2, 0, 24, 6), (("charge_date", "currency"), ("effective_cost",))),
    Question("missing_by_day", "Source-days held or awaited", "bar", (8, 0, 24, 4), (("charge_date", "source"), ("missing",)), ()),
    Question(
        "spent_by_department", "Spent by day and department", "line", (12, 0, 14, 7),
        (("charge_date", "currency_and_department"), ("effective_cost",)),
    ),
    Question(
        "spent_by_category", "Spent by service category", "row", (12, 14, 10, 7),
        (("service_category", "currency"), ("effective_cost",)),
    ),
    Question(
        "teams", "Teams: this month against like days of the month before", "table", (19, 0, 24, 7), money=_COSTS
    ),
    Question("budgets", "Budgets", "table", (26, 0, 24, 6), money=("amount", "spent", "forecast")),
    Question("sources", "Sources: how far they are built", "table", (32, 0, 8, 6), money=()),
    Question("missing", "What is missing, and why", "table", (32, 8, 16, 6), money=()),
)  # fmt: skip


@dataclass(frozen=True)
class Metabase:
    """Its API, as the owner of a key."""

    address: str
    key: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """
        Raises:
            SystemExit: Metabase refuses; with what it says.
        """
        request = urllib.request.Request(
            f"{self.address.rstrip('/')}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "X-API-Key": self.key},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:500]
            sys.exit(f"error: {method} {path}: Metabase says {error.code}: {said}")
        except OSError as error:
            sys.exit(f"error: {self.address} cannot be reached: {error}")
        return json.loads(content) if content else None


def database_id(metabase: Metabase, name: str) -> int:
    found = metabase.ask("GET", "database")
    databases = {each["name"]: each["id"] for each in (found["data"] if isinstance(found, dict) else found)}
    if name not in databases:
        sys.exit(f"error: Metabase has no database {name!r}; found {', '.join(sorted(databases)) or 'none'}")
    return int(databases[name])


def card(question: Question, database: int, schema: str | None, collection: int) -> dict[str, Any]:
    """A question as POST /api/card takes it. Bars are not stacked: those of two currencies would be their sum to the eye."""
    tags = {
        name: {"id": _id(f"{question.file} {name}"), "name": name, "display-name": FILTERS[name], "type": "text"}
        for name in question.filters()
    }
    shown: dict[str, Any] = {"column_settings": {f'["name","{c}"]': MONEY for c in question.money}}
    if question.display != "table":
        shown |= {"graph.dimensions": question.axes[0], "graph.metrics": question.axes[1], "stackable.stack_type": None}
    if question.display == "line":
        # A day that is held is a gap.
        shown |= {"line.missing": "none", "line.marker_enabled": True}
    return {
        "name": question.title,
        "type": "question",
        "collection_id": collection,
        "display": question.display,
        "visualization_settings": shown,
        "dataset_query": {
            "type": "native",
            "database": database,
            "native": {"query": question.sql(schema), "template-tags": tags},
        },
    }


def cards_of_dashboard(ids: dict[str, int]) -> list[dict[str, Any]]:
    """The words and the questions in their places, each with the filters that it has."""
    words = {
        "id": -1, "card_id": None, "row": 0, "col": 0, "size_x": 24, "size_y": 2, "parameter_mappings": [],
        "visualization_settings": {"virtual_card": {"display": "text"}, "text": WORDS},
    }  # fmt: skip
    result: list[dict[str, Any]] = [words]
    for number, question in enumerate(QUESTION_LIST, 2):
        row, column, width, height = question.place
        mapped = [
            {
                "parameter_id": _id(name)[:8], "card_id": ids[question.file],
                "target": ["variable", ["template-tag", name]],
            }
            for name in question.filters()
        ]  # fmt: skip
        result.append(
            {
                "id": -number, "card_id": ids[question.file], "row": row, "col": column, "size_x": width, "size_y": height,
                "parameter_mappings": mapped, "visualization_settings": {},
            }
        )  # fmt: skip
    return result


def _id(name: str) -> str:
    """An id that is the same each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"finops_assets {name}"))


def main(address: str, name: str, schema: str | None, key: str) -> str:
    """Make all; the address of the dashboard."""
    metabase = Metabase(address, key)
    database = database_id(metabase, name)
    for each in metabase.ask("GET", "collection"):
        # It and what is in it go to Metabase's trash.
        if each.get("name") == NAME and not each.get("archived"):
            metabase.ask("PUT", f"collection/{each['id']}", {"archived": True})
    collection = metabase.ask(
        "POST", "collection", {"name": NAME, "description": "Made by deploy/metabase/overview.py"}
    )["id"]
    ids = {q.file: metabase.ask("POST", "card", card(q, database, schema, collection))["id"] for q in QUESTION_LIST}
    dashboard = metabase.ask("POST", "dashboard", {"name": NAME, "collection_id": collection})["id"]
    filters = [
        {"id": _id(slug)[:8], "name": label, "slug": slug, "type": "string/=", "sectionId": "string"}
        for slug, label in FILTERS.items()
    ]
    metabase.ask("PUT", f"dashboard/{dashboard}", {"parameters": filters, "dashcards": cards_of_dashboard(ids)})
    return f"{address.rstrip('/')}/dashboard/{dashboard}"


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    api_key = os.environ.get("METABASE_API_KEY")
    if not api_key:
        sys.exit("error: METABASE_API_KEY is not set; make a key under Admin, Authentication, API keys")
    print(main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else None, api_key))
