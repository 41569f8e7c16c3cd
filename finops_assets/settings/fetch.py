"""fetch: a vendor that delivers nothing is asked for its costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from finops_assets.settings.section import Endpoint, EnvName, Section

Vendor = Literal["openai", "anthropic", "github", "litellm", "databricks", "snowflake", "datadog"]


_NEEDED: tuple[tuple[str, tuple[Vendor, ...], str], ...] = (
    ("account", ("github",), "the organisation"),
    ("url", ("litellm", "databricks", "snowflake"), "the address of your own gateway, workspace or account"),
    ("application_key_env", ("datadog",), "the environment variable of the application key"),
    ("warehouse", ("databricks", "snowflake"), "the SQL warehouse that answers"),
)


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
    seats: bool = False
    """GitHub's: share Copilot's charge for seats by who had one, by their names."""
    url: Endpoint | None = None
    """Of your gateway (LiteLLM), workspace (Databricks), account (Snowflake), or a test; None: the vendor's own."""

    application_key_env: EnvName | None = None
    """Datadog's: holds the application key, beside the API key."""
    warehouse: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """Databricks' and Snowflake's: the SQL warehouse that answers; of Databricks its id."""

    @model_validator(mode="after")
    def _names_whom_to_ask(self) -> Fetch:
        for setting, of, what in _NEEDED:
            given = getattr(self, setting) is not None
            if self.vendor in of and not given:
                raise ValueError(f"{setting} is missing; name {what}")
            if self.vendor not in of and given and setting != "url":
                raise ValueError(f"{setting} is for {' and '.join(of)} only; leave it out")
        if self.seats and self.vendor != "github":
            raise ValueError("seats is for github only; leave it out")
        return self
