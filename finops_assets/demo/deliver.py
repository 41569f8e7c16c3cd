"""Deliveries: the files and manifests of one billing period in the layout of its source.

Every file appears whole under its final name (written beside it, then renamed), the manifest last. Ids and
times are derived from the delivery itself and the seed, never from a clock: the same delivery is the same
files, and a different one has another id and, as long as generations or days advance, a later time.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import duckdb

from finops_assets.base.files import replacing
from finops_assets.base.sql import literal
from finops_assets.demo.dialects import COLUMNS, select_sql
from finops_assets.demo.plan import Delivery, PeriodPlan, estate_days, plan_period
from finops_assets.demo.rows import chunks, load_plan
from finops_assets.demo.spec import EstateSpec, period_end, period_start

AWS_EXPORT = "focus"
AZURE_EXPORT = "focus-daily"

_PARQUET = {"aws": "FORMAT parquet, COMPRESSION snappy", "gcp": "FORMAT parquet, COMPRESSION zstd"}
_CSV = "FORMAT csv, HEADER true, COMPRESSION gzip"


@dataclass(frozen=True)
class DataFile:
    """One written data file: its name, its bytes, its rows."""

    path: Path
    size: int
    rows: int


def delivered_at(spec: EstateSpec, delivery: Delivery) -> datetime:
    """When the delivery was made (UTC).

    Three hours after its last charge day ended; each further generation is a day and a minute later.
    """
    _, last = estate_days(spec, delivery.period)
    if delivery.through is not None:
        last = min(last, delivery.through)
    extra = delivery.generation - 1
    moment = datetime.combine(last + timedelta(days=1), time(3), UTC)
    return moment + timedelta(days=extra, minutes=extra)


def delivery_id(spec: EstateSpec, delivery: Delivery) -> str:
    """The execution's id: another one for every delivery whose content may differ."""
    parts = (spec.first_day, spec.last_day, spec.rows, spec.seed, spec.tag_sets, spec.incidents, spec.waste, delivery)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, repr(parts)))


def write_delivery(
    con: duckdb.DuckDBPyConnection,
    spec: EstateSpec,
    root: Path,
    delivery: Delivery,
    *,
    create_new: bool,
    base_uri: str,
) -> None:
    """Write one delivery below ``root``. ``con`` holds the source's resources."""
    plan = plan_period(spec, delivery)
    if delivery.source == "aws":
        _write_aws(con, spec, root, delivery, plan, create_new, base_uri)
    elif delivery.source == "azure":
        _write_azure(con, spec, root, delivery, plan, create_new)
    else:
        _write_gcp(con, spec, root, delivery, plan)


