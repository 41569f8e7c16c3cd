"""A vendor's costs as files: a CSV a month, and beside it every answer as it came.

    2026-10.csv                          what the source reads
    .answers/2026-10/001.json            the answers that it was made of
    .answers/2026-10/tokens-001.json     and those that say how many tokens that was
    .answers/2026-10/unplaced.csv        tokens that are of no charge, or of nobody knows which of several

A month that is not over, and the one before it, are asked for again at each look: their costs may change. Same costs are the same
file, so that nothing follows; others replace the month, and the days that changed are restated.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from finops_assets.base.errors import FinopsError, install
from finops_assets.base.files import replacing
from finops_assets.base.period import next_month
from finops_assets.base.secrets import without_secrets
from finops_assets.ingest.vendors.anthropic import ANTHROPIC
from finops_assets.ingest.vendors.github import GITHUB
from finops_assets.ingest.vendors.openai import OPENAI
from finops_assets.ingest.vendors.vendor import Endpoint, Parameters, Row, VendorApi
from finops_assets.settings.fetch import Fetch, Vendor
from finops_assets.settings.sources import Source

APIS: dict[Vendor, VendorApi] = {"openai": OPENAI, "anthropic": ANTHROPIC, "github": GITHUB}
ANSWERS, UNPLACED = ".answers", "unplaced.csv"
LEAST_BETWEEN = timedelta(hours=1)
"""A month that was asked for less than this long ago is not asked for again."""
TRIES, MOST_PAGES, PATIENCE_SECONDS, LONGEST_PAUSE = 5, 1_000, 60.0, 60.0
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
SHOWN = 300
Page = tuple[str, dict[str, Any]]
"""An answer as it came, and what it says."""
Key = tuple[str, ...]
"""What tokens and the cost that they were for have in common: the values of the vendor's `of_tokens`."""


class FetchFailed(FinopsError):
    """A vendor did not tell its costs; what was fetched before stands."""


