"""What lies at a URI, and whether a configured source can be used: for the person who connects a source."""

from __future__ import annotations

import difflib
import gzip
import io
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from posixpath import commonpath
from typing import Any, Literal

import duckdb
import yaml

from finops_assets.base.errors import DeliveryRefused, FinopsError
from finops_assets.base.secrets import without_secrets
from finops_assets.base.sql import identifier
from finops_assets.base.text import command
from finops_assets.base.uris import DATA_SUFFIXES, is_data, place_of
from finops_assets.focus.specification import columns, detect_version, mandatory_columns
from finops_assets.ingest.conversion.convert import converted, native_bill
from finops_assets.ingest.conversion.source_columns import SourceColumns
from finops_assets.ingest.layouts.azure_exports import ACTUAL, AMORTIZED
from finops_assets.ingest.layouts.delivery import Delivery, read_manifest
from finops_assets.ingest.layouts.layouts import newest_deliveries
from finops_assets.ingest.layouts.listing import json_of
from finops_assets.ingest.reading.dlt_names import in_focus_names
from finops_assets.ingest.reading.export_table import map_column, open_export
from finops_assets.ingest.reading.relation import ExportTable
from finops_assets.ingest.reading.spelling import how_written
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.sources import Layout, Source
from finops_assets.storage.duck import connect
from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import LocalStore, Store, StoredFile, StoreError, matches

TAG_COLUMNS = ("Tags", "AllocatedTags", "x_Labels", "x_Tags", "x_SystemLabels", "x_ProjectLabels")
STALE_AFTER = timedelta(hours=48)
READ_WHOLE = 64 << 20
"""Bytes up to which a file is read to its end when a source is checked; of a larger one its head."""
_PERIOD = r"(?P<year>\d{4})[-/]?(?P<month>\d{2})"
# In this order: what is more special first.
_SIGNS: tuple[tuple[Layout, str, str], ...] = (
    ("gcs-export", r"(?:.*/)?billing_period=\d{4}-\d{2}/run=[^/]+/[^/]+", "folders billing_period=…/run=…"),
    ("aws-data-exports", r"(?:.*/)?metadata/billing_period=\d{4}-\d{2}/.*-manifest\.json", "metadata/BILLING_PERIOD=…"),
    ("aws-data-exports", r"(?:.*/)?billing_period=\d{4}-\d{2}/.*", "folders BILLING_PERIOD=…"),
    ("aws-cur", r"(?:.*/)?\d{6}01-\d{8}/(?:.*/)?[^/]+-manifest\.json", "a legacy Cost and Usage Report"),
    ("dlt", r"(?:.*/)?_dlt_loads/[^/]+", "the folder '_dlt_loads/'"),
    ("oci-focus", r"(?:.*/)?focus reports/.*", "the folder 'FOCUS Reports/'"),
    ("oci-cost-report", r"(?:.*/)?reports/cost-csv/.*", "the folder 'reports/cost-csv/'"),
)
# The shortest beginning counts: data/ and metadata/ belong to the export, not to its name.
_EXPORT_SIGNS = tuple(
    re.compile(rf"(?P<export>(?:.*?/)??){sign}", re.IGNORECASE)
    for sign in (
        r"billing_period=\d{4}-\d{2}/run=[^/]+/.*",
        r"(?:(?:data|metadata)/)?billing_period=\d{4}-\d{2}/.*",
        r"\d{6}01-\d{8}/(?:.*/)?[^/]+-manifest\.json",
        r"_dlt_loads/.*",
        r"focus reports/.*",
        r"reports/cost-csv/.*",
    )
)
_DATED = re.compile(r"(?P<export>(?:.*?/)?)\d{8}-\d{8}/")
_PARTITION = re.compile(r"billing_period=\d{4}-\d{2}/", re.IGNORECASE)
_WITHIN = re.compile(
    r"(?P<export>.+?)/(?:"
    r"(?:billing_period=\d{4}-\d{2}|\d{8}-\d{8}|focus reports|reports/cost-csv)(?:/.*)?|(?P<half>data|metadata))",
    re.IGNORECASE,
)
"""A place inside of an export, by the names of the folders that providers make there."""


