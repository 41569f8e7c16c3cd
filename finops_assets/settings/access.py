"""explore and access: where the explorer is reached, how people sign in to it, and whose cost each group sees."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from finops_assets.focus.normal import normal_value
from finops_assets.settings.section import Endpoint, EnvName, Name, OneOrMore, Section


def _owner(text: str) -> str:
    parts = [normal_value(part) for part in text.split("/", 1)]
    if not all(parts):
        raise ValueError("needs a department, or department/team")
    return "/".join(parts)


Owner = Annotated[str, AfterValidator(_owner)]
"""A department, or department/team, as budgets name them."""
Access = Mapping[str, Literal["all"] | tuple[Owner, ...]]
"""Group of the people who sign in -> what it sees: `all`, or departments and teams."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]


def _address(text: str) -> str:
    return str(ip_address(text))


def _site(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("needs the address of a site alone, as https://costs.example.com")
    return f"{parts.scheme}://{parts.netloc}"


class OpenIdSignIn(Section):
    """People sign in at an OpenID Connect provider (Entra ID, Google, Okta, Keycloak): code flow with PKCE."""

    kind: Literal["openid"]
    issuer: Annotated[Endpoint, Field(pattern=r"^https?://")]
    """The provider, as it names itself; its `/.well-known/openid-configuration` is read."""
    client_id: str
    """Under which it knows the explorer. The address that it sends people back to is `<url>/signed-in`."""
    client_secret_env: EnvName = "FINOPS_OPENID_SECRET"
    """Holds the client's secret."""
    groups_claim: str = "groups"
    """The claim with a person's groups; asked of the provider's user info where the token does not have it."""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    """What is asked for."""


class HeaderSignIn(Section):
    """A proxy in front has signed people in (oauth2-proxy, an identity-aware proxy) and says in headers who they are."""

    kind: Literal["header"]
    proxies: Annotated[tuple[Annotated[str, AfterValidator(_address)], ...], Field(min_length=1)]
    """The addresses that the proxy's requests come from; nobody else is believed."""
    user: HeaderName = "X-Forwarded-User"
    """Holds the person's name."""
    groups: HeaderName = "X-Forwarded-Groups"
    """Holds the person's groups, between commas."""


SignIn = Annotated[OpenIdSignIn | HeaderSignIn, Field(discriminator="kind")]


class Token(Section):
    """A bearer token for a program that asks the API. It sees what these groups see."""

    name: Name
    """Shown where a person's name is."""
    groups: OneOrMore
    """Groups of `access`."""
    env: EnvName
    """Holds the token: 32 characters or more, as `openssl rand -hex 32` makes them."""


class Explore(Section):
    """The explorer: pages, API and their readers. docs/guides/access.md"""

    url: Annotated[str, AfterValidator(_site)] | None = None
    """Its address as browsers know it. Needed where people sign in."""
    sign_in: SignIn | None = None
    """None: nobody signs in, and it is served on this machine alone."""
    session_key_env: EnvName = "FINOPS_SESSION_KEY"
    """Holds the key that session cookies are signed with: 32 characters or more. Another key signs everybody out."""
    session_hours: Annotated[float, Field(gt=0, le=720)] = 12
    """After this long a person signs in again, and has the groups of then."""
    tokens: tuple[Token, ...] = ()
    """Programs that may ask the API."""

    @model_validator(mode="after")
    def _reachable(self) -> Explore:
        if self.sign_in is not None and self.url is None:
            raise ValueError("needs url, the explorer's address as browsers know it, where people sign in")
        return self
