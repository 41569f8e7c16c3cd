"""fetch: a vendor that delivers nothing is asked for its costs."""

from __future__ import annotations

from typing import Literal

from finops_assets.settings.section import Endpoint, EnvName, Section

Vendor = Literal["openai", "anthropic"]


class Fetch(Section):
    """Whom to ask, and with what key. docs/guides/ai.md"""

    vendor: Vendor
    """Whose API of costs it is."""
    key_env: EnvName
    """Holds an admin key: the keys that models are asked with may not read costs."""
    tokens: bool = True
    """Ask for the tokens of each cost, too; false where the key may not read usage."""
    url: Endpoint | None = None
    """Of a gateway or a test; None: the vendor's own."""
