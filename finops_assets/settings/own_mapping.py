"""A mapping that a user writes: a TOML file that says how the columns of a bill become those of FOCUS. docs/guides/mapping.md"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from finops_assets.focus.specification import columns
from finops_assets.settings.section import Section

PLACEHOLDER = re.compile(r"\{(@?[A-Za-z][^{}']*)\}")
"""How SQL names a column of the bill, or with @ an expression of `named`."""
PROMPTS = ("messages", "prompt", "completion", "response", "proxy_server_request", "request_body", "response_body")
"""Columns of gateways' logs that hold what was asked of a model and what it said: not landed, unless a mapping names them."""
NEEDED = ("ChargePeriodStart", "BilledCost", "BillingCurrency")
"""What nothing can stand for."""


class OwnMapping(Section):
    """The file."""

    title: str = Field(min_length=1)
    """What bill it is of."""
    columns: Mapping[str, str]
    """FOCUS column, or x_ column -> SQL."""
    named: Mapping[str, str] = Field(default_factory=dict)
    """Name -> SQL that others use as {@name}."""
    optional: tuple[str, ...] = ()
    """Columns of the bill that may be absent, and then have no value; all others have to be there."""

    exceptions: Mapping[str, str] = Field(default_factory=dict)
    """Rules of FOCUS (`finops conformance`) that the bill may break, and why."""
    without: tuple[str, ...] = ()
    """Columns of the bill that are not landed."""

    @model_validator(mode="after")
    def _known_and_whole(self) -> OwnMapping:
        unknown = [name for name in self.columns if name not in columns() and not name.startswith("x_")]
        if unknown:
            raise ValueError(
                f"columns: found {', '.join(unknown)}, which are no columns of FOCUS, and begin not with x_"
            )
        missing = [name for name in NEEDED if name not in self.columns]
        if missing:
            raise ValueError(f"columns: {', '.join(missing)} are needed, and cannot be guessed")
        said = {name.removeprefix("@") for name in self.asked if name.startswith("@")}
        if strangers := sorted(said - set(self.named)):
            raise ValueError(f"named: {', '.join(strangers)} are used as {{@…}} and not there")
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """What the SQL names in braces, once each."""
        found = [name for sql in (*self.columns.values(), *self.named.values()) for name in PLACEHOLDER.findall(sql)]
        return tuple(dict.fromkeys(found))

    @property
    def left_out(self) -> tuple[str, ...]:
        """The columns that are not landed, in lower case."""
        named = {name.casefold() for asked in self.asked for name in asked.split("|")}
        return (*(name.casefold() for name in self.without), *(name for name in PROMPTS if name not in named))

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that a bill has to have; `A|B` is either."""
        return tuple(name for name in self.asked if not name.startswith("@") and name not in self.optional)


@lru_cache(64)
def _parsed(text: str) -> OwnMapping:
    """Once a text: it is asked for by every column that is judged."""
    return OwnMapping.model_validate(tomllib.loads(text))


def read_mapping(file: Path) -> OwnMapping:
    """
    Raises:
        ValueError: it cannot be read, or is not as a mapping has to be; says which line or column.
    """
    try:
        return _parsed(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.name} is not TOML: {error}") from error
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc'])) + ': ' if e['loc'] else ''}{e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ValueError(f"{file.name}: {told}") from error
