"""A vendor is asked: again where that may help, page by page, and of what it answers the known fields are kept."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

from finops_assets.base.errors import FinopsError, install
from finops_assets.base.secrets import without_secrets
from finops_assets.ingest.vendors.answers import error_word, kept_of, read_json
from finops_assets.ingest.vendors.vendor import Ask, Endpoint, Parameters, UnlikeReference, VendorApi
from finops_assets.settings.fetch import Fetch
from finops_assets.settings.sources import Source

TRIES, MOST_PAGES, PATIENCE_SECONDS, LONGEST_PAUSE = 5, 1_000, 60.0, 60.0
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
Page = dict[str, Any]
"""What is kept of an answer."""


class FetchFailed(FinopsError):
    """A vendor did not tell its costs; what was fetched before stands."""


class FetchRefused(FetchFailed):
    """To ask again would not help."""


def keys_of(source: Source, fetch: Fetch) -> tuple[str, ...]:
    """Of the environment, in the order in which a vendor takes them.

    Raises:
        FetchRefused: one is not there.
    """
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


def answers_of(
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
                f"source {source.name!r}: {base}{path} answers not as it is described: {said(error)}; it may have changed its API"
            ) from None


def _pages(ask: Ask, of: Endpoint, path: str, days: tuple[date, date]) -> Iterator[Any]:
    more: Parameters | None = []
    while more is not None:
        answer = ask(path, [*of.asked(*days), *more])
        yield answer
        more = of.following(answer)


def said(error: Exception) -> str:
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