def _write_manifest(path: Path, content: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _copy(con: duckdb.DuckDBPyConnection, select: str, path: Path, options: str) -> DataFile:
    with replacing(path) as temporary:
        [(rows,)] = con.execute(f"COPY ({select}) TO {literal(str(temporary))} ({options})").fetchall()
    return DataFile(path, path.stat().st_size, int(rows))


def _write_data(
    con: duckdb.DuckDBPyConnection,
    spec: EstateSpec,
    delivery: Delivery,
    plan: PeriodPlan,
    folder: Path,
    name: str,
    options: str,
    first_number: int,
) -> list[DataFile]:
    """The data files of a delivery in ``folder``; ``name`` holds a format field for the number.

    A delivery without rows is one file without rows.
    """
    select = select_sql(spec, delivery, delivered_at(spec, delivery).replace(tzinfo=None))
    files = []
    for number, days in enumerate(chunks(plan.days) or [[]]):
        load_plan(con, days, plan.charges if number == 0 else ())
        files.append(_copy(con, select, folder / name.format(first_number + number), options))
    return files


def _stale(folder: Path, pattern: str, files: list[DataFile]) -> list[Path]:
    """Data files of an earlier, larger delivery that this one did not write over."""
    written = {file.path for file in files}
    return sorted(path for path in folder.glob(pattern) if path not in written)


def _write_aws(
    con: duckdb.DuckDBPyConnection,
    spec: EstateSpec,
    root: Path,
    delivery: Delivery,
    plan: PeriodPlan,
    create_new: bool,
    base_uri: str,
) -> None:
    export = root / "aws" / AWS_EXPORT
    partition = f"BILLING_PERIOD={delivery.period}"
    execution = delivery_id(spec, delivery)
    data, metadata = export / "data" / partition, export / "metadata" / partition
    run = ""
    if create_new:
        run = f"{delivered_at(spec, delivery):%Y-%m-%dT%H:%M:%S.000Z}-{execution}"
        data = data / run
    files = _write_data(
        con,
        spec,
        delivery,
        plan,
        data,
        AWS_EXPORT + "-{:05d}.snappy.parquet",
        _PARQUET["aws"],
        first_number=1,
    )
    if not create_new:
        # This provider never deletes a surplus chunk: it empties it.
        load_plan(con, (), ())
        empty = select_sql(spec, delivery, delivered_at(spec, delivery).replace(tzinfo=None))
        for path in _stale(data, f"{AWS_EXPORT}-*.snappy.parquet", files):
            _copy(con, empty, path, _PARQUET["aws"])
    manifest = {
        "executionId": execution,
        "exportArn": f"arn:aws:bcm-data-exports:us-east-1:999900001111:export/{AWS_EXPORT}-{spec.seed}",
        "columns": [{"name": name, "type": _aws_type(name)} for name in COLUMNS["aws"]],
        "dataFiles": [f"{base_uri.rstrip('/')}/{file.path.relative_to(root).as_posix()}" for file in files],
        "additionalOutputFiles": [],
    }
    name = f"{AWS_EXPORT}-Manifest.json"
    if create_new:
        _write_manifest(metadata / run / name, manifest)
    _write_manifest(metadata / name, manifest)


def _aws_type(column: str) -> str:
    if column in ("Tags", "SkuPriceDetails"):
        return "map<string,string>"
    if column == "x_Discounts":
        return "map<string,double>"
    if column.endswith(("Start", "End")) or column == "x_DatasetLastUpdated":
        return "timestamp_milliseconds"
    if column.endswith(("Cost", "UnitPrice", "Quantity")):
        return "double"
    return "string"


def _write_azure(
    con: duckdb.DuckDBPyConnection,
    spec: EstateSpec,
    root: Path,
    delivery: Delivery,
    plan: PeriodPlan,
    create_new: bool,
) -> None:
    container = root / "azure"
    start, end = period_start(delivery.period), period_end(delivery.period)
    last = end - timedelta(days=1)
    submitted = delivered_at(spec, delivery)
    run = delivery_id(spec, delivery)
    if create_new:
        place = f"{submitted:%Y%m%d%H%M}/{run}"
    else:
        # One folder per billing period, written over by every run; only the manifest tells the runs apart.
        place = f"{start:%Y%m%d}0300/{uuid.uuid5(uuid.NAMESPACE_OID, f'azure:{spec.seed}:{delivery.period}')}"
    folder = container / AZURE_EXPORT / f"{start:%Y%m%d}-{last:%Y%m%d}" / place
    files = _write_data(con, spec, delivery, plan, folder, "part_0_{:04d}.csv.gz", _CSV, first_number=1)
    for path in _stale(folder, "part_0_*.csv.gz", files):
        path.unlink()
    scope = "/providers/Microsoft.Billing/billingAccounts/4711000/billingProfiles/main"
    manifest = {
        "manifestVersion": "2024-04-01",
        "byteCount": sum(file.size for file in files),
        "blobCount": len(files),
        "dataRowCount": sum(file.rows for file in files),
        "exportConfig": {
            "exportName": AZURE_EXPORT,
            "resourceId": f"{scope}/providers/Microsoft.CostManagement/exports/{AZURE_EXPORT}",
            "dataVersion": "1.0",
            "apiVersion": "2023-07-01-preview",
            "type": "FocusCost",
            "timeFrame": "MonthToDate" if submitted.date() < end else "TheLastMonth",
            "granularity": "Daily",
        },
        "deliveryConfig": {
            "partitionData": True,
            "dataOverwriteBehavior": "CreateNewReport" if create_new else "OverwritePreviousReport",
            "fileFormat": "Csv",
            "compressionMode": "Gzip",
            "containerUri": (
                "/subscriptions/estate/resourceGroups/finops/providers/Microsoft.Storage/storageAccounts/"
                "estate/blobServices/default/containers/azure"
            ),
            "rootFolderPath": "",
        },
        "runInfo": {
            "executionType": "Scheduled",
            "submittedTime": f"{submitted:%Y-%m-%dT%H:%M:%S}.000Z",
            "runId": run,
            "startDate": f"{start}T00:00:00",
            "endDate": f"{last}T00:00:00",
        },
        "blobs": [
            {
                "blobName": file.path.relative_to(container).as_posix(),
                "byteCount": file.size,
                "dataRowCount": file.rows,
            }
            for file in files
        ],
    }
    _write_manifest(folder / "manifest.json", manifest)


def _write_gcp(
    con: duckdb.DuckDBPyConnection, spec: EstateSpec, root: Path, delivery: Delivery, plan: PeriodPlan
) -> None:
    exported = delivered_at(spec, delivery)
    run = f"{exported:%Y%m%dT%H%M%SZ}-{delivery_id(spec, delivery)[:8]}"
    folder = root / "gcp" / f"billing_period={delivery.period}" / f"run={run}"
    files = _write_data(con, spec, delivery, plan, folder, "shard-{:012d}.parquet", _PARQUET["gcp"], first_number=0)
    totals = con.execute(
        "SELECT BillingCurrency, sum(BilledCost) FROM read_parquet(?) GROUP BY ALL ORDER BY ALL",
        [[str(file.path) for file in files]],
    ).fetchall()
    manifest = {
        "manifest_version": 1,
        "billing_period": delivery.period,
        "run": run,
        "exported_at": f"{exported:%Y-%m-%dT%H:%M:%S}Z",
        "row_count": sum(file.rows for file in files),
        "files": [{"name": file.path.name, "size": file.size, "rows": file.rows} for file in files],
        "currency_totals": {currency: format(total, "f") for currency, total in totals},
    }
    _write_manifest(folder / "manifest.json", manifest)
