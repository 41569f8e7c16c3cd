"""The explorer's server: addresses to pages, files, decisions and the API, each for who asks. Where nobody signs in it is
for loopback alone.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import cast
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import duckdb
import vl_convert
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finops_assets.base.errors import FinopsError
from finops_assets.cost.reach import ALL
from finops_assets.explore.api import api, status_of
from finops_assets.explore.asking import asked
from finops_assets.explore.decisions import decide_owner, judge_anomaly
from finops_assets.explore.exports import FORMATS, written
from finops_assets.explore.newest_copy import Copies, Opened
from finops_assets.explore.pages.allocation import allocation_page
from finops_assets.explore.pages.anomalies import anomalies
from finops_assets.explore.pages.budgets import budgets
from finops_assets.explore.pages.commitments import commitment_page
from finops_assets.explore.pages.data import data
from finops_assets.explore.pages.overview import overview
from finops_assets.explore.pages.page import Make, Page
from finops_assets.explore.pages.teams import teams
from finops_assets.explore.pages.tokens import tokens
from finops_assets.explore.pages.units import units
from finops_assets.explore.pages.untagged import untagged
from finops_assets.explore.pages.waste import waste
from finops_assets.explore.people import NotAllowed, Person, of_this_machine
from finops_assets.explore.rendering import OF_ALL, OWN_COLUMNS, about, render, render_error
from finops_assets.explore.sign_in import known, person_of, sessions
from finops_assets.settings.access import OpenIdSignIn
from finops_assets.settings.model import Settings

PAGES: Mapping[str, Make] = {
    "overview": overview, "teams": teams, "untagged": untagged, "budgets": budgets, "anomalies": anomalies,
    "commitments": commitment_page, "waste": waste, "allocation": allocation_page, "units": units, "tokens": tokens, "data": data,
}  # fmt: skip
MOST_SAID, LARGEST_FORM = 100, 20_000
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
STATIC = {"explore.css": "text/css", "explore.js": "text/javascript"}
HEADERS = {
    # Nothing of another host, no script but ours, and in no frame of others.
    "content-security-policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


@cache
def vega() -> str:
    """Vega-Lite and what draws it, as one script: out of the package, from no other host."""
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return bundle


class _Headers:
    """Each answer with HEADERS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


