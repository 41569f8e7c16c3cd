"""Who asks: a person who signed in at an OpenID provider, one whom a proxy names, a program with a token, or, on this
machine alone, whoever sits at it.

Everything that shows a figure stands behind `Known`; what a person may see follows from the groups and from `access`.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Sequence
from urllib.parse import urlencode

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from finops_assets.base.errors import ConfigError, Mistake
from finops_assets.cost.reach import reach_of
from finops_assets.explore.people import NotAllowed, Person, of_this_machine
from finops_assets.explore.rendering import render_error
from finops_assets.settings.access import HeaderSignIn, OpenIdSignIn, Token
from finops_assets.settings.model import Settings

SHORTEST_SECRET = 32
SIGN_IN, SIGNED_IN, SIGN_OUT = "/sign-in", "/signed-in", "/sign-out"
OPEN, STATIC = frozenset({SIGN_IN, SIGNED_IN, SIGN_OUT}), "/static/"
API = "/api/"
BEARER = "bearer "


def person_of(request: Request) -> Person:
    """Who asks; `Known` has made sure that it is somebody."""
    found: Person = request.state.person
    return found


class Known:
    """Lets through who is known, with `person` in the request's state; sends others to sign in, or away."""

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Sequence[tuple[str, Token]]) -> None:
        self.app = app
        self.settings = settings
        self.tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or _is_file_of_ours(scope):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            found = self._person(request)
        except NotAllowed as error:
            await _refused(request, str(error), 403)(scope, receive, send)
            return
        if found is None:
            await self._asked(request)(scope, receive, send)
            return
        scope.setdefault("state", {})["person"] = found
        await self.app(scope, receive, send)

    def _person(self, request: Request) -> Person | None:
        """
        Raises:
            NotAllowed: who asks is known, and none of the groups may see anything; or not believed.
        """
        if request.url.path.startswith(API) and request.headers.get("authorization", "").lower().startswith(BEARER):
            return self._of_token(request.headers["authorization"][len(BEARER) :].strip())
        sign_in = self.settings.explore.sign_in
        match sign_in:
            case None:
                return of_this_machine()
            case HeaderSignIn():
                name, groups = self._of_headers(request, sign_in)
            case OpenIdSignIn():
                told = request.session.get("person")
                if not told or told["until"] < time.time():
                    return None
                name, groups = told["name"], told["groups"]
        reach = reach_of(self.settings.access, groups)
        if reach is None:
            raise NotAllowed(
                f"{name} is signed in, and may see nothing yet: of the groups that were named ({', '.join(groups) or 'none'})"
                " none is in `access` of finops.yaml. Whoever runs the platform can enter one"
            )
        return Person(name, reach)

    def _of_token(self, given: str) -> Person | None:
        for secret, token in self.tokens:
            if hmac.compare_digest(secret.encode(), given.encode()):
                reach = reach_of(self.settings.access, token.groups)
                return Person(token.name, reach) if reach else None
        return None

    @staticmethod
    def _of_headers(request: Request, sign_in: HeaderSignIn) -> tuple[str, list[str]]:
        client = request.client.host if request.client else "nobody"
        if client not in sign_in.proxies:
            raise NotAllowed(
                f"this came from {client}, which is none of explore.sign_in.proxies of finops.yaml: come through the proxy"
                " that signs people in"
            )
        name = request.headers.get(sign_in.user, "").strip()
        if not name:
            raise NotAllowed(f"the proxy named nobody in {sign_in.user}; look at its configuration")
        # A header that comes twice is one list.
        groups = ",".join(request.headers.getlist(sign_in.groups)).split(",")
        return name, [group.strip() for group in groups if group.strip()]

    def _asked(self, request: Request) -> Response:
        """To somebody who is not known: sign in, or bring a token."""
        if request.url.path.startswith(API):
            return _refused(request, "bring a token: `Authorization: Bearer …` (explore.tokens in finops.yaml)", 401)
        if not isinstance(self.settings.explore.sign_in, OpenIdSignIn):
            return _refused(request, "nobody is named", 401)
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{SIGN_IN}?{urlencode({'back': back})}", 303)


def _is_file_of_ours(scope: Scope) -> bool:
    """Style and scripts, which say nothing of anybody."""
    return scope["path"].startswith(STATIC) and scope["method"] in ("GET", "HEAD")


def _refused(request: Request, text: str, status: int) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    if request.url.path.startswith(API):
        return JSONResponse({"error": text}, status, headers)
    return HTMLResponse(render_error(text, "overview"), status)


def secret_of(env: str, where: str) -> str:
    value = os.environ.get(env, "")
    if len(value) < SHORTEST_SECRET:
        raise ConfigError(
            "finops.yaml",
            [
                Mistake(
                    where,
                    f"${env} {'is not set' if not value else f'has {len(value)} characters'}; {SHORTEST_SECRET} or more are"
                    " needed, as `openssl rand -hex 32` makes them",
                )
            ],
        )
    return value


def known(settings: Settings) -> Middleware:
    """Who asks is known, or sent away.

    Raises:
        ConfigError: a token is not in the environment.
    """
    tokens = [
        (secret_of(token.env, f"explore.tokens[{place}].env"), token)
        for place, token in enumerate(settings.explore.tokens)
    ]
    return Middleware(Known, settings=settings, tokens=tokens)


def sessions(settings: Settings) -> Middleware:
    """Signed session cookies.

    Raises:
        ConfigError: there is no key to sign them with.
    """
    explore = settings.explore
    key = secret_of(explore.session_key_env, "explore.session_key_env")
    return Middleware(
        SessionMiddleware, secret_key=key, session_cookie="finops_session", max_age=int(3600 * explore.session_hours),
        same_site="lax", https_only=str(explore.url).startswith("https:"),
    )  # fmt: skip