def fetch_costs(
    source: Source,
    fetch: Fetch,
    first_day: date,
    now: datetime,
    log: Callable[[str], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Bring the months of a source up to date; returns the files that changed.

    Raises:
        FetchFailed: the key is not there or not taken, the vendor does not answer, or answers what is no cost.
    """
    key = os.environ.get(fetch.key_env, "").strip()
    if not key:
        raise FetchFailed(f"source {source.name!r}: environment variable {fetch.key_env} (fetch.key_env) is not set")
    api, folder = APIS[fetch.vendor], Path(source.uri)
    changed = []
    for month, end in _months(folder, first_day, now):
        pages = list(_answers(source, fetch, api, api.costs, key, (month, end), pause))
        used = (
            list(_answers(source, fetch, api, api.usage, key, (month, end), pause))
            if fetch.tokens and api.usage
            else []
        )
        wrote, unplaced = _write(source, folder, api, (month, end), pages, used)
        if wrote:
            changed.append(folder / f"{month:%Y-%m}.csv")
            log(f"source {source.name}: costs of {month:%Y-%m} were fetched, {len(pages) + len(used)} answers")
            if unplaced:
                log(
                    f"source {source.name}: {unplaced:,} tokens of {month:%Y-%m} are of no charge that is known: {ANSWERS}/{month:%Y-%m}/{UNPLACED}"
                )
    return changed


def _months(folder: Path, first_day: date, now: datetime) -> Iterator[tuple[date, date]]:
    """The months to ask for, each with its end: those whose costs may still change, unless they were asked for just now.
    Today is not over, and not asked for."""
    today = now.astimezone(UTC).date()
    month = first_day.replace(day=1)
    while month <= today:
        there = folder / ANSWERS / f"{month:%Y-%m}"
        after = next_month(month)
        asked_at = datetime.fromtimestamp(there.stat().st_mtime, UTC) if there.is_dir() else None
        # Costs of a month come until the next one has ended; who asked later has them all.
        settled = asked_at is not None and asked_at.date() >= next_month(after)
        just_now = asked_at is not None and now - asked_at < LEAST_BETWEEN
        if not settled and not just_now and month < today:
            yield month, min(after, today)
        month = after


def _answers(
    source: Source,
    fetch: Fetch,
    api: VendorApi,
    of: Endpoint,
    key: str,
    days: tuple[date, date],
    pause: Callable[[float], None],
) -> Iterator[Page]:
    """Every page of [first, end)."""
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise FetchFailed(f"fetch needs httpx2, which is not installed: {install('fetch')}") from error
    url = f"{(fetch.url or api.url).rstrip('/')}{of.path.format(account=fetch.account)}"
    more: Parameters | None = []
    with httpx2.Client(headers=dict(api.headers(key)), timeout=PATIENCE_SECONDS, follow_redirects=False) as client:
        for _ in range(MOST_PAGES):
            text = _asked(source, client, url, [*of.asked(*days), *(more or [])], key, pause)
            answer = _read(source, url, of.listed, text)
            yield text, answer
            try:
                more = of.following(answer)
            except (KeyError, TypeError) as error:
                raise FetchFailed(f"source {source.name!r}: {url} says that more follows, and not where") from error
            if more is None:
                return
    raise FetchFailed(f"source {source.name!r}: {url} goes on after {MOST_PAGES} answers for {days[0]:%Y-%m}")


def _asked(
    source: Source, client: Any, url: str, parameters: Parameters, key: str, pause: Callable[[float], None]
) -> str:
    """One answer; asked again a bounded number of times where that may help."""
    import httpx2

    for attempt in range(1, TRIES + 1):
        try:
            answer = client.get(url, params=parameters)
        except httpx2.TransportError as error:
            told, wait = f"{type(error).__name__}: {error}", None
        else:
            if answer.status_code == 200:
                text: str = answer.text
                return text
            # A key that was cut in two would not be found any more.
            said = " ".join(answer.text.replace(key, "***").split())[:SHOWN]
            told = f"HTTP {answer.status_code}: {said}"
            wait = answer.headers.get("retry-after")
            if answer.status_code in (401, 403):
                told += f". The key in ${source.fetch.key_env if source.fetch else ''} may not read it: an admin key is needed"
            if answer.status_code not in AGAIN:
                break
        if attempt < TRIES:
            named = float(wait) if wait and wait.replace(".", "", 1).isdigit() else 2.0**attempt
            pause(min(named, LONGEST_PAUSE) * random.uniform(1, 1.25))
    shown = without_secrets(told).replace(key, "***")
    raise FetchFailed(f"source {source.name!r}: {url} did not answer: {shown}. What was fetched before stands")


def _read(source: Source, url: str, listed: str, text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise FetchFailed(f"source {source.name!r}: {url} answered what is no JSON: {text[:80]!r}") from error
    if not isinstance(answer, dict) or not isinstance(answer.get(listed), list):
        raise FetchFailed(f"source {source.name!r}: {url} answered without `{listed}`: {text[:80]!r}")
    return answer


def _write(
    source: Source, folder: Path, api: VendorApi, days: tuple[date, date], pages: list[Page], used: list[Page]
) -> tuple[bool, int]:
    """Keep the answers, and the month's file where it changed; also how many tokens are of no charge."""
    month, end = days
    # Who answers by month tells of today, too, which is not over.
    costs = [row for row in _rows(source, api, api.costs, pages) if str(month) <= (row["date"] or "") < str(end)]
    placed, unplaced = _placed(api, costs, _rows(source, api, api.usage, used) if api.usage else [])
    columns = (*api.costs.columns, *(["tokens"] if api.usage else []))
    rows = [tuple(row.get(name) or "" for name in columns) for row in placed]
    changed = _replaced(folder / f"{month:%Y-%m}.csv", _csv(columns, rows), len(rows) > 0)
    # Last: without its answers a month is asked for again.
    kept = folder / ANSWERS / f"{month:%Y-%m}"
    content = {f"{number:03}.json": text for number, (text, _) in enumerate(pages, 1)}
    content |= {f"tokens-{number:03}.json": text for number, (text, _) in enumerate(used, 1)}
    if unplaced:
        content[UNPLACED] = _csv((*api.of_tokens, "tokens"), [(*key, str(tokens)) for key, tokens in unplaced.items()])
    for name, text in content.items():
        with replacing(kept / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    kept.mkdir(parents=True, exist_ok=True)
    for old in kept.iterdir():
        if old.name not in content:
            old.unlink()
    os.utime(kept)
    return changed, sum(unplaced.values())


def _rows(source: Source, api: VendorApi, of: Endpoint, pages: list[Page]) -> list[Row]:
    try:
        return [row for _, answer in pages for row in of.rows(answer)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = "cost" if of is api.costs else "usage"
        raise FetchFailed(
            f"source {source.name!r}: an answer of {api.name} has no {what} as it is described:"
            f" {type(error).__name__}: {error}; it may have changed its API"
        ) from error


def _placed(api: VendorApi, costs: list[Row], usage: list[Row]) -> tuple[list[Row], dict[Key, int]]:
    """Costs with the tokens that they were for, and the tokens that are of no charge, or of one of several.

    None is counted twice or lost; a cost whose tokens are not known has none, not zero.
    """

    def key_of(row: Row) -> Key:
        return tuple(row.get(name) or "" for name in api.of_tokens)

    tokens: dict[Key, int] = {}
    for row in usage:
        tokens[key_of(row)] = tokens.get(key_of(row), 0) + int(row["tokens"] or 0)
    charges = Counter(key_of(row) for row in costs if row.get("direction"))
    placed = [
        {**row, "tokens": str(tokens[key])} if charges[key := key_of(row)] == 1 and key in tokens else row
        for row in costs
    ]
    return placed, {key: count for key, count in sorted(tokens.items()) if charges[key] != 1 and count}


def _csv(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """In one order, whatever that of the answers is: same costs are the same file."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(sorted(rows))
    return made.getvalue()


def _replaced(file: Path, content: str, any_rows: bool) -> bool:
    """Have the file with this content, unless it is there, or was never and has no rows."""
    if file.is_file():
        if file.read_text(encoding="utf-8") == content:
            return False
    elif not any_rows:
        return False
    with replacing(file) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return True
