"""The layouts of bills that are not FOCUS: how their files lie. What they hold is for `conversion` to read.

They lie as the providers' FOCUS exports do, or are files without a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from finops_assets.ingest.layouts import aws_data_exports, azure_exports, gcs_export, plain_files
from finops_assets.ingest.layouts.azure_exports import ACTUAL, AMORTIZED
from finops_assets.ingest.layouts.delivery import Delivery
from finops_assets.ingest.layouts.listing import ListedStore

_COST_REPORTS = "reports/cost-csv/"
_PART = re.compile(r"(^|/)part_\d+_\d+\.[^/]+$")
_AMORTIZED_NAME = re.compile(r"amorti[sz]ed", re.IGNORECASE)


@dataclass(frozen=True)
class Files:
    """How files without a manifest are taken, as `plain_files.deliveries` says."""

    pattern: str = ""
    quiet_minutes: int = 0
    period_pattern: str | None = None
    now: datetime | None = None

    def below(self, store: ListedStore, folder: str = "") -> Iterator[Delivery]:
        return plain_files.deliveries(
            store, self.pattern, self.quiet_minutes, self.period_pattern, self.now, folder=folder
        )


def aws_cur(store: ListedStore, plain: Files) -> Iterable[Delivery]:
    """Cost and Usage Reports: legacy ones and CUR 2.0 by their manifests, else files."""
    found = [] if plain.pattern else list(aws_data_exports.deliveries(store, plain.now, native=True))
    return found or plain.below(store)


def azure_actual_amortized(store: ListedStore, plain: Files) -> Iterable[Delivery]:
    """Exports of actual and amortised cost of one scope by their manifests, else files, told apart by their names."""
    found = [] if plain.pattern else list(azure_exports.deliveries(store, native=True, now=plain.now))
    return found or (_told_apart(_without_its_manifest(d) if not plain.pattern else d) for d in plain.below(store))


def _without_its_manifest(delivery: Delivery) -> Delivery:
    """A file that an export names as its parts waits for the manifest, which is written last."""
    parts = [f.key for f in delivery.files if _PART.search(f.key)]
    if not parts:
        return delivery
    problem = (
        f"{parts[0]} is a part of an export whose manifest.json is not there: the run is being written, or a copy leaves"
        " it out; copy it too. Files that never had one are taken one by one where the uri names them by a glob"
    )
    return replace(delivery, problems=(*delivery.problems, problem))


def _told_apart(delivery: Delivery) -> Delivery:
    """A period's files without manifest: those that have `amortized` in their path, and the others, are two sets."""
    kinds = {f.key: AMORTIZED if _AMORTIZED_NAME.search(f.key) else ACTUAL for f in delivery.files}
    return replace(delivery, datasets=tuple(kinds.items())) if AMORTIZED in kinds.values() else delivery


def gcp_detailed(store: ListedStore, plain: Files) -> Iterable[Delivery]:
    """Run folders of an export of BigQuery, else files."""
    found = [] if plain.pattern else list(gcs_export.deliveries(store, plain.quiet_minutes, plain.now))
    return found or plain.below(store)


def oci_cost_report(store: ListedStore, plain: Files) -> Iterable[Delivery]:
    """Oracle's cost reports: in its bucket `reports/cost-csv/`, where usage and FOCUS reports lie beside them."""
    below = "" if plain.pattern or "reports/" not in store.level().folders else _COST_REPORTS
    return plain.below(store, below)
