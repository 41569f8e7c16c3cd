"""What the explorer says where there is no published copy, or a damaged one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from finops_assets.explore.server import application
from finops_assets.settings.load import parse_settings
from finops_assets_tests.explore.served import SETTINGS

PAGES = (
    "/",
    "/teams",
    "/untagged",
    "/budgets",
    "/anomalies",
    "/commitments",
    "/waste",
    "/allocation",
    "/units",
    "/tokens",
    "/data",
)


def _answer(app: Any, path: str) -> tuple[int, str]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8070")],
        "server": ("127.0.0.1", 8070),
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return int(sent[0]["status"]), body.decode()


@pytest.mark.long
@pytest.mark.parametrize("content", [None, b"garbage" * 1_000, b""])
def test_every_page_says_what_is_wrong_with_the_copy_and_what_to_do(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "p.duckdb").write_bytes(content)
    app = application(parse_settings(SETTINGS, tmp_path / "finops.yaml"))
    for page in PAGES:
        status, text = _answer(app, page)
        assert status == 503, (page, status, text)
        assert "p.duckdb" in text, (page, text)
        assert "finops publish" in text or "finops run" in text, (page, text)
        assert "Traceback" not in text