@dataclass(frozen=True)
class Sample:
    """One data file, looked into."""

    key: str
    rows: int
    native: Layout | None
    """The layout of a bill that is not FOCUS; what is said of its columns is said of them converted."""
    focus_version: str
    columns: tuple[str, ...]
    missing: tuple[str, ...]
    first_charge: datetime | None
    last_charge: datetime | None
    provider: str | None
    tag_encodings: tuple[tuple[str, str], ...]
    tag_keys: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Inspection:
    """What lies at a URI."""

    uri: str
    layout: Layout
    sign: str
    files: int
    size: int
    deliveries: tuple[Delivery, ...]
    sample: Sample | None
    problem: str | None
    yaml: str
    inside: str | None = None
    """The uri that was asked for, if it lies inside of this export."""


def inspect_all(uri: str, endpoint_url: str | None = None) -> list[Inspection]:
    """Look at a place: one inspection, or, where several exports lie below it, one of each.

    Of a place inside of an export the export is looked at: a source's uri ends at its folder.

    Raises:
        FinopsError: as `inspect`.
    """
    given = uri
    try:
        place_of(uri, Path())
    except ValueError as error:
        raise FinopsError(f"uri {without_secrets(uri)}: {error}") from error
    if (above := _export_around(uri, endpoint_url)) is not None:
        uri = above
    store, pattern, listed = _listed(uri, endpoint_url)
    folders = [] if pattern else _exports(store, listed)
    if len(folders) < 2:
        found = [inspect(uri, endpoint_url)]
        if folders and folders[0] and not any(d.files for d in found[0].deliveries):
            # Too far above for the layout to find it, or beside files that are none of it.
            found = [inspect(_below(uri, folders[0]), endpoint_url)]
    else:
        names: set[str] = set()
        found = []
        for folder in folders:
            below = _below(uri, folder)
            # The last part alone if it is unique, else the whole way: aws/focus and azure/focus.
            name = _name(below) if _name(below) not in names else _name(folder.strip("/").replace("/", "_"))
            names.add(name)
            found.append(inspect(below, endpoint_url, name))
    return [replace(each, inside=without_secrets(given)) for each in found] if uri != given else found


def _below(uri: str, folder: str) -> str:
    return f"{uri.rstrip('/')}/{folder.rstrip('/')}" if folder else uri


def _export_around(uri: str, endpoint_url: str | None) -> str | None:
    """The uri of the export that a place lies inside of (its data/, one of its months); None: it lies in none.

    The names alone prove nothing: the folder above must be an export, too.
    """
    whole = uri if "://" in uri else os.path.abspath(uri)
    scheme, separator, path = whole.rpartition("://")
    found = _WITHIN.fullmatch(path.rstrip("/"))
    if found is None:
        return None
    try:
        place, pattern = open_store(uri, endpoint_url)
        # Many folders are called data; what is around those is not listed.
        if found["half"] and not any(_PARTITION.fullmatch(folder) for folder in place.level().folders):
            return None
    except (ValueError, OSError, FinopsError):
        return None
    if pattern:
        return None  # one file or a glob: that is meant
    export, last = found["export"], found["export"].rpartition("/")
    # AWS has data/ and metadata/ between the export and its months; others may have an export of that name.
    halved = [last[0]] if last[0] and last[2].casefold() in ("data", "metadata") else []
    for candidate in (*halved, export):
        above, inside = f"{scheme}{separator}{candidate}", f"{path.rstrip('/')[len(candidate) + 1 :]}/"
        try:
            store, _, listed = _listed(above, endpoint_url)
        except (ValueError, OSError, FinopsError):
            continue  # it need not be allowed to list it
        within = [f for f in listed if f.key.startswith(inside)]
        if within and _exports(store, within) == [""] and _layout(store, listed, "")[0] != "files":
            return above
    return None


def _listed(uri: str, endpoint_url: str | None) -> tuple[Store, str, list[StoredFile]]:
    """A place, the glob below it that its uri names, and the files there.

    Raises:
        FinopsError: it cannot be listed, is not there, or holds nothing.
    """
    shown = without_secrets(uri)
    try:
        store, pattern = open_store(uri, endpoint_url)
        if fault := not_there(store):
            raise FinopsError(f"uri {shown}: {fault}")
        listed = [f for f in store.list() if matches(f.key, pattern)]
    except (ValueError, OSError) as error:
        raise FinopsError(f"uri {shown}: {error}") from error
    if not listed:
        what = f"no file matches {pattern!r}" if pattern else "no file lies there"
        raise FinopsError(
            f"uri {shown}: {what}; an export's first delivery can take a day, and an object store does not tell an"
            " empty folder from a misspelt one: compare it with the provider's console"
        )
    return store, pattern, listed


