"""fetch: a vendor that delivers nothing is asked for its costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from finops_assets.settings.section import Endpoint, EnvName, Section

Vendor = Literal["openai", "anthropic", "github", "litellm"]


class Fetch(Section):
    """Whom to ask, and with what key. docs/guides/ai.md"""

    vendor: Vendor
    """Whose API of costs it is."""
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """GitHub's: the organisation whose usage it is."""
    key_env: EnvName
    """Holds an admin key (GitHub: a token that may read the billing): keys that models are asked with may not read costs."""
    tokens: bool = True
    """Ask for the tokens of each cost, too; false where the key may not read usage."""
    url: Endpoint | None = None
    """Of a gateway, which LiteLLM always is, or a test; None: the vendor's own."""

    @model_validator(mode="after")
    def _names_whom_to_ask_for(self) -> Fetch:
        if (self.vendor == "github") != (self.account is not None):
            said = "is missing; name the organisation" if self.account is None else "is for github only; leave it out"
            raise ValueError(f"account {said}")
        if self.vendor == "litellm" and self.url is None:
            raise ValueError("url is missing; LiteLLM is a gateway of one's own: name its address")
        return self
