"""lake: a folder of this machine, or of a store."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Tag, field_validator

from finops_assets.base.secrets import USER_INFO
from finops_assets.base.uris import bucket_place
from finops_assets.settings.section import Endpoint, FilePath, Section, Size


class LakeStore(Section):
    """A lake on an object store. Credentials come from the provider's own chain, as those of sources."""

    uri: str
    """The folder: s3://bucket/folder, az://container/folder, https://<account>.blob…/container/folder, gs://bucket/folder."""
    endpoint_url: Endpoint | None = None
    """Of a store that speaks a cloud's protocol but is not that cloud's own, or of an emulator."""
    working_copy_limit: Size | None = None
    """How much of raw days and deliveries the copy on this machine keeps, the longest unused going first; None: all."""

    @field_validator("uri")
    @classmethod
    def _names_a_folder(cls, uri: str) -> str:
        if "://" not in uri:
            raise ValueError("a local folder is written without uri, as lake: data/lake")
        if USER_INFO.search(uri):
            raise ValueError(
                "it has credentials in it; take them out: they come from the provider's own chain (environment,"
                " profile, role)"
            )
        if bucket_place(uri).pattern:
            raise ValueError("it must name a folder, without * and without a file's name")
        return uri.rstrip("/")


def lake_form(value: object) -> object:
    if isinstance(value, str) and "://" in value:
        return value.removeprefix("file://") if value.startswith("file://") else {"uri": value}
    return value


LakePlace = Annotated[
    Annotated[FilePath, Tag("path")] | Annotated[LakeStore, Tag("store")],
    Discriminator(lambda value: "store" if isinstance(value, dict | LakeStore) else "path"),
    BeforeValidator(lake_form),
]
"""A local folder, the URI of a store, or that URI with what else is needed to reach it."""
