"""AWS Data Exports: `data/<partition>/` and `metadata/<partition>/…-Manifest.json`, month by month.

Source of the rules: AWS, "Understanding export delivery" (Data Exports user guide). The manifest that
lies directly in the partition's metadata folder is the newest refresh in both delivery modes and is
written after the data, so it alone is read, and `data/` is never listed to find files: overwrite mode
leaves surplus chunks behind. The partition folder is BILLING_PERIOD= in the guide and billing_period= in
the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from finops_assets.ingest.layouts.delivery import MALFORMED, Delivery, named_files, outside, read_manifest, unreadable
from finops_assets.ingest.layouts.listing import ListedStore
from finops_assets.storage.stores.store import StoredFile

_PARTITION_MANIFEST = re.compile(
    r"(?P<export>.*)metadata/billing_period=(?P<period>\d{4}-\d{2})/[^/]+-Manifest\.json$", re.IGNORECASE
)
_PARTITION = re.compile(r"(?:.*/)?billing_period=(?P<period>\d{4}-\d{2})/$", re.IGNORECASE)
_LEGACY = re.compile(r"(?:.*/)?(?P<year>\d{4})(?P<month>\d{2})01-\d{8}/$")
_MONTH = re.compile(r"(?:.*/)?year=\d{4}/month=\d{1,2}/$")
_FOLDERS_DEEP = 4
# While overwrite mode writes, the old manifest names files that are new already. A copy may have lost the
# order of times for good, so the suspicion ends.
_WRITING = timedelta(hours=6)
_SLACK = timedelta(minutes=1)
_ADVICE = "create a Data Export of the table FOCUS_1_2_AWS (docs/guides/providers/aws.md)"
_CONVERT = f"{_ADVICE}, or set layout: aws-cur to have it converted (docs/guides/native-bills.md)"


def deliveries(store: ListedStore, now: datetime | None = None, native: bool = False) -> Iterator[Delivery]:
    """The newest delivery of every billing period; of Cost and Usage Reports (legacy and 2.0) if `native`."""
    moment = now or datetime.now(UTC)
    for export in _exports(store, "", _FOLDERS_DEEP):
        told = set()
        for file in store.list(f"{export}metadata/", "-Manifest.json"):
            found = _PARTITION_MANIFEST.fullmatch(file.key)
            if found is not None:
                told.add(found["period"])
                yield _delivery(store, file, found["period"], found["export"], moment, native)
        # A uri that ends at data/ itself has the partitions directly below it.
        for folder in (*store.level(f"{export}data/").folders, *store.level(export).folders):
            partition = _PARTITION.fullmatch(folder)
            if partition is not None and partition["period"] not in told:
                told.add(partition["period"])
                yield _without_manifest(partition["period"], folder)
        for folder in store.level(export).folders:
            legacy = _LEGACY.fullmatch(folder)
            if legacy is None:
                continue
            period = f"{legacy['year']}-{legacy['month']}"
            if native:
                # The newest assembly's manifest lies directly in the period's folder, copies of it beside its files.
                manifests = [f for f in store.level(folder).files if f.key.endswith("-Manifest.json")]
                for file in manifests:
                    yield _delivery(store, file, period, export, moment, native)
                if not manifests:
                    yield unreadable(
                        period,
                        folder,
                        f"{folder} has no manifest directly in it, which says which of its files count: the report is"
                        " being written, or a copy leaves it out; copy …-Manifest.json too. Files that never had one"
                        " are taken one by one where the uri names them by a glob",
                    )
            # Azure names folders like this, too.
            elif store.list(folder, "-Manifest.json"):
                yield unreadable(
                    period, folder, f"{folder} is a folder of the legacy Cost and Usage Report; {_CONVERT}"
                )


def _exports(store: ListedStore, folder: str, deep: int) -> Iterator[str]:
    """The folders of exports: those that hold metadata/ or data/, or that are themselves their data."""
    below = store.level(folder).folders
    names = {f[len(folder) :] for f in below}
    if names & {"metadata/", "data/"} or any(_PARTITION.fullmatch(f) or _LEGACY.fullmatch(f) for f in below):
        yield folder
    elif deep:
        for each in below:
            yield from _exports(store, each, deep - 1)


def _without_manifest(period: str, folder: str) -> Delivery:
    return Delivery(
        scope=period,
        generation="unreadable",
        files=(),
        problems=(
            f"{folder} has no manifest in metadata/{folder.rstrip('/').rpartition('/')[2]}: the first delivery is being"
            " written, or a copy leaves metadata/ out; copy metadata/ too, and end the uri at the export's folder",
        ),
        export=folder.rpartition("data/")[0] or "/",
    )


def _delivery(store: ListedStore, file: StoredFile, period: str, export: str, now: datetime, native: bool) -> Delivery:
    before = store.unchanged(file)
    if before:
        return Delivery(
            scope=period,
            generation=before[1],
            files=(),
            manifest=file.key,
            manifest_etag=file.etag,
            export=export or "/",
            unchanged=True,
        )
    try:
        manifest = read_manifest(store, file.key)
        named = manifest.get("dataFiles") or manifest["reportKeys"]
        legacy = native and "reportKeys" in manifest
        keys = _report_keys(store, named, file.key) if legacy else [_key(item, export) for item in named]
        names = [str(c.get("name") if isinstance(c, dict) else c) for c in manifest.get("columns") or ()]
    except MALFORMED as error:
        return unreadable(period, file.key, f"manifest {file.key} is not one of AWS Data Exports: {error!r}")
    files, problems = named_files(store, keys)
    problems += tuple(f"file {f.key} is empty (0 bytes)" for f in files if f.size == 0)
    return Delivery(
        scope=period,
        generation=str(manifest.get("executionId") or manifest.get("assemblyId") or file.etag),
        files=files,
        manifest=file.key,
        manifest_etag=file.etag,
        export=export or "/",
        problems=(*problems, *_wrong_dataset(names, native), *_being_overwritten(files, file, now)),
    )


def _wrong_dataset(columns: list[str], native: bool) -> Iterator[str]:
    # The manifest of a legacy report gives a column's name without its category.
    folded = {re.sub("[^a-z]", "", name.casefold()) for name in columns}
    is_native = bool(folded & {"lineitemusagestartdate", "usagestartdate"})
    if not folded or (is_native if native else "chargeperiodstart" in folded):
        return
    begin = f"its columns begin with {', '.join(columns[:3])}"
    if native and "chargeperiodstart" in folded:
        yield f"the export's dataset is FOCUS already ({begin}); set layout: aws-data-exports"
    elif native:
        yield f"the export's dataset is no Cost and Usage Report ({begin})"
    else:
        yield f"the export's dataset is not FOCUS ({begin}); {_CONVERT if is_native else _ADVICE}"


def _being_overwritten(files: tuple[StoredFile, ...], manifest: StoredFile, now: datetime) -> Iterator[str]:
    for file in files:
        folder = file.key.rpartition("/")[0] + "/"
        in_place = _PARTITION.fullmatch(folder) or _LEGACY.fullmatch(folder) or _MONTH.fullmatch(folder)
        if not in_place or file.modified is None or manifest.modified is None:
            continue
        if file.modified > manifest.modified + _SLACK and now - file.modified < _WRITING:
            yield (
                f"file {file.key} was written after its manifest: the next refresh is being written over this one;"
                " it is taken when its manifest comes (an export with CREATE_NEW_REPORT never waits for this)"
            )
            return


def _key(item: object, export: str) -> str:
    """A data file's key below the root. Manifests give s3:// addresses; the root may be any copy of the bucket."""
    if isinstance(item, dict):
        item = item.get("s3Uri") or item.get("key") or item.get("relativePath") or ""
    uri = str(item)
    at = re.search(r"(?:^|/)data/billing_period=", uri, re.IGNORECASE)
    if at is None:
        raise ValueError(f"data file {uri!r} does not lie in a data/BILLING_PERIOD= folder")
    return export + uri[at.start() :].lstrip("/")


def _report_keys(store: ListedStore, named: object, manifest: str) -> list[str]:
    """The files of a legacy report. Keys are the bucket's; the root may be any folder of it, or a copy of one."""
    if not isinstance(named, list) or not named:
        raise ValueError(f"reportKeys {named!r} is no list of files")
    if any(outside(str(each)) for each in named):
        return [str(each) for each in named]
    first, at = str(named[0]).split("/"), manifest.split("/")
    # The end of a key is the same in every copy; before it stands a folder in which the manifest lies, too.
    for above in range(len(at)):
        for depth in range(len(first) - 1):
            key = "/".join([*at[:above], *first[depth:]])
            if store.stat(key) is not None:
                return ["/".join([*at[:above], *str(each).split("/")[depth:]]) for each in named]
    return [str(each) for each in named]
