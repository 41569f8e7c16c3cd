"""What the sections of finops.yaml are written with: the strict model, and the kinds of values."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from finops_assets.base.secrets import without_secrets

Percent = Annotated[float, Field(ge=0, le=100)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
UtcTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""A time of day in UTC, "HH:MM"."""
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable. Secrets are named in finops.yaml, never written there."""


Size = Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s?(MB|GB)$")]
"""A number of bytes, "800 MB"."""


def without_credentials(url: str) -> str:
    if without_secrets(url) != url:
        raise ValueError(
            "holds credentials; take them out: they come from the provider's own chain (environment, role)"
        )
    return url


Endpoint = Annotated[str, AfterValidator(without_credentials)]
"""The address of a server. It stands in errors and logs."""


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", "")) / path


FilePath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A file or folder of this machine. In finops.yaml it is relative to that file's folder, which `load` gives as context."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def file_form(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


def one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def others_apart(raw: Any, own: Collection[str]) -> Any:
    """A mapping whose keys that are no setting of their own stand together under `others`."""
    if not isinstance(raw, dict) or "others" in raw:
        return raw
    others = {str(key): value for key, value in raw.items() if key not in own}
    kept = {key: value for key, value in raw.items() if key in own}
    return {**kept, "others": others} if others else kept


class FileOrTable(Section):
    """Rows in a CSV, or in a table of the warehouse."""

    file: FilePath | None = None
    """A CSV."""
    table: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)?$")] | None = None
    """A table of the warehouse."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file is None) == (self.table is None):
            raise ValueError("needs a file or a table, not both")
        return self


OneOrMore = Annotated[tuple[str, ...], BeforeValidator(one_or_more)]
