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
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

from finops_assets.base.errors import FinopsError, install
from finops_assets.base.files import replacing
from finops_assets.base.period import next_month
from finops_assets.base.secrets import without_secrets
from finops_assets.ingest.vendors.answers import as_json, error_word, kept_of, read_json
from finops_assets.ingest.vendors.anthropic import ANTHROPIC
from finops_assets.ingest.vendors.databricks import DATABRICKS
from finops_assets.ingest.vendors.datadog import DATADOG
from finops_assets.ingest.vendors.github import GITHUB
from finops_assets.ingest.vendors.litellm import LITELLM
from finops_assets.ingest.vendors.openai import OPENAI
from finops_assets.ingest.vendors.shares import parts
from finops_assets.ingest.vendors.snowflake import SNOWFLAKE
from finops_assets.ingest.vendors.vendor import DIGITS, Ask, Endpoint, Parameters, Row, UnlikeReference, VendorApi
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
TRIES, MOST_PAGES, PATIENCE_SECONDS, LONGEST_PAUSE = 5, 1_000, 60.0, 60.0
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
Page = dict[str, Any]
"""What is kept of an answer."""
_SURE = Decimal("1E-12")
"""What of a sum of binary numbers does not depend on the order in which they were added."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
Key = tuple[str, ...]
"""What tokens and the cost that they were for have in common: the values of the vendor's `of_tokens`."""


class FetchFailed(FinopsError):
    """A vendor did not tell its costs; what was fetched before stands."""


