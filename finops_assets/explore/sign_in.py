"""Who asks: a person who signed in at an OpenID provider, one whom a proxy names, a program with a token, or, on this
machine alone, whoever sits at it.

Everything that shows a figure stands behind `Known`; what a person may see follows from the groups and from `access`.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
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


def _secret(env: str, where: str) -> str:
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


@dataclass(frozen=True)
class OpenId:
    """Signing in at an OpenID Connect provider: by the code flow with PKCE; the tokens are checked by Authlib."""

    settings: Settings
    sign_in: OpenIdSignIn
    oauth: Any

    @classmethod
    def of(cls, settings: Settings, sign_in: OpenIdSignIn) -> OpenId:
        """
        Raises:
            ConfigError: the client's secret is not in the environment.
        """
        secret = os.environ.get(sign_in.client_secret_env)
        if not secret:
            said = f"${sign_in.client_secret_env} is not set; it holds the secret of client {sign_in.client_id}"
            raise ConfigError("finops.yaml", [Mistake("explore.sign_in.client_secret_env", said)])
        oauth = OAuth()
        oauth.register(
            "provider",
            client_id=sign_in.client_id,
            client_secret=secret,
            server_metadata_url=f"{sign_in.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={"scope": " ".join(sign_in.scopes), "code_challenge_method": "S256", "timeout": 10},
        )
        return cls(settings, sign_in, oauth)

    def routes(self) -> list[Route]:
        return [
            Route(SIGN_IN, self.begin),
            Route(SIGNED_IN, self.end),
            Route(SIGN_OUT, self.out, methods=["POST"]),
        ]

    async def begin(self, request: Request) -> Response:
        request.session.clear()
        request.session["back"] = _own_page(request.query_params.get("back", ""))
        try:
            answer: Response = await self.oauth.provider.authorize_redirect(
                request, f"{self.settings.explore.url}{SIGNED_IN}"
            )
        except (httpx2.HTTPError, KeyError, ValueError, RuntimeError) as error:
            return self._unreachable(error)
        return answer

    async def end(self, request: Request) -> Response:
        try:
            token = await self.oauth.provider.authorize_access_token(request)
            told = dict(token.get("userinfo") or {})
            if self.sign_in.groups_claim not in told:
                told |= await self.oauth.provider.userinfo(token=token)
        except OAuthError as error:
            said = f"signing in did not succeed ({error.error}{f': {error.description}' if error.description else ''})"
            return HTMLResponse(render_error(f"{said}; try again", "overview"), 401)
        except (httpx2.HTTPError, KeyError, ValueError, RuntimeError) as error:
            return self._unreachable(error)
        back = _own_page(request.session.get("back", ""))
        request.session.clear()
        groups = told.get(self.sign_in.groups_claim) or ()
        named = [groups] if isinstance(groups, str) else [str(group) for group in groups]
        request.session["person"] = {
            "name": str(told.get("email") or told.get("preferred_username") or told.get("name") or told["sub"]),
            # A cookie holds four kilobytes, and some people are in hundreds of groups.
            "groups": [group for group in named if group in self.settings.access],
            "until": time.time() + 3600 * self.settings.explore.session_hours,
        }
        return RedirectResponse(back, 303)

    async def out(self, request: Request) -> Response:
        request.session.clear()
        return HTMLResponse(
            render_error("You are signed out here; your provider may still know you.", "overview", "Signed out")
        )

    def _unreachable(self, error: Exception) -> Response:
        text = (
            f"the provider {self.sign_in.issuer} does not answer as one ({type(error).__name__}: {error}); try again, and see"
            " explore.sign_in.issuer in finops.yaml"
        )
        return HTMLResponse(render_error(text, "overview"), 502)


def known(settings: Settings) -> Middleware:
    """Who asks is known, or sent away.

    Raises:
        ConfigError: a token is not in the environment.
    """
    tokens = [
        (_secret(token.env, f"explore.tokens[{place}].env"), token)
        for place, token in enumerate(settings.explore.tokens)
    ]
    return Middleware(Known, settings=settings, tokens=tokens)


def sessions(settings: Settings) -> Middleware:
    """Signed session cookies.

    Raises:
        ConfigError: there is no key to sign them with.
    """
    explore = settings.explore
    key = _secret(explore.session_key_env, "explore.session_key_env")
    return Middleware(
        SessionMiddleware, secret_key=key, session_cookie="finops_session", max_age=int(3600 * explore.session_hours),
        same_site="lax", https_only=str(explore.url).startswith("https:"),
    )  # fmt: skip


def _own_page(path: str) -> str:
    """Where to go after signing in: a page of ours, whatever an address says.

    >>> _own_page("/teams?by=team"), _own_page("//evil.example"), _own_page("https://evil.example"), _own_page("/\\\\evil.example")
    ('/teams?by=team', '/', '/', '/')
    """
    if not path.startswith("/") or path[1:2] in ("/", "\\") or any(ord(c) < 32 for c in path):
        return "/"
    return path
