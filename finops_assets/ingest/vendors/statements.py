"""Vendors that are asked in SQL, over HTTP: a statement is begun, waited for until it has ended, and its result read in parts.

What comes out is an answer as of any vendor: `data`, a row each with the names of its columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

from finops_assets.ingest.vendors.vendor import Ask, UnlikeReference

LOOKS, SECONDS_BETWEEN = 120, 5.0
_ID = re.compile(r"[A-Za-z0-9-]{1,80}")
Answers = Iterator[Mapping[str, Any]]


def databricks_rows(
    sql: str,
    columns: tuple[str, ...],
    ask: Ask,
    pause: Callable[[float], None],
    path: str,
    days: tuple[date, date],
    warehouse: str,
) -> Answers:
    """By the Statement Execution API; `:first` and `:end` are days."""
    bound = [{"name": name, "value": str(day), "type": "DATE"} for name, day in zip(("first", "end"), days)]
    answer = ask(path, body={
        "statement": sql, "parameters": bound, "warehouse_id": warehouse, "format": "JSON_ARRAY", "disposition": "INLINE",
        "wait_timeout": "30s", "on_wait_timeout": "CONTINUE",
    })  # fmt: skip
    of = f"{path}/{_id(answer['statement_id'])}"
    answer = _ended(answer, lambda told: told["status"]["state"] not in ("PENDING", "RUNNING"), ask, pause, of)
    if (state := answer["status"]["state"]) != "SUCCEEDED":
        code = (answer["status"].get("error") or {}).get("error_code")
        raise UnlikeReference(
            f"the statement did not succeed: {_word(state)} {_word(code)}; may the token read system.billing?"
        )
    manifest, part, found = answer["manifest"], answer.get("result") or {}, 0
    while True:
        rows = part.get("data_array") or []
        found += len(rows)
        yield _named(rows, columns)
        if part.get("next_chunk_index") is None:
            break
        part = ask(f"{of}/result/chunks/{int(part['next_chunk_index'])}")
    _whole(found, manifest["total_row_count"], truncated=bool(manifest.get("truncated")))


def snowflake_rows(
    sql: str,
    columns: tuple[str, ...],
    ask: Ask,
    pause: Callable[[float], None],
    path: str,
    days: tuple[date, date],
    warehouse: str,
) -> Answers:
    """By the SQL API; the two `?` are days."""
    bound = {str(n): {"type": "TEXT", "value": str(day)} for n, day in enumerate(days, 1)}
    answer = ask(path, body={"statement": sql, "bindings": bound, "warehouse": warehouse, "timeout": 600})
    of = f"{path}/{_id(answer['statementHandle'])}"
    answer = _ended(answer, lambda told: "resultSetMetaData" in told, ask, pause, of)
    about = answer["resultSetMetaData"]
    yield _named(answer["data"], columns)
    found = len(answer["data"])
    for part in range(1, len(about["partitionInfo"])):
        rows = ask(of, [("partition", str(part))])["data"]
        found += len(rows)
        yield _named(rows, columns)
    _whole(found, about["numRows"])


def _ended(answer: Any, has_ended: Callable[[Any], bool], ask: Ask, pause: Callable[[float], None], of: str) -> Any:
    """The answer of a statement that has ended, or the last one that was waited for."""
    for _ in range(LOOKS):
        if has_ended(answer):
            break
        pause(SECONDS_BETWEEN)
        answer = ask(of)
    return answer


def _named(rows: list[Any], columns: tuple[str, ...]) -> Mapping[str, Any]:
    if strangers := [row for row in rows if not isinstance(row, list) or len(row) != len(columns)]:
        raise UnlikeReference(f"{len(strangers)} of {len(rows)} rows do not have {len(columns)} values")
    return {"data": [dict(zip(columns, row)) for row in rows]}


def _whole(found: int, told: Any, truncated: bool = False) -> None:
    if truncated or found != int(told):
        raise UnlikeReference(f"{found} rows came of {int(told)}")


def _id(told: Any) -> str:
    """It becomes part of an address."""
    if not isinstance(told, str) or not _ID.fullmatch(told):
        raise UnlikeReference("the statement has no id as it is described")
    return told


def _word(told: Any) -> str:
    return told if isinstance(told, str) and re.fullmatch("[A-Z_]{1,40}", told) else "(unknown)"
