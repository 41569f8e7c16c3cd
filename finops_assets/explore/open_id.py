"""Signing in at an OpenID Connect provider: by the code flow with PKCE; the tokens are checked by Authlib."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from finops_assets.base.errors import ConfigError, Mistake
from finops_assets.explore.rendering import render_error
from finops_assets.explore.sign_in import SIGN_IN, SIGN_OUT, SIGNED_IN
from finops_assets.settings.access import OpenIdSignIn
from finops_assets.settings.model import Settings


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


def _own_page(path: str) -> str:
    """Where to go after signing in: a page of ours, whatever an address says.

    >>> _own_page("/teams?by=team"), _own_page("//evil.example"), _own_page("https://evil.example"), _own_page("/\\\\evil.example")
    ('/teams?by=team', '/', '/', '/')
    """
    if not path.startswith("/") or path[1:2] in ("/", "\\") or any(ord(c) < 32 for c in path):
        return "/"
    return path
