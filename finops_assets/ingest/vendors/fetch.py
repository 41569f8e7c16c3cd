"""A vendor's costs as files: a CSV a month, and beside it every answer, its known fields as they came and no others.

    2026-10.csv                          what the source reads
    .answers/2026-10/001.json            the answers that it was made of
    .answers/2026-10/tokens-001.json     and those that say how many tokens that was
    .answers/2026-10/unplaced.csv        tokens that are of no charge, or of nobody knows which of several
    .answers/2026-10/unpriced.csv        what was used and has no price
    .answers/seats/2026-10-31.json       who had a seat on that day, as it was told on the next

A month that is not over, and the one before it, are asked for again at each look: their costs may change. Same costs are the same
file, so that nothing follows; others replace the month, and the days that changed are restated.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from finops_assets.base.files import replacing
from finops_assets.base.period import next_month
from finops_assets.ingest.vendors.answers import as_json, read_json
from finops_assets.ingest.vendors.anthropic import ANTHROPIC
from finops_assets.ingest.vendors.asking import Page, answers_of, keys_of
from finops_assets.ingest.vendors.charges import rows_of, with_tokens
from finops_assets.ingest.vendors.databricks import DATABRICKS
from finops_assets.ingest.vendors.datadog import DATADOG
from finops_assets.ingest.vendors.github import GITHUB
from finops_assets.ingest.vendors.litellm import LITELLM
from finops_assets.ingest.vendors.openai import OPENAI
from finops_assets.ingest.vendors.snowflake import SNOWFLAKE
from finops_assets.ingest.vendors.vendor import Endpoint, Row, VendorApi
from finops_assets.settings.fetch import Fetch, Vendor
from finops_assets.settings.sources import Source

APIS: dict[Vendor, VendorApi] = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "github": GITHUB,
    "litellm": LITELLM,
    "databricks": DATABRICKS,
    "snowflake": SNOWFLAKE,
    "datadog": DATADOG,
}
ANSWERS, UNPLACED, UNPRICED, SEATS = ".answers", "unplaced.csv", "unpriced.csv", "seats"
SEATS_HOLD = 7
"""So many days before it seats are taken to have been the same, where nobody asked on the day itself."""
LEAST_BETWEEN = timedelta(hours=1)
"""A month that was asked for less than this long ago is not asked for again."""


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
    keys = keys_of(source, fetch)
    api, folder = APIS[fetch.vendor], Path(source.uri)
    if fetch.seats and api.seats:
        _keep_seats(source, fetch, api, api.seats, keys, now, pause)
    changed = []
    for month, end in _months(folder, first_day, now):
        pages = list(answers_of(source, fetch, api, api.costs, keys, (month, end), pause))
        used = (
            list(answers_of(source, fetch, api, api.usage, keys, (month, end), pause))
            if fetch.tokens and api.usage
            else []
        )
        wrote, unplaced, unpriced = _write(source, folder, api, (month, end), pages, used)
        if wrote:
            changed.append(folder / f"{month:%Y-%m}.csv")
            log(f"source {source.name}: costs of {month:%Y-%m} were fetched, {len(pages) + len(used)} answers")
            if unpriced:
                log(
                    f"source {source.name}: {unpriced:,} rows of {month:%Y-%m} have no list price, and are in no figure: {ANSWERS}/{month:%Y-%m}/{UNPRICED}"
                )
            if unplaced:
                log(
                    f"source {source.name}: {unplaced:,} tokens of {month:%Y-%m} are of no charge that is known: {ANSWERS}/{month:%Y-%m}/{UNPLACED}"
                )
    return changed


def _keep_seats(
    source: Source,
    fetch: Fetch,
    api: VendorApi,
    of: Endpoint,
    keys: tuple[str, ...],
    now: datetime,
    pause: Callable[[float], None],
) -> None:
    """Who had a seat yesterday: asked once a day, as nobody tells of earlier days, so that a day's seats never change."""
    today = now.astimezone(UTC).date()
    yesterday = today - timedelta(1)
    file = Path(source.uri) / ANSWERS / SEATS / f"{yesterday}.json"
    if not file.exists():
        pages = list(answers_of(source, fetch, api, of, keys, (yesterday, today), pause))
        with replacing(file) as temporary:
            temporary.write_text(as_json(pages), encoding="utf-8")


def _by_seat(source: Source, api: VendorApi, costs: list[Row]) -> list[Row]:
    """Charges for seats by who had one, where that is known."""
    if not (source.fetch and source.fetch.seats and api.seats and api.by_seat):
        return costs
    known: dict[date, list[Row] | None] = {}
    shared: list[Row] = []
    for row in costs:
        day = date.fromisoformat(str(row["date"]))
        if day not in known:
            known[day] = _seats_of(source, api.seats, day)
        seats = known[day]
        shared += [row] if seats is None else api.by_seat(row, seats)
    return shared


def _seats_of(source: Source, of: Endpoint, day: date) -> list[Row] | None:
    for later in range(SEATS_HOLD + 1):
        file = Path(source.uri) / ANSWERS / SEATS / f"{day + timedelta(later)}.json"
        if file.is_file():
            return [row for page in read_json(file.read_text(encoding="utf-8")) for row in of.rows(page)]
    return None


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


def _write(
    source: Source, folder: Path, api: VendorApi, days: tuple[date, date], pages: list[Page], used: list[Page]
) -> tuple[bool, int, int]:
    """Keep the answers, and the month's file where it changed; also how many tokens are of no charge, and how many rows
    have no price."""
    month, end = days
    # Who answers by month tells of today, too, which is not over.
    costs = [row for row in rows_of(source, api, api.costs, pages) if str(month) <= (row["date"] or "") < str(end)]
    unpriced = [row for row in costs if row["amount"] is None]
    costs = [row for row in costs if row["amount"] is not None]
    costs = _by_seat(source, api, costs)
    placed, unplaced = with_tokens(api, costs, rows_of(source, api, api.usage, used) if api.usage else [])
    columns = (*api.costs.columns, *api.shared_by, *(["tokens"] if api.usage else []))
    rows = [tuple(row.get(name) or "" for name in columns) for row in placed]
    changed = _replaced(folder / f"{month:%Y-%m}.csv", _csv(columns, rows), len(rows) > 0)
    # Last: without its answers a month is asked for again.
    kept = folder / ANSWERS / f"{month:%Y-%m}"
    content = {f"{number:03}.json": as_json(page) for number, page in enumerate(pages, 1)}
    content |= {f"tokens-{number:03}.json": as_json(page) for number, page in enumerate(used, 1)}
    if unplaced:
        content[UNPLACED] = _csv((*api.of_tokens, "tokens"), [(*key, str(tokens)) for key, tokens in unplaced.items()])
    if unpriced:
        listed = [tuple(row.get(name) or "" for name in api.costs.columns) for row in unpriced]
        content[UNPRICED] = _csv(api.costs.columns, listed)
    for name, text in content.items():
        with replacing(kept / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    kept.mkdir(parents=True, exist_ok=True)
    for old in kept.iterdir():
        if old.name not in content:
            old.unlink()
    os.utime(kept)
    return changed, sum(unplaced.values()), len(unpriced)


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
