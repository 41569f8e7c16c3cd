"""sources: what is delivered where, in which layout, and when."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from finops_assets.base.patterns import checked
from finops_assets.settings.fetch import Fetch
from finops_assets.settings.own_mapping import read_mapping
from finops_assets.settings.section import Endpoint, FilePath, Name, Section, UtcTime

Layout = Literal[
    "aws-data-exports", "azure-exports", "gcs-export", "oci-focus", "dlt", "files",
    "aws-cur", "azure-actual-amortized", "gcp-detailed", "oci-cost-report",
]  # fmt: skip
Cadence = Literal["daily", "weekdays", "monthly", "irregular"]
"""On which days a source charges: every day, from Monday to Friday, on one day a month, on any."""


def _beside_the_file(uri: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder")
    return uri if folder is None or "://" in uri or os.path.isabs(uri) else str(folder / uri)


SourceUri = Annotated[str, AfterValidator(_beside_the_file)]
"""Where a source's files lie: a folder, file or glob of this machine, beside finops.yaml if relative, or of a store."""


class Source(Section):
    """One billing export. A new provider is a new entry here, not new code."""

    name: Name
    """Becomes the asset raw/<name> and the column `source` of the facts."""
    uri: SourceUri
    """Where its files lie: a folder, file or glob, beside finops.yaml if relative, or the URI of a store."""
    layout: Layout
    """How deliveries lie there. docs/guides/sources.md"""
    provider: str | None = None
    """Stands where rows do not name their provider."""
    required: bool = True
    """true: its gates hold a day of it; false: they only warn."""
    shadow_of: Name | None = None
    """The source whose cost this one holds a second time: landed, judged without blocking, compared with it by
    `finops reconcile`, and never part of facts or rollup."""
    known_gaps: tuple[str, ...] = ()
    """Mandatory FOCUS columns that this provider is known to leave out or empty: reported, not blocking."""
    endpoint_url: Endpoint | None = None
    """Of a store that speaks a cloud's protocol but is not that cloud's own, or of an emulator."""
    quiet_minutes: Annotated[int, Field(ge=0)] = 0
    """Layouts without a manifest: what was written less than this many minutes ago waits."""
    period_pattern: str | None = None
    """Layout files: a regular expression with the groups year, month and, if wanted, day of a file's period."""
    mapping: FilePath | None = None
    """Layout files: a TOML file that says how the columns of this bill become those of FOCUS. docs/guides/mapping.md"""
    fetch: Fetch | None = None
    """Layout files: a vendor that is asked for its costs, which are written to `uri`, a folder. docs/guides/ai.md"""
    table: str | None = None
    """Layout dlt: the table of the dataset, or a glob such as focus_* for several; None: it has but one."""
    cadence: Cadence | None = None
    """On which days a charge is due; None: learnt from its history. docs/guides/gates.md"""
    deadline: UtcTime | None = None
    """By when yesterday must have been delivered; None: as `night.deadline` says."""
    department: str | None = None
    """Whose bill the whole source is: alerts about it carry the name. Costs are attributed by their tags alone."""

    @model_validator(mode="before")
    @classmethod
    def _a_shadow_holds_no_day(cls, raw: Any) -> Any:
        return {"required": False, **raw} if isinstance(raw, dict) and raw.get("shadow_of") is not None else raw

    @field_validator("mapping")
    @classmethod
    def _maps(cls, file: Path | None) -> Path | None:
        if file is not None:
            read_mapping(file)
        return file

    @model_validator(mode="after")
    def _maps_plain_files(self) -> Source:
        if self.mapping is not None and self.layout != "files":
            raise ValueError(f"mapping is for layout files; layout {self.layout} knows its columns")
        return self

    @model_validator(mode="after")
    def _fetches_into_a_folder(self) -> Source:
        if self.fetch is not None:
            if self.layout != "files" or self.mapping is not None or self.period_pattern is not None:
                raise ValueError("fetch is for layout files, and brings its own mapping and period_pattern")
            if "://" in self.uri:
                raise ValueError("fetch writes to a folder of this machine; found a store in uri")
        return self

    @field_validator("period_pattern")
    @classmethod
    def _names_a_period(cls, pattern: str | None) -> str | None:
        groups = {"year", "month"} if pattern is None else set(re.compile(checked(pattern)).groupindex)
        if not {"year", "month"} <= groups:
            raise ValueError(r"needs the groups year and month, such as (?P<year>\d{4})-(?P<month>\d{2})")
        return pattern