@dataclass(frozen=True)
class Explorer:
    """The pages of one platform."""

    settings: Settings
    copies: Copies
    said: OrderedDict[tuple[str, str], str] = field(default_factory=OrderedDict)
    """What was done, until the page that says so is asked for again: who did it, token -> sentence."""

    def prepare(self) -> None:
        """Ask once what the first page asks; what goes wrong is told where it is asked for."""
        with suppress(FinopsError, duckdb.Error), self.copies.of(ALL).reading() as opened:
            question = asked(self.settings, opened, ())
            render("overview", question, overview(question), of_this_machine())

    async def show(self, request: Request) -> Response:
        name = request.path_params.get("page", "overview")
        if name not in PAGES:
            return self._failed(request, FinopsError(f"there is no page {name!r}"), 404)
        return await run_in_threadpool(self._show, request, name)

    def _show(self, request: Request, name: str) -> Response:
        person = person_of(request)
        try:
            with self._reading(person, name) as opened:
                question = asked(
                    self.settings, opened, request.query_params.multi_items(), own=OWN_COLUMNS.get(name, ())
                )
                page = PAGES[name](question)
                said = self.said.get((person.name, request.query_params.get("said", "")), "")
                return HTMLResponse(render(name, question, page, person, said))
        except FinopsError as error:
            return self._failed(request, error, status_of(error))

    def _reading(self, person: Person, page: str) -> AbstractContextManager[Opened]:
        """The copy of what a person may see.

        Raises:
            NotAllowed: the page tells of what is no one team's.
        """
        if page in OF_ALL and not person.reach.whole:
            raise NotAllowed(
                f"the page {page} tells of all cost, and {person.name} sees that of {person.reach.told()}; whoever runs the"
                " platform can give more in `access` of finops.yaml"
            )
        return self.copies.of(person.reach).reading()

    def _failed(self, request: Request, error: FinopsError, status: int) -> Response:
        return HTMLResponse(render_error(str(error), request.path_params.get("page", "overview")), status)

    async def decide(self, request: Request) -> Response:
        """A decision of a form; only such that stand on our own pages are heard."""
        origin = urlsplit(request.headers.get("origin", ""))
        # A proxy in front may have put its own name for this server into Host.
        own = {request.headers.get("host"), urlsplit(self.settings.explore.url or "").netloc} - {"", None}
        if origin.netloc not in own:
            return PlainTextResponse("decisions are taken on the explorer's own pages", 403)
        body = await request.body()
        if len(body) > LARGEST_FORM:
            return PlainTextResponse("the form is too large", 413)
        form = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        return await run_in_threadpool(self._decide, request, form)

    def _decide(self, request: Request, form: Mapping[str, str]) -> Response:
        name, person = request.path_params["page"], person_of(request)
        by = person.name if person.signed_in else form.get("by", "").strip() or person.name or None
        try:
            if name == "anomalies":
                done = judge_anomaly(self.settings, form, person.reach, by)
            elif name == "untagged":
                with self._reading(person, name) as opened:
                    done = decide_owner(self.settings, cast(duckdb.DuckDBPyConnection, opened.connection), form, by)
            else:
                raise FinopsError(f"nothing is decided on the page {name!r}")
        except FinopsError as error:
            return self._failed(request, error, status_of(error))
        token = secrets.token_urlsafe(8)
        self.said[person.name, token] = done
        while len(self.said) > MOST_SAID:
            self.said.popitem(last=False)
        shown = [pair for pair in parse_qsl(form.get("view", "")) if pair[0] != "said"]
        return RedirectResponse(f"/{name}?{urlencode([*shown, ('said', token)])}", 303)

    async def export(self, request: Request) -> Response:
        return await run_in_threadpool(self._export, request)

    def _export(self, request: Request) -> Response:
        name, listed, format = (request.path_params[part] for part in ("page", "listing", "format"))
        try:
            if name not in PAGES or format not in FORMATS:
                raise FinopsError(f"found {name}/{listed}.{format}; formats: {', '.join(FORMATS)}")
            with self._reading(person_of(request), name) as opened:
                question = asked(
                    self.settings, opened, request.query_params.multi_items(), True, OWN_COLUMNS.get(name, ())
                )
                page: Page = PAGES[name](question)
                listing = page.listing(listed)
                if listing is None:
                    raise FinopsError(f"the page {name} has no table {listed!r}")
                content = written(listing, format, about(question, listing))
        except FinopsError as error:
            return PlainTextResponse(str(error), status_of(error))
        file = f"{name}-{listed}-{question.view.first}-{question.view.last}.{format}"
        return Response(
            content, media_type=FORMATS[format], headers={"content-disposition": f'attachment; filename="{file}"'}
        )


def application(settings: Settings) -> Starlette:
    """The explorer as an ASGI application.

    Raises:
        ConfigError: a secret that signing in, or a token, needs is not in the environment.
    """
    explorer = Explorer(settings, Copies(settings))
    # Three seconds of work, and what every page asks, before somebody waits for it.
    threading.Thread(target=vega, daemon=True).start()
    threading.Thread(target=explorer.prepare, daemon=True).start()
    sign_in = settings.explore.sign_in
    at_provider: list[Route] = []
    if isinstance(sign_in, OpenIdSignIn):
        # Only where it is needed: it takes a tenth of the start.
        from finops_assets.explore.open_id import OpenId

        at_provider = OpenId.of(settings, sign_in).routes()
    site = urlsplit(settings.explore.url or "").hostname
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, *([site] if site else [])]),
        Middleware(_Headers),
        Middleware(GZipMiddleware, minimum_size=2_000, compresslevel=4),
        *([sessions(settings)] if at_provider else []),
        known(settings),
    ]
    inner = Starlette(
        routes=[
            *at_provider,
            Route("/", explorer.show),
            Route("/static/vega.js", _vega),
            Route("/static/{name}", _static),
            Mount("/api/v1", app=api(settings, explorer.copies)),
            Route("/{page}/decide", explorer.decide, methods=["POST"]),
            Route("/{page}/{listing}.{format}", explorer.export),
            Route("/{page}", explorer.show),
        ],
        middleware=middleware,
    )
    # Whoever looks whether the server lives has no name, and calls it by its number.
    return Starlette(routes=[Route("/health", _health), Mount("/", app=inner)])


async def _health(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _vega(request: Request) -> Response:
    text = await run_in_threadpool(vega)
    return Response(text, media_type="text/javascript", headers={"cache-control": "max-age=86400"})


@cache
def _file(name: str) -> str:
    return files("finops_assets.explore").joinpath("static", name).read_text(encoding="utf-8")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("no such file", 404)
    return Response(_file(name), media_type=STATIC[name], headers={"cache-control": "no-cache"})