class FetchRefused(FetchFailed):
    """To ask again would not help."""


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
    keys = _keys(source, fetch)
    api, folder = APIS[fetch.vendor], Path(source.uri)
    if fetch.seats and api.seats:
        _keep_seats(source, fetch, api, api.seats, keys, now, pause)
    changed = []
    for month, end in _months(folder, first_day, now):
        pages = list(_answers(source, fetch, api, api.costs, keys, (month, end), pause))
        used = (
            list(_answers(source, fetch, api, api.usage, keys, (month, end), pause))
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


def _keys(source: Source, fetch: Fetch) -> tuple[str, ...]:
    named = {"key_env": fetch.key_env, "application_key_env": fetch.application_key_env}
    keys = []
    for setting, variable in named.items():
        if variable is not None:
            keys.append(os.environ.get(variable, "").strip())
            if not keys[-1]:
                raise FetchRefused(
                    f"source {source.name!r}: environment variable {variable} (fetch.{setting}) is not set"
                )
    return tuple(keys)


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
        pages = list(_answers(source, fetch, api, of, keys, (yesterday, today), pause))
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


def _answers(
    source: Source,
    fetch: Fetch,
    api: VendorApi,
    of: Endpoint,
    keys: tuple[str, ...],
    days: tuple[date, date],
    pause: Callable[[float], None],
) -> Iterator[Page]:
    """Every page of [first, end), with the fields alone that are known."""
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise FetchRefused(f"fetch needs httpx2, which is not installed: {install('fetch')}") from error
    base, path = (fetch.url or api.url).rstrip("/"), of.path.format(account=fetch.account)
    with httpx2.Client(headers=dict(api.headers(*keys)), timeout=PATIENCE_SECONDS, follow_redirects=False) as client:

        def ask(path: str, parameters: Parameters = [], body: Mapping[str, Any] | None = None) -> Any:  # noqa: B006
            url = base + path
            return _read(source, url, _asked(source, client, url, parameters, pause, body))

        answers = of.steps(ask, pause, path, days, fetch.warehouse or "") if of.steps else _pages(ask, of, path, days)
        try:
            for number, answer in enumerate(answers, 1):
                if not isinstance(answer, dict) or not isinstance(answer.get(of.listed), list):
                    raise UnlikeReference(f"an answer has no list `{of.listed}`")
                if number > MOST_PAGES:
                    raise UnlikeReference(f"it goes on after {MOST_PAGES} answers for {days[0]:%Y-%m}")
                yield kept_of(answer, of.kept, keys)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise FetchRefused(
                f"source {source.name!r}: {base}{path} answers not as it is described: {_said(error)}; it may have changed its API"
            ) from None


def _pages(ask: Ask, of: Endpoint, path: str, days: tuple[date, date]) -> Iterator[Any]:
    more: Parameters | None = []
    while more is not None:
        answer = ask(path, [*of.asked(*days), *more])
        yield answer
        more = of.following(answer)


def _said(error: Exception) -> str:
    """A KeyError names our field, UnlikeReference numbers; others quote what came."""
    known = f": {error}" if isinstance(error, KeyError) else ""
    return str(error) if isinstance(error, UnlikeReference) else f"{type(error).__name__}{known}"


def _asked(
    source: Source,
    client: Any,
    url: str,
    parameters: Parameters,
    pause: Callable[[float], None],
    body: Mapping[str, Any] | None,
) -> str:
    """One answer; asked again a bounded number of times where that may help."""
    import httpx2

    failed: type[FetchFailed] = FetchFailed
    for attempt in range(1, TRIES + 1):
        try:
            answer = client.request("GET" if body is None else "POST", url, params=parameters, json=body)
        except httpx2.ProtocolError as error:
            # It quotes what came.
            told, wait = type(error).__name__, None
        except httpx2.TransportError as error:
            told, wait = f"{type(error).__name__}: {error}", None
        else:
            if answer.status_code in (200, 202):
                text: str = answer.text
                return text
            told = f"HTTP {answer.status_code}{error_word(answer.text)}"
            wait = answer.headers.get("retry-after")
            if answer.status_code in (401, 403):
                told += f". The key in ${source.fetch.key_env if source.fetch else ''} may not read it: an admin key is needed"
            elif answer.status_code == 404:
                told += ". Look at `account` and `url` below fetch"
            if answer.status_code not in AGAIN:
                failed = FetchRefused
                break
        if attempt < TRIES:
            named = float(wait) if wait and wait.replace(".", "", 1).isdigit() else 2.0**attempt
            pause(min(named, LONGEST_PAUSE) * random.uniform(1, 1.25))
    raise failed(
        f"source {source.name!r}: {url} did not answer: {without_secrets(told)}. What was fetched before stands"
    )


def _read(source: Source, url: str, text: str) -> Any:
    # An answer is never quoted, and neither are errors that quote it: a prompt may stand in it.
    try:
        return read_json(text)
    except ValueError:
        raise FetchRefused(
            f"source {source.name!r}: {url} answered {len(text):,} characters that are no JSON; is `url` below fetch right?"
        ) from None


def _write(
    source: Source, folder: Path, api: VendorApi, days: tuple[date, date], pages: list[Page], used: list[Page]
) -> tuple[bool, int, int]:
    """Keep the answers, and the month's file where it changed; also how many tokens are of no charge, and how many rows
    have no price."""
    month, end = days
    # Who answers by month tells of today, too, which is not over.
    costs = [row for row in _rows(source, api, api.costs, pages) if str(month) <= (row["date"] or "") < str(end)]
    unpriced = [row for row in costs if row["amount"] is None]
    costs = [row for row in costs if row["amount"] is not None]
    costs = _by_seat(source, api, costs)
    placed, unplaced = _placed(api, costs, _rows(source, api, api.usage, used) if api.usage else [])
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


def _rows(source: Source, api: VendorApi, of: Endpoint, pages: list[Page]) -> list[Row]:
    what = "cost" if of is api.costs else "usage"
    try:
        rows = [row for answer in pages for row in of.rows(answer)]
        for row in rows:
            if not (of.may_lack_price and row["amount"] is None):
                _check(row, "amount" if of is api.costs else "tokens")
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise FetchRefused(
            f"source {source.name!r}: an answer of {api.name} has no {what} as it is described:"
            f" {_said(error)}; it may have changed its API"
        ) from None
    return _added_up(rows, of.added) if of.added else rows


def _added_up(rows: list[Row], added: tuple[str, ...]) -> list[Row]:
    """
    >>> _added_up([{"day": "1", "n": "0.1"}, {"day": "2", "n": "3"}, {"day": "1", "n": "0.20000000000000001"}], ("n",))
    [{'day': '1', 'n': '0.3'}, {'day': '2', 'n': '3'}]
    """
    sums: dict[tuple[tuple[str, str | None], ...], dict[str, Decimal]] = {}
    with localcontext(prec=DIGITS):
        for row in rows:
            of = sums.setdefault(tuple((name, value) for name, value in row.items() if name not in added), {})
            for name in added:
                if row.get(name) is not None:
                    of[name] = of.get(name, Decimal(0)) + Decimal(str(row[name]))
        return [
            dict(same) | {name: format(number.quantize(_SURE).normalize(), "f") for name, number in of.items()}
            for same, of in sums.items()
        ]


def _check(row: Row, number: str) -> None:
    """
    >>> _check({"date": "2026-10-05", "amount": "tell me"}, "amount")
    Traceback (most recent call last):
    finops_assets.ingest.vendors.vendor.UnlikeReference: `amount` of 2026-10-05 is text of 7 characters, and no number
    """
    try:
        day = date.fromisoformat(row["date"] or "")
    except ValueError:
        raise UnlikeReference(f"`date` is text of {len(row['date'] or '')} characters, and no day") from None
    found = row[number] or ""
    if not _NUMBER.fullmatch(found):
        raise UnlikeReference(f"`{number}` of {day} is text of {len(found)} characters, and no number")


def _placed(api: VendorApi, costs: list[Row], usage: list[Row]) -> tuple[list[Row], dict[Key, int]]:
    """Costs with the tokens that they were for, and the tokens that are of no charge, or of one of several.

    None is counted twice or lost; a cost whose tokens are not known has none, not zero.
    """

    def of(row: Row, names: tuple[str, ...]) -> Key:
        return tuple(row.get(name) or "" for name in names)

    tokens: dict[Key, Counter[Key]] = {}
    for row in usage:
        tokens.setdefault(of(row, api.of_tokens), Counter())[of(row, api.shared_by)] += int(row["tokens"] or 0)
    charges = Counter(of(row, api.of_tokens) for row in costs if row.get("direction"))
    placed: list[Row] = []
    for row in costs:
        key = of(row, api.of_tokens)
        placed += _shared(row, api.shared_by, tokens[key]) if charges[key] == 1 and key in tokens else [row]
    apart = {key: whose.total() for key, whose in sorted(tokens.items()) if charges[key] != 1}
    return placed, {key: count for key, count in apart.items() if count}


def _shared(row: Row, names: tuple[str, ...], whose: Counter[Key]) -> list[Row]:
    """A charge by whose tokens it was for, to the last digit.

    >>> [(r["amount"], r["key"], r["tokens"]) for r in _shared({"amount": "3"}, ("key",), Counter({("a",): 2, ("b",): 1}))]
    [('2.0000000000000000', 'a', '2'), ('1.0000000000000000', 'b', '1')]
    """
    found = [(key, count) for key, count in sorted(whose.items()) if count]
    if not found:
        return [{**row, "tokens": "0"}]
    amounts = parts(row["amount"] or "0", [count for _, count in found])
    return [
        {**row, **dict(zip(names, key)), "amount": amount, "tokens": str(count)}
        for amount, (key, count) in zip(amounts, found)
    ]


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
