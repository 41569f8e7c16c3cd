"""docs/reference/alerts.md: the JSON that a webhook is sent."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import get_args

from finops_assets.alerts.alert import PAYLOAD, VERSION, Alert, Event, Notice, as_json
from finops_assets.settings.alerts import Severity
from tools.reference.markdown import code, table

EXAMPLE = Notice(
    id="5f0c6f5f3b1c4a55a3a8a0b9f8d8f0a1",
    event="resolved",
    alert=Alert(
        key="check raw/gcp:complete 2026-10-31",
        severity="CRITICAL",
        title="raw/gcp:complete failed, 2026-10-31",
        text="raw/gcp, 2026-10-31: 17 of 60 rows have x_DatasetCompletionStatus 'Incomplete', not 'Complete'. Next: wait for"
        " the provider to finish the delivery or have it delivered again; then run the day again.",
        source="gcp",
        day=date(2026, 10, 31),
        figures={"rows": 60, "rows_not_complete": 17, "deliveries": 1},
        link="https://dagster.example/runs/0c2d…",
    ),
    detected_at=datetime(2026, 11, 1, 4, 12, 9, 123456, tzinfo=UTC),
    resolved_at=datetime(2026, 11, 1, 9, 40, 31, 654321, tzinfo=UTC),
    note="raw/gcp, 2026-10-31: 60 rows from 1 delivery.",
)


def page() -> str:
    sent = as_json(EXAMPLE)
    values = {"version": code(str(VERSION)), "event": _words(Event), "severity": _words(Severity)}
    lines = [
        "# The webhook's JSON",
        "",
        "Made from finops_assets/alerts/alert.py by `make docs`. What is told and to whom: [alerts](../guides/alerts.md).",
        "",
        "`POST`, `Content-Type: application/json; charset=utf-8`. Any 2xx means taken; everything else, redirects included, is"
        " a failure.",
        "",
        "```json",
        json.dumps(sent, indent=2, ensure_ascii=False),
        "```",
        "",
        *table(
            ["field", "values", "meaning"],
            ((code(name), values.get(name, _kind(value)), PAYLOAD[name]) for name, value in sent.items()),
        ),
    ]
    return "\n".join([*lines, ""])


def _words(literal: object) -> str:
    return ", ".join(map(code, get_args(literal)))


def _kind(value: object) -> str:
    return "object" if isinstance(value, dict) else "text"
