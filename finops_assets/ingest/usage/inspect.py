"""Usage of a cluster that nobody has named yet: is it any, whose, and what can be split by it?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import DeliveryRefused
from finops_assets.base.secrets import without_secrets
from finops_assets.ingest.usage.allocations import known_columns, read_allocations
from finops_assets.ingest.usage.landing import usage_files
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect
from finops_assets.storage.stores.store import Store, StoredFile

_HEAD = 1 << 16
# A bill may be large; a day of usage is not fetched beyond this to find out what it is.
_MOST = 32 << 20


@dataclass(frozen=True)
class UsageInspection:
    """What usage lies at a URI: of all files how many there are, of the newest what it says."""

    uri: str
    files: int
    size: int
    sample: str
    yaml: str
    days: tuple[date, ...] = ()
    clusters: tuple[str, ...] = ()
    pods: int = 0
    nodes: int = 0
    by_provider_id: int = 0
    """Nodes whose provider id is told."""
    nameless: int = 0
    """Rows that name no node: they can be given to none."""
    idle: str = "not told"
    """by node, by cluster, or not told"""
    labels: int = 0
    """Rows with labels."""
    problem: str | None = None
    """Why the newest file cannot be read; then nothing else is said of it."""


def inspect_usage(uri: str, endpoint_url: str | None = None) -> UsageInspection | None:
    """Look at the newest file of a place; None where it is no usage of a cluster.

    Raises:
        FinopsError: the place cannot be listed.
    """
    store, listed = usage_files(uri, endpoint_url)
    newest = next((f for f in reversed(listed) if 0 < f.size <= _MOST), None)
    if newest is None:
        return None
    with (
        tempfile.TemporaryDirectory(prefix="inspect-") as scratch,
        connect(EngineSettings(), Path(scratch)) as connection,
    ):
        try:
            if not _may_be(store, newest, Path(scratch)):
                return None
        except (OSError, ValueError, pa.ArrowException):
            return None
        found = UsageInspection(
            without_secrets(uri), len(listed), sum(f.size for f in listed), newest.key, _yaml(uri, endpoint_url)
        )
        try:
            with store.local_root([newest], Path(scratch)) as root:
                days = tuple(read_allocations(connection, "usage", None, root, newest.key, Path(scratch)).days)
        except DeliveryRefused as refusal:
            return replace(found, problem=refusal.reason)
        [said] = connection.execute(
            """
            SELECT list_sort(list(DISTINCT cluster)), count(DISTINCT (namespace, pod)) FILTER (NOT idle),
                count(DISTINCT coalesce(node, provider_id)),
                count(DISTINCT coalesce(node, provider_id)) FILTER (NOT idle AND provider_id IS NOT NULL),
                count(*) FILTER (NOT idle AND node IS NULL AND provider_id IS NULL),
                CASE WHEN count(*) FILTER (idle AND node IS NOT NULL) > 0 THEN 'by node'
                    WHEN count(*) FILTER (idle) > 0 THEN 'by cluster' ELSE 'not told' END,
                count(*) FILTER (labels IS NOT NULL)
            FROM usage_rows
            """
        ).fetchall()
    clusters, pods, nodes, by_provider_id, nameless, idle, labels = said
    return replace(
        found,
        days=days,
        clusters=tuple(clusters or ()),
        pods=pods,
        nodes=nodes,
        by_provider_id=by_provider_id,
        nameless=nameless,
        idle=idle,
        labels=labels,
    )


def _yaml(uri: str, endpoint_url: str | None) -> str:
    lines = [f"clusters:\n  - name: k8s\n    uri: {without_secrets(uri)}\n    layout: opencost\n    idle: owner\n"]
    return "".join([*lines, *([f"    endpoint_url: {endpoint_url}\n"] if endpoint_url else [])])


def _may_be(store: Store, file: StoredFile, scratch: Path) -> bool:
    """Has a file what usage has? Told by its first bytes, or by the columns of Parquet."""
    key = file.key.lower()
    if key.endswith(".parquet"):
        with store.local_root([file], scratch) as root:
            return known_columns(pq.read_schema(root / file.key).names)
    if key.endswith(".csv"):
        header = store.read(file.key, _HEAD).split(b"\n", 1)[0].decode("utf-8-sig")
        return known_columns(header.strip().split(","))
    head = b"" if key.endswith(".gz") else store.read(file.key, _HEAD)
    return key.endswith(".json.gz") or (key.endswith(".json") and b'"window"' in head and b'"cpuCo' in head)