def not_there(store: Store) -> str:
    """What keeps a local place from being listed: it is not there, no folder, or not readable. "": nothing."""
    if not isinstance(store, LocalStore):
        return ""
    root = store.root
    if root.is_dir():
        return "" if os.access(root, os.R_OK | os.X_OK) else f"{root} may not be read by this user"
    if root.exists():
        return f"{root} is no folder"
    if os.path.islink(root):
        return f"{root} is a link to {os.readlink(root)}, which does not exist"
    there = next((p for p in root.parents if p.exists()), None)
    if there is None or not there.is_dir() or not os.access(there, os.R_OK | os.X_OK):
        return "it does not exist"
    missing = root.relative_to(there).parts[0]
    beside = sorted(p.name for p in there.iterdir() if not p.name.startswith("."))
    close = difflib.get_close_matches(missing, beside, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f" (it holds {', '.join(beside[:5]) or 'nothing'})"
    return f"it does not exist; {there.absolute()} has no {missing!r}{hint}"


def _exports(store: Store, listed: Sequence[StoredFile]) -> list[str]:
    """The folders below a root ("" for itself) that are each an export of its own."""
    folders: dict[str, None] = {}
    unclaimed: list[StoredFile] = []
    scopes: dict[str, list[str]] = {}
    for file in listed:
        export = next((m["export"] or "" for sign in _EXPORT_SIGNS if (m := sign.fullmatch(file.key))), None)
        if export is not None:
            folders[export] = None
            continue
        unclaimed.append(file)
        if file.key.endswith("manifest.json") and (scope := _azure_scope(store, file)) is not None:
            dated = _DATED.match(file.key)
            scopes.setdefault(scope, []).append(dated["export"] if dated else file.key.rpartition("/")[0] + "/")
    # Exports of one billing scope, the daily one and one of selected dates, are one source.
    for below in scopes.values():
        common = f"{commonpath(below)}/".lstrip("/")
        mixed = any(other.startswith(common) for other in folders)
        folders |= dict.fromkeys(below if mixed else [common])
    # What no manifest claims: each folder of the root is one, since the root holds exports.
    rest = (f.key for f in unclaimed if is_data(f.key) and not f.key.startswith(tuple(folders)))
    if folders:
        folders |= {key.partition("/")[0] + "/": None for key in rest if "/" in key}
    return sorted(folders)


def _azure_scope(store: Store, manifest: StoredFile) -> str | None:
    """The billing scope whose Azure export a manifest is of; None: it is of none."""
    try:
        body = read_manifest(store, manifest.key)
    except (ValueError, StoreError):
        return None
    config = body.get("exportConfig") or {}
    return str(config.get("resourceId") or "").partition("/exports/")[0].casefold() if "runInfo" in body else None


def inspect(uri: str, endpoint_url: str | None = None, name: str | None = None) -> Inspection:
    """Look at a place: its layout, its deliveries, and inside the smallest file of the newest one.

    Raises:
        FinopsError: it cannot be listed, or nothing there looks like an export.
    """
    shown = without_secrets(uri)
    store, pattern, listed = _listed(uri, endpoint_url)
    layout, sign = _layout(store, listed, pattern)
    if layout is None:
        some = ", ".join(f.key for f in listed[:3])
        raise FinopsError(
            f"uri {shown}: no export was found among {len(listed)} files ({some}); a source is a folder with a provider's"
            f" export, or files that end in {', '.join(DATA_SUFFIXES)}"
        )
    # A relative path means another folder in finops.yaml.
    uri = uri if "://" in uri else str(Path(uri).absolute())
    source = Source(name=name or _name(uri), uri=uri, layout=layout, endpoint_url=endpoint_url)
    _, deliveries = newest_deliveries(source)
    sample, problem = None, None
    file = _smallest_of_newest(deliveries)
    if file is not None:
        try:
            sample = _look_into(store, source, file)
        except (DeliveryRefused, StoreError) as error:
            problem = str(error)
    if sample is not None and sample.native is not None and sample.native != layout:
        source = source.model_copy(update={"layout": sample.native})
        sign += f", with the columns of layout {sample.native}"
        _, deliveries = newest_deliveries(source)
    return Inspection(
        uri=shown,
        layout=source.layout,
        sign=sign,
        files=len(listed),
        size=sum(f.size for f in listed),
        deliveries=tuple(deliveries),
        sample=sample,
        problem=problem,
        yaml=_yaml(source, sample, deliveries),
    )


def _layout(store: Store, listed: Sequence[StoredFile], pattern: str) -> tuple[Layout | None, str]:
    data = [f for f in listed if is_data(f.key)]
    if pattern:
        return ("files", f"the name or glob {pattern}") if data else (None, "")
    keys = [f.key for f in listed]
    for layout, sign, said in _SIGNS:
        if any(re.fullmatch(sign, key, re.IGNORECASE) for key in keys):
            return layout, said
    for file in sorted((f for f in listed if f.key.endswith("manifest.json")), key=lambda f: f.size)[:5]:
        try:
            body = json_of(store.read(file.key))
        except (ValueError, OSError):
            continue
        if isinstance(body, dict) and "runInfo" in body:
            kind = (body.get("exportConfig") or {}).get("type")
            layout = "azure-actual-amortized" if kind in (ACTUAL, AMORTIZED) else "azure-exports"
            return layout, f"{file.key}, a manifest of an Azure export"
    return ("files", f"{len(data)} data files without a manifest") if data else (None, "")


def _name(uri: str) -> str:
    last = re.sub(r"[^a-z0-9]+", "_", uri.rstrip("/").rpartition("/")[2].partition(".")[0].lower()).strip("_")
    return last if last[:1].isalpha() else f"source_{last}".rstrip("_")


def _newest_first(deliveries: Sequence[Delivery]) -> list[Delivery]:
    def order(delivery: Delivery) -> tuple[bool, str, datetime]:
        return not delivery.problems, delivery.month or "", delivered_at(delivery) or datetime.min.replace(tzinfo=UTC)

    return sorted(deliveries, key=order, reverse=True)


def delivered_at(delivery: Delivery) -> datetime | None:
    """When a delivery was made: as its manifest says, else when its last file was written."""
    written = [f.modified for f in delivery.files if f.modified is not None]
    return delivery.delivered_at or max(written, default=None)


def _smallest_of_newest(deliveries: Sequence[Delivery]) -> StoredFile | None:
    for delivery in _newest_first(deliveries):
        files = [f for f in delivery.files if f.size]
        if files:
            return min(files, key=lambda f: f.size)
    return None


def _look_into(store: Store, source: Source, file: StoredFile) -> Sample:
    with (
        tempfile.TemporaryDirectory(prefix="inspect-") as name,
        store.local_root([file], Path(name)) as root,
        connect(EngineSettings(), Path(name) / "spill") as connection,
    ):
        export = open_export(connection, source.name, file.key, root, [file.key], Path(name))
        if source.layout == "dlt":
            export = in_focus_names(source.name, file.key, export)
        bill = native_bill(SourceColumns(connection, export), export)
        if bill is not None:
            export = converted(connection, export, bill)
        present = set(export.focus_columns)
        version = detect_version(export.types)
        [(rows,)] = connection.execute(f"SELECT count(*) FROM ({export.sql})").fetchall()
        first, last = _charges(connection, export)
        tags = [(n, t) for n, t in export.types.items() if n.casefold() in {c.casefold() for c in TAG_COLUMNS}]
        return Sample(
            key=file.key,
            rows=rows,
            native=bill.layout if bill else None,
            focus_version=version,
            columns=tuple(n for n in export.types if n not in ("source_file", "source_row")),
            missing=tuple(c.name for c in mandatory_columns(version) if c.name not in present),
            first_charge=first,
            last_charge=last,
            provider=_provider(connection, export),
            tag_encodings=tuple((n, _encoding(connection, export, n, t)) for n, t in tags),
            tag_keys=_tag_keys(connection, export, [n for n, _ in tags]),
        )


def _charges(connection: duckdb.DuckDBPyConnection, export: ExportTable) -> tuple[datetime | None, datetime | None]:
    name = export.focus_columns.get("ChargePeriodStart")
    if name is None:
        return None, None
    sql = map_column(columns()["ChargePeriodStart"], name, export.types[name], how_written(connection, export)).sql
    [(first, last)] = connection.execute(f"SELECT min({sql}), max({sql}) FROM ({export.sql}) e").fetchall()
    return first, last


def _provider(connection: duckdb.DuckDBPyConnection, export: ExportTable) -> str | None:
    for focus in ("ProviderName", "ServiceProviderName", "InvoiceIssuerName"):
        name = export.focus_columns.get(focus)
        if name is not None:
            found = connection.execute(f"SELECT DISTINCT {identifier(name)} FROM ({export.sql})").fetchall()
            names = [str(each) for (each,) in found if each]
            if names:
                return names[0] if len(names) == 1 else None
    return None


def _encoding(connection: duckdb.DuckDBPyConnection, export: ExportTable, name: str, kind: str) -> str:
    if kind.startswith("MAP"):
        return "map"
    if kind.endswith("[]"):
        return "list of key and value"
    if kind != "VARCHAR":
        return kind
    found = connection.execute(
        f"SELECT trim({identifier(name)}) FROM ({export.sql}) WHERE trim({identifier(name)}) <> '' LIMIT 1"
    ).fetchone()
    if found is None:
        return "text, empty in this file"
    return "JSON text" if found[0].startswith(("{", "[")) else "text without braces"


def _tag_keys(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, names: Sequence[str]
) -> tuple[tuple[str, int], ...]:
    """The keys of the tag columns in all their encodings, with the rows that have them."""
    parts = []
    for name in names:
        if export.types[name].endswith("[]"):
            keys = f"list_transform({identifier(name)}, lambda each: each.key)"
            parts.append(f"SELECT unnest({keys}) AS tag_key FROM ({export.sql})")
            continue
        value = f"CAST({identifier(name)} AS VARCHAR)"
        if export.types[name] != "VARCHAR":
            value = f"CAST(to_json({identifier(name)}) AS VARCHAR)"
        parts.append(
            f"SELECT unnest(CASE WHEN json_valid({value}) AND json_type({value}) = 'OBJECT'"
            f" THEN json_keys({value}) ELSE [] END) AS tag_key FROM ({export.sql})"
        )
    if not parts:
        return ()
    query = f"SELECT tag_key, count(*) FROM ({' UNION ALL '.join(parts)}) GROUP BY 1 ORDER BY 2 DESC, 1"
    return tuple((str(key), int(rows)) for key, rows in connection.execute(query).fetchall())


def _yaml(source: Source, sample: Sample | None, deliveries: Sequence[Delivery]) -> str:
    entry: dict[str, Any] = {"name": source.name}
    if sample is not None and sample.provider:
        entry["provider"] = sample.provider
    entry |= {"uri": source.uri, "layout": source.layout}
    if source.endpoint_url:
        entry["endpoint_url"] = source.endpoint_url
    if source.layout == "files":
        periods = [re.search(_PERIOD, d.scope) for d in deliveries]
        named = {found.group() for found in periods if found is not None}
        # Several files of one month are most likely its parts, and replaced together.
        if all(periods) and 0 < len(named) < len(deliveries):
            entry["period_pattern"] = _PERIOD
    if any(not d.verified for d in deliveries):
        entry["quiet_minutes"] = 15
    return "sources:\n" + "".join(
        f"{'  - ' if n == 0 else '    '}{line}\n"
        for n, line in enumerate(yaml.safe_dump(entry, sort_keys=False, width=200).splitlines())
    )


@dataclass(frozen=True)
class SourceFinding:
    """One thing that was checked of a source, and what to do if it is not well."""

    state: Literal["ok", "warning", "problem"]
    what: str
    advice: str = ""


@dataclass
class SourceCheck:
    """The findings of one source."""

    source: Source
    findings: list[SourceFinding] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        return all(f.state != "problem" for f in self.findings)


def check(source: Source, landed: date | None, now: datetime | None = None) -> SourceCheck:
    """Can a configured source be reached, read and understood, and is it fresh? `landed` is its newest charge day."""
    return SourceCheck(source, list(_findings(source, landed, now or datetime.now(UTC))))


def _findings(source: Source, landed: date | None, now: datetime) -> Iterator[SourceFinding]:
    uri = without_secrets(source.uri)
    try:
        store, deliveries = newest_deliveries(source, now=now)
    except FinopsError as error:
        yield SourceFinding("problem", str(error))
        return
    if fault := not_there(store):
        yield SourceFinding(
            "problem",
            f"{uri}: {fault}",
            "check `uri` in finops.yaml; a relative one is relative to that file",
        )
        return
    yield SourceFinding("ok", f"{uri} can be listed ({store.requests} requests)")
    if not deliveries:
        yield SourceFinding(
            "problem",
            f"no delivery of layout {source.layout} was found",
            f"see what lies there: {command('sources inspect', uri)}; a new export takes up to a day to deliver",
        )
        return
    newest = _newest_first(deliveries)
    bad = [d for d in deliveries if d.problems]
    files, size = sum(len(d.files) for d in deliveries), sum(f.size for d in deliveries for f in d.files)
    yield SourceFinding(
        "problem" if len(bad) == len(deliveries) else "ok",
        f"{len(deliveries)} deliveries, {len(deliveries) - len(bad)} whole; {files} files, {size / 1e6:,.1f} MB",
    )
    for delivery in bad:
        for problem in delivery.problems:
            yield SourceFinding("problem", f"{delivery.scope}: {problem}")
    for key in sorted({key for d in deliveries for key in d.not_read}):
        yield SourceFinding("warning", f"{key} is not read", f"files that end in {', '.join(DATA_SUFFIXES)} are")
    if any(not d.verified for d in deliveries) and not source.quiet_minutes:
        yield SourceFinding(
            "warning",
            "no manifest says what belongs to a delivery, and no quiet time is set",
            "set quiet_minutes on the source, so that a file that is still being written waits",
        )
    file = next((f for d in newest for f in d.files if f.size), None)
    if file is not None:
        yield _readable(store, source, file)
    yield from _freshness(source, deliveries, landed, now)


def _readable(store: Store, source: Source, file: StoredFile) -> SourceFinding:
    whole = file.size <= READ_WHOLE
    try:
        content = store.read(file.key, None if whole else 4)
    except (StoreError, OSError) as error:
        return SourceFinding(
            "problem", f"{file.key} is listed but cannot be read: {error}", "listing and reading are two permissions"
        )
    expected = (
        b"PAR1" if file.key.lower().endswith(".parquet") else b"\x1f\x8b" if file.key.lower().endswith(".gz") else b""
    )
    if not content.startswith(expected):
        return SourceFinding(
            "problem",
            f"{file.key} is not what its name says; it begins with {content[:4]!r}",
            "have it delivered again",
        )
    if not whole:
        size = f"{file.size / 1e6:,.0f} MB"
        return SourceFinding("ok", f"{file.key} begins as it should; of its {size} only the head was looked at")
    if fault := _cut(file.key, content):
        return SourceFinding("problem", f"{file.key} is cut off or damaged: {fault}", "have it delivered again")
    return SourceFinding("ok", f"{file.key} can be read to its end")


def _cut(key: str, content: bytes) -> str:
    """What shows that a file's end is missing or its content is not what was written; "": nothing does."""
    if key.lower().endswith(".parquet") and not content.endswith(b"PAR1"):
        return f"it ends with {content[-4:]!r}, not with b'PAR1'"
    if key.lower().endswith(".gz"):
        try:
            with gzip.open(io.BytesIO(content)) as packed:
                while packed.read(1 << 20):
                    pass
        except (OSError, EOFError, zlib.error) as error:
            return str(error)
    return ""


def _freshness(
    source: Source, deliveries: Sequence[Delivery], landed: date | None, now: datetime
) -> Iterator[SourceFinding]:
    times = [moment for d in deliveries if (moment := delivered_at(d)) is not None]
    periods = sorted(d.month for d in deliveries if d.month)
    newest = f"newest billing period {periods[-1]}, " if periods else ""
    charges = f"; landed up to charge day {landed}" if landed else "; not landed yet"
    if not times:
        yield SourceFinding("ok", f"{newest}when it was delivered is not told{charges}")
        return
    age = now - max(times)
    text = f"{newest}delivered {max(times):%Y-%m-%d %H:%M} UTC, {age.total_seconds() / 3600:,.0f} hours ago{charges}"
    if age > STALE_AFTER:
        yield SourceFinding(
            "warning", text, "exports come at least once a day; look at the export in the provider's console"
        )
    else:
        yield SourceFinding("ok", text)
