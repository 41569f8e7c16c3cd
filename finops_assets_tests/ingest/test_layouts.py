"""Each delivery layout: which files make up a delivery, what waits and why, and what a look costs."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.ingest import inspect as sources_inspect
from finops_assets.ingest.inspect import check, inspect, inspect_all
from finops_assets.ingest.layouts.delivery import Delivery
from finops_assets.ingest.layouts.layouts import known_manifests, newest_deliveries
from finops_assets.settings.load import parse_settings
from finops_assets.settings.sources import Layout, Source
from finops_assets.storage.stores.store import StoredFile
from finops_assets_tests.conftest import Site, csv_text, focus_row
from finops_assets_tests.emulators import Place, local_place, make_place, s3_endpoint  # noqa: F401
from finops_assets_tests.running import LAYOUTS, small_estate

ROW = csv_text([focus_row("2026-09-01")]).encode()
LATER = datetime.now(UTC) + timedelta(days=2)


@pytest.fixture
def exports(tmp_path: Path) -> Place:
    return local_place(tmp_path / "exports")


def look(place: Place, layout: str, now: datetime | None = None, known: Any = None, **settings: Any) -> list[Delivery]:
    source = Source.model_validate(
        {"name": "bill", "uri": place.uri, "layout": layout, "endpoint_url": place.endpoint_url} | settings
    )
    return newest_deliveries(source, known, now)[1]


def one(deliveries: list[Delivery]) -> Delivery:
    [delivery] = deliveries
    return delivery


def names(delivery: Delivery) -> list[str]:
    return [f.key for f in delivery.files]


# ---- AWS ------------------------------------------------------------------------------------------


def put_aws(
    place: Place,
    period: str = "2026-09",
    run: str = "",
    chunks: int = 1,
    export: str = "",
    partition: str = "BILLING_PERIOD",
    content: bytes = ROW,
    **manifest: Any,
) -> None:
    """A refresh as AWS delivers it: chunks, then the run's manifest in create-new, then the partition's."""
    below = f"{partition}={period}/{run}/" if run else f"{partition}={period}/"
    keys = [f"data/{below}focus-{n + 1:05}.csv" for n in range(chunks)]
    for key in keys:
        place.put(f"{export}{key}", content)
    body = {
        "executionId": run or f"{period}-1",
        "exportArn": f"arn:aws:bcm-data-exports:us-east-1:1:export/{export}",
        "columns": [{"name": "ChargePeriodStart"}],
        "dataFiles": [f"s3://bucket/prefix/{export}{key}" for key in keys],
    } | manifest
    if run:
        place.put(f"{export}metadata/{below}focus-Manifest.json", json.dumps(body).encode())
    place.put(f"{export}metadata/{partition}={period}/focus-Manifest.json", json.dumps(body).encode())


def test_aws_create_new_and_overwrite_beside_each_other(exports: Place) -> None:
    put_aws(exports, "2026-08", chunks=2)
    put_aws(exports, "2026-09", run="t1-a", chunks=3)
    put_aws(exports, "2026-09", run="t2-b", chunks=1)
    august, september = look(exports, "aws-data-exports")
    assert (august.scope, august.generation, len(august.files)) == ("2026-08", "2026-08-1", 2)
    assert (september.scope, september.generation) == ("2026-09", "t2-b")
    assert names(september) == ["data/BILLING_PERIOD=2026-09/t2-b/focus-00001.csv"]
    assert not august.problems
    assert not september.problems


@pytest.mark.parametrize("partition", ["BILLING_PERIOD", "billing_period"])
@pytest.mark.parametrize("export", ["", "focus/", "deep/er/focus/"])
def test_aws_partitions_are_found_in_either_case_and_below_a_prefix(
    exports: Place, partition: str, export: str
) -> None:
    put_aws(exports, partition=partition, export=export)
    delivery = one(look(exports, "aws-data-exports"))
    assert (delivery.scope, delivery.problems) == ("2026-09", ())
    assert names(delivery) == [f"{export}data/{partition}=2026-09/focus-00001.csv"]


def test_aws_surplus_chunks_of_the_refresh_before_are_not_read(exports: Place) -> None:
    put_aws(exports, chunks=6)
    for n in (5, 6):
        exports.put(f"data/BILLING_PERIOD=2026-09/focus-{n:05}.csv", b"")
    put_aws(exports, chunks=4, executionId="second")
    delivery = one(look(exports, "aws-data-exports"))
    assert (delivery.generation, len(delivery.files), delivery.problems) == ("second", 4, ())


def test_aws_a_chunk_that_is_named_and_emptied_is_a_problem(exports: Place) -> None:
    put_aws(exports, chunks=2)
    exports.put("data/BILLING_PERIOD=2026-09/focus-00002.csv", b"")
    assert "focus-00002.csv is empty (0 bytes)" in one(look(exports, "aws-data-exports")).problems[0]


@pytest.mark.parametrize("chunks", [2, 8])
def test_aws_a_manifest_that_names_a_missing_file_waits(exports: Place, chunks: int) -> None:
    put_aws(exports, chunks=chunks)
    exports.delete("data/BILLING_PERIOD=2026-09/focus-00002.csv")
    delivery = one(look(exports, "aws-data-exports"))
    assert "focus-00002.csv is named in the manifest but is not there" in one_text(delivery)


def one_text(delivery: Delivery) -> str:
    [problem] = delivery.problems
    return problem


def test_aws_data_without_a_manifest_is_a_problem(exports: Place) -> None:
    put_aws(exports, "2026-08")
    exports.put("data/BILLING_PERIOD=2026-09/focus-00001.csv", ROW)
    august, september = look(exports, "aws-data-exports")
    assert august.problems == ()
    assert september.scope == "2026-09"
    assert "has no manifest in metadata/BILLING_PERIOD=2026-09" in one_text(september)


def test_aws_a_uri_that_ends_at_data_is_a_problem(exports: Place) -> None:
    exports.put("BILLING_PERIOD=2026-09/focus-00001.csv", ROW)
    assert "end the uri at the export's folder" in one_text(one(look(exports, "aws-data-exports")))


def test_aws_the_legacy_report_is_named(exports: Place) -> None:
    exports.put("cur/20260901-20261001/cur-Manifest.json", b"{}")
    delivery = one(look(exports, "aws-data-exports"))
    assert delivery.scope == "2026-09"
    assert "legacy Cost and Usage Report; create a Data Export of the table FOCUS_1_2_AWS" in one_text(delivery)


def test_aws_another_dataset_is_named_with_the_one_to_choose(exports: Place) -> None:
    put_aws(exports, columns=[{"name": "recommendation_id"}, {"name": "account_id"}])
    assert "FOCUS_1_2_AWS" in one_text(one(look(exports, "aws-data-exports")))


def test_aws_two_exports_below_one_uri_are_both_named_though_their_months_differ(exports: Place) -> None:
    put_aws(exports, "2026-08", export="old/")
    put_aws(exports, "2026-09", export="new/")
    for delivery in look(exports, "aws-data-exports"):
        text = one_text(delivery)
        assert text.startswith("2 exports lie below the uri")
        assert "old/" in text
        assert "new/" in text
        assert "a source of its own" in text


def test_aws_a_file_written_after_its_manifest_waits_for_the_next_one_but_not_for_ever(exports: Place) -> None:
    put_aws(exports)
    [file] = look(exports, "aws-data-exports")[0].files
    written = file.modified
    assert written
    manifest = Path(exports.uri, "metadata/BILLING_PERIOD=2026-09/focus-Manifest.json")
    set_modified(manifest, written - timedelta(minutes=10))
    waits = one(look(exports, "aws-data-exports", now=written + timedelta(hours=1)))
    assert "was written after its manifest" in one_text(waits)
    assert one(look(exports, "aws-data-exports", now=written + timedelta(hours=7))).problems == ()


def set_modified(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def test_aws_a_manifest_must_not_lead_out_of_the_folder(exports: Place) -> None:
    put_aws(exports, dataFiles=["s3://b/data/BILLING_PERIOD=2026-09/../../../secret.csv"])
    assert "outside the source's folder" in one_text(one(look(exports, "aws-data-exports")))


# ---- Azure ----------------------------------------------------------------------------------------


def put_azure(
    place: Place,
    run: str,
    submitted: str,
    period: str = "2026-09",
    account: str = "providers/Microsoft.Billing/billingAccounts/1",
    name: str = "manifest.json",
    parts: int = 1,
    **changes: Any,
) -> None:
    folder = f"focus/{period.replace('-', '')}01/{run}"
    blobs = [f"{folder}/part_{n}.csv" for n in range(parts)]
    for blob in blobs:
        place.put(blob, ROW)
    body = {
        "exportConfig": {
            "type": "FocusCost",
            "dataVersion": "1.0",
            "resourceId": f"/{account}/providers/Microsoft.CostManagement/exports/daily",
        },
        "runInfo": {"runId": run, "submittedTime": submitted, "startDate": f"{period}-01T00:00:00"},
        "blobs": [{"blobName": blob, "byteCount": len(ROW)} for blob in blobs],
    } | changes
    place.put(f"{folder}/{name}", json.dumps(body).encode())


def test_azure_of_several_runs_the_last_one_counts(exports: Place) -> None:
    for number, hour in enumerate((3, 9, 6)):
        put_azure(
            exports,
            f"run{number}",
            f"2026-09-03T{hour:02}:00:00Z",
            name="_manifest.json" if number == 1 else "manifest.json",
        )
    delivery = one(look(exports, "azure-exports"))
    assert (delivery.scope, delivery.generation, delivery.problems) == ("2026-09", "run1", ())
    assert names(delivery) == ["focus/20260901/run1/part_0.csv"]
    assert {key for key, _ in delivery.superseded} == {
        "focus/20260901/run0/manifest.json",
        "focus/20260901/run2/manifest.json",
    }


def test_azure_a_one_time_export_of_the_same_account_is_the_same_cost(exports: Place) -> None:
    put_azure(exports, "daily", "2026-09-03T00:00:00Z")
    put_azure(
        exports,
        "once",
        "2026-09-04T00:00:00Z",
        exportConfig={
            "type": "FocusCost",
            "resourceId": "/Providers/microsoft.billing/billingaccounts/1/providers/Microsoft.CostManagement/exports/once",
        },
    )
    assert one(look(exports, "azure-exports")).generation == "once"


def azure_run(run: str, submitted: str, first: str, last: str) -> dict[str, Any]:
    return {"runInfo": {"runId": run, "submittedTime": submitted, "startDate": first, "endDate": last}}


@pytest.mark.parametrize(
    ("first", "last", "scope"),
    [
        ("2026-09-01T00:00:00", "2026-09-30T00:00:00", "2026-09"),
        ("2026-09-01", "2026-09-15", "2026-09"),
        ("2026-08-31T22:00:00Z", "2026-09-30T22:00:00Z", "2026-09"),
        ("2026-08-31T22:00Z", "2026-09-30T21:59:59Z", "2026-09"),
        ("2026-09-01T08:00:00Z", "2026-09-30T08:00:00Z", "2026-09"),
        ("2026-09-01T00:00:00Z", "2026-09-30T23:59:59Z", "2026-09"),
        ("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z", "2026-09"),
        ("2026-09-15T00:00:00", "2026-10-14T00:00:00", "2026-09-15..2026-10-14"),
        ("2026-09-02T00:00:00", "2026-09-02T00:00:00", "2026-09-02..2026-09-02"),
        ("2026-07-01T00:00:00", "2026-09-30T00:00:00", "2026-07-01..2026-09-30"),
    ],
)
def test_azure_days_of_a_run(exports: Place, first: str, last: str, scope: str) -> None:
    put_azure(exports, "a", "2026-10-15T00:00:00Z", **azure_run("a", "2026-10-15T00:00:00Z", first, last))
    delivery = one(look(exports, "azure-exports"))
    assert (delivery.scope, delivery.problems) == (scope, ())


def test_azure_an_export_of_selected_days_does_not_replace_the_month(exports: Place) -> None:
    for run, day, last in (("daily", "15", "30"), ("once", "16", "05")):
        submitted = f"2026-09-{day}T00:00:00Z"
        put_azure(exports, run, submitted, **azure_run(run, submitted, "2026-09-01", f"2026-09-{last}"))
    assert one(look(exports, "azure-exports")).generation == "daily"


def test_azure_days_that_another_run_holds_wait_with_both_names(exports: Place) -> None:
    for run, first, last in (
        ("month", "2026-10-01", "2026-10-31"),
        ("over", "2026-09-15", "2026-10-14"),
        ("rolling1", "2026-08-11", "2026-08-17"),
        ("rolling2", "2026-08-12", "2026-08-18"),
    ):
        submitted = f"2026-10-1{5 + len(run) % 2}T00:00:00Z" if run != "rolling2" else "2026-10-17T00:00:00Z"
        put_azure(exports, run, submitted, **azure_run(run, submitted, first, last))
    found = {d.scope: d.problems for d in look(exports, "azure-exports")}
    assert {scope for scope, problems in found.items() if not problems} == {"2026-10", "2026-08-11..2026-08-17"}
    [over] = found["2026-09-15..2026-10-14"]
    for said in (
        "over/manifest.json",
        "month/manifest.json",
        "finops deliveries withdraw SOURCE 2026-09-15..2026-10-14",
    ):
        assert said in over
    [second] = found["2026-08-12..2026-08-18"]
    assert "rolling1/manifest.json" in second


def test_azure_a_blob_name_that_is_url_encoded(exports: Place) -> None:
    put_azure(exports, "run 1", "2026-09-03T00:00:00Z")
    folder = "focus/20260901/run%201"
    blobs = [{"blobName": f"{folder}/part_0.csv", "byteCount": len(ROW)}]
    put_azure(exports, "run 1", "2026-09-03T00:00:00Z", blobs=blobs)
    delivery = one(look(exports, "azure-exports"))
    assert ([f.key for f in delivery.files], delivery.problems) == (["focus/20260901/run 1/part_0.csv"], ())


def test_azure_two_billing_scopes_are_two_sources(exports: Place) -> None:
    put_azure(exports, "a", "2026-09-03T00:00:00Z", account="subscriptions/one")
    put_azure(exports, "b", "2026-08-03T00:00:00Z", period="2026-08", account="subscriptions/two")
    for delivery in look(exports, "azure-exports"):
        text = one_text(delivery)
        assert "/subscriptions/one" in text
        assert "/subscriptions/two" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataRowCount": 0}, "the delivery is empty"),
        ({"exportConfig": {"type": "AmortizedCost"}}, "create an export of type FocusCost"),
        (
            {"blobs": [{"blobName": "focus/20260901/a/part_0.csv", "byteCount": 1}]},
            "the manifest says 1",
        ),
        (
            {"blobs": [{"blobName": "focus/20260901/a/part_7.csv", "byteCount": 1}]},
            "part_7.csv is named in the manifest but is not there",
        ),
    ],
)
def test_azure_what_is_not_as_the_manifest_says_waits(exports: Place, changes: dict[str, Any], said: str) -> None:
    put_azure(exports, "a", "2026-09-03T00:00:00Z", **changes)
    assert said in one_text(one(look(exports, "azure-exports")))


# ---- Google ---------------------------------------------------------------------------------------


def put_gcs(
    place: Place, run: str, exported: str = "", shards: int = 2, period: str = "2026-09", **changes: Any
) -> None:
    """A run folder; without a time of export, without a manifest."""
    folder = f"billing_period={period}/run={run}"
    for n in range(shards):
        place.put(f"{folder}/shard-{n:012}.csv", ROW)
    if exported:
        files = [{"name": f"shard-{n:012}.csv", "size": len(ROW), "rows": 1} for n in range(shards)]
        body = {"run": run, "exported_at": exported, "row_count": shards, "files": files} | changes
        place.put(f"{folder}/manifest.json", json.dumps(body).encode())


def test_gcs_orphan_shards_of_an_earlier_export_are_not_read(exports: Place) -> None:
    put_gcs(exports, "1", "2026-09-03T00:00:00Z", shards=5)
    put_gcs(exports, "1", "2026-09-03T01:00:00Z", shards=3)
    delivery = one(look(exports, "gcs-export"))
    assert (len(delivery.files), delivery.expected_rows, delivery.verified) == (3, 3, True)


def test_gcs_a_run_without_a_manifest_never_counts_beside_runs_with_one(exports: Place) -> None:
    put_gcs(exports, "1", "2026-09-03T00:00:00Z")
    put_gcs(exports, "2")
    put_gcs(exports, "3", period="2026-10")
    assert one(look(exports, "gcs-export", now=LATER, quiet_minutes=10)).generation == "1"


def test_gcs_a_run_without_a_manifest_counts_when_it_rested_and_is_not_verified(exports: Place) -> None:
    put_gcs(exports, "1")
    assert "manifest.json" in one_text(one(look(exports, "gcs-export")))
    assert "less than quiet_minutes: 10 ago" in one_text(one(look(exports, "gcs-export", quiet_minutes=10)))
    rested = one(look(exports, "gcs-export", now=LATER, quiet_minutes=10))
    assert (rested.generation, rested.problems, rested.verified) == ("1", (), False)


def test_gcs_while_a_run_is_written_the_one_before_it_counts(exports: Place) -> None:
    put_gcs(exports, "1")
    put_gcs(exports, "2")
    for file in Path(exports.uri, "billing_period=2026-09/run=1").iterdir():
        set_modified(file, datetime.now(UTC) - timedelta(hours=2))
    assert one(look(exports, "gcs-export", quiet_minutes=30)).generation == "1"


def test_gcs_a_run_closed_by_a_query_is_its_folder_and_its_number_of_rows(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="gcs-export")
    folder = "billing_period=2026-09/run=1"
    site.put_csv(f"{folder}/shard-000000000000.csv", focus_row("2026-09-01"))
    site.put_csv(f"{folder}/shard-000000000001.csv", focus_row("2026-09-01"))
    site.put(f"{folder}/manifest-000000000001.json", "")
    # BigQuery writes whole numbers as text.
    site.put(f"{folder}/manifest-000000000000.json", '{"exported_at": "2026-09-02T03:00:00Z", "row_count": "3"}')
    [short] = site.run("2026-09-01")
    assert "has 2 rows, the manifest says 3" in (short.reason or "")
    site.put_csv(f"{folder}/shard-000000000002.csv", focus_row("2026-09-01"))
    [whole] = site.run("2026-09-01")
    assert (whole.state, whole.rows) == ("live", 3)


def test_gcs_no_rows_are_no_success(exports: Place) -> None:
    put_gcs(exports, "1", "2026-09-03T00:00:00Z", row_count=0)
    assert "the delivery is empty" in one_text(one(look(exports, "gcs-export")))


# ---- OCI ------------------------------------------------------------------------------------------


def test_oci_every_report_is_a_scope_and_the_native_reports_are_left_alone(exports: Place) -> None:
    for key in ("FOCUS Reports/2026/09/02/0001-00001.csv.gz", "FOCUS Reports/2026/09/02/0002-00001.csv.gz"):
        exports.put(key, ROW)
    exports.put("reports/cost-csv/0001.csv.gz", ROW)
    first, second = look(exports, "oci-focus")
    assert first.scope == "FOCUS Reports/2026/09/02/0001-00001.csv.gz"
    assert (first.problems, first.verified, len(second.files)) == ((), False, 1)
    before = first.generation
    exports.put("FOCUS Reports/2026/09/03/0003-00001.csv.gz", ROW)
    assert [d.generation for d in look(exports, "oci-focus")][:2] == [before, second.generation]


def test_oci_a_report_that_came_just_now_waits_for_the_quiet_time(exports: Place) -> None:
    exports.put("FOCUS Reports/2026/09/02/0001-00001.csv.gz", ROW)
    assert "quiet_minutes: 60" in one_text(one(look(exports, "oci-focus", quiet_minutes=60)))
    assert one(look(exports, "oci-focus", now=LATER, quiet_minutes=60)).problems == ()


def test_oci_reports_of_its_own_format_alone_are_a_mistake_to_tell(exports: Place) -> None:
    exports.put("reports/cost-csv/0001.csv.gz", ROW)
    assert "no folder 'FOCUS Reports/'" in one_text(one(look(exports, "oci-focus")))


def test_oci_reports_are_landed_and_later_ones_add(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="oci-focus")
    site.put_csv("FOCUS Reports/2026/09/02/1.csv", focus_row("2026-09-01"))
    site.run("2026-09-01")
    site.put_csv("FOCUS Reports/2026/09/03/2.csv", focus_row("2026-09-01", ResourceId="vm-2"), focus_row("2026-09-02"))
    site.run("2026-09-01", "2026-09-02")
    assert len(site.rows("2026-09-01", "*")) == 2
    assert len(site.rows("2026-09-02", "*")) == 1


# ---- manifests that lead away -----------------------------------------------------------------------


def naming(place: Place, layout: str, name: str) -> None:
    """An export whose manifest names one file so."""
    match layout:
        case "aws-data-exports":
            put_aws(place, dataFiles=[f"s3://b/data/BILLING_PERIOD=2026-09/{name}"])
        case "aws-cur":
            body = {"assemblyId": "1", "reportKeys": [name], "columns": [{"name": "UsageStartDate"}]}
            place.put("cur/20260901-20261001/cur-Manifest.json", json.dumps(body).encode())
        case "azure-exports":
            put_azure(place, "a", "2026-09-03T00:00:00Z", blobs=[{"blobName": name}])
        case "gcs-export":
            body = {"run": "1", "exported_at": "2026-09-03T00:00:00Z", "files": [{"name": name, "size": len(ROW)}]}
            place.put("billing_period=2026-09/run=1/manifest.json", json.dumps(body).encode())


@pytest.mark.parametrize("layout", ["aws-data-exports", "aws-cur", "azure-exports", "gcs-export"])
@pytest.mark.parametrize(
    "name", ["../secret.csv", "../../secret.csv", "../../../secret.csv", "{absolute}", "..\\x.csv"]
)
def test_a_manifest_never_names_a_file_outside_the_source_s_place(
    exports: Place, tmp_path: Path, layout: str, name: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(ROW)
    naming(exports, layout, name.format(absolute=secret))
    delivery = one(look(exports, layout))
    assert delivery.problems
    assert all(tmp_path / "exports" in Path(exports.uri, f.key).resolve().parents for f in delivery.files)


def test_a_manifest_does_not_choose_a_link_out_of_the_place_but_a_linked_folder_is_a_part_of_it(
    exports: Place, tmp_path: Path
) -> None:
    put_aws(exports)
    at = Path(exports.uri, "data/BILLING_PERIOD=2026-09/focus-00001.csv")
    kept = tmp_path / "elsewhere" / at.name
    kept.parent.mkdir()
    at.rename(kept)
    at.symlink_to(kept)
    assert f"file data/BILLING_PERIOD=2026-09/{at.name} is named in the manifest but lies outside" in one_text(
        one(look(exports, "aws-data-exports"))
    )
    at.unlink()
    at.parent.rmdir()
    at.parent.symlink_to(kept.parent)
    assert one(look(exports, "aws-data-exports")).problems == ()


# ---- files ----------------------------------------------------------------------------------------

MONTHS = r"(?P<year>\d{4})-?(?P<month>\d{2})"


def test_files_of_one_period_are_one_scope(exports: Place) -> None:
    for key in ("2026-08/a.csv", "2026-09/a.csv", "2026-09/b.csv", "202609-c.csv"):
        exports.put(key, ROW)
    august, september = look(exports, "files", period_pattern=MONTHS)
    assert (august.scope, names(august)) == ("2026-08", ["2026-08/a.csv"])
    assert (september.scope, names(september)) == ("2026-09", ["2026-09/a.csv", "2026-09/b.csv", "202609-c.csv"])


def test_files_of_one_day_are_one_scope(exports: Place) -> None:
    exports.put("bill_20260903.csv", ROW)
    pattern = r"_(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})"
    assert one(look(exports, "files", period_pattern=pattern)).scope == "2026-09-03"
    short = r"_20(?P<year>\d{2})(?P<month>\d{2})"
    assert one(look(exports, "files", period_pattern=short)).scope == "2026-09"


@pytest.mark.parametrize("layout", ["azure-exports", "gcs-export"])
def test_a_manifest_nested_too_deeply_is_a_problem_with_a_sentence(exports: Place, layout: str) -> None:
    name = {
        "azure-exports": "20260901-20260930/run/manifest.json",
        "gcs-export": "billing_period=2026-09/run=1/manifest.json",
    }
    exports.put(name[layout], b"[" * 100_000)
    assert "nested too deeply" in one(look(exports, layout)).problems[0]


OTHER_VALUES: list[Any] = [
    None, True, -1, 7, 1e400, "", "x", "9" * 400, "9999-12-31T23:59:59-23:00", "\ud800", [], [7], [[]], {}, {"a": 7},
]  # fmt: skip


def changed_values(written: Any) -> Iterator[Any]:
    """What was written, with each of its values in turn left out, or another."""
    if isinstance(written, dict):
        for key, value in written.items():
            yield {k: v for k, v in written.items() if k != key}
            for other in (*OTHER_VALUES, *changed_values(value)):
                yield written | {key: other}
    elif isinstance(written, list):
        for place, value in enumerate(written):
            for other in (*OTHER_VALUES, *changed_values(value)):
                yield [*written[:place], other, *written[place + 1 :]]


@pytest.mark.parametrize("source", sorted(LAYOUTS))
def test_a_manifest_of_other_values_is_whole_or_has_a_sentence(tmp_path: Path, source: str) -> None:
    small_estate(tmp_path, date(2026, 9, 1), date(2026, 9, 2))
    place = local_place(tmp_path / "estate" / source)
    manifests = sorted((tmp_path / "estate" / source).rglob("*.json"))
    tried = 0
    for file in manifests:
        written = json.loads(file.read_text(encoding="utf-8"))
        for body in changed_values(written):
            file.write_text(json.dumps(body), encoding="utf-8")
            for delivery in look(place, LAYOUTS[source]):
                tried += 1
                assert all(len(problem) > 20 and "\n" not in problem for problem in delivery.problems)
        file.write_text(json.dumps(written), encoding="utf-8")
    assert tried > 100


def test_a_period_pattern_ends_whatever_a_file_is_called(exports: Place) -> None:
    exports.put(f"{'1' * 200}x.csv", ROW)
    found = one(look(exports, "files", period_pattern=r"(?P<year>(\d+)+)(?P<month>(\d+)+)$"))
    assert "names no period" in found.problems[0]


def test_a_period_is_replaced_as_a_whole(make_site: Callable[..., Site]) -> None:
    site = make_site()
    source = site.source.model_copy(update={"period_pattern": MONTHS})
    settings = site.platform.settings.model_copy(update={"sources": (source,)})
    site.__dict__["platform"] = replace(site.platform, settings=settings)
    first = site.put_csv("2026-09/a.csv", focus_row("2026-09-01"), focus_row("2026-09-01"))
    site.run("2026-09-01")
    first.unlink()
    site.put_csv(
        "2026-09/b.csv", focus_row("2026-09-01", BilledCost="9"), focus_row("2026-09-01"), focus_row("2026-09-01")
    )
    site.run("2026-09-01")
    assert len(site.rows("2026-09-01", "*")) == 3


def test_a_file_without_a_period_is_a_problem(exports: Place) -> None:
    exports.put("2026-09/a.csv", ROW)
    exports.put("notes.csv", ROW)
    exports.put("2026-13/b.csv", ROW)
    found = {d.scope: d for d in look(exports, "files", period_pattern=MONTHS)}
    assert found.pop("2026-09").problems == ()
    assert [(scope, f"file {scope} names no period" in one_text(d)) for scope, d in sorted(found.items())] == [
        ("2026-13/b.csv", True),
        ("notes.csv", True),
    ]


def test_a_file_that_is_not_still_waits_and_later_files_are_taken_then(exports: Place) -> None:
    exports.put("a.csv", ROW)
    assert "file a.csv was written at" in one_text(one(look(exports, "files", quiet_minutes=5)))
    assert one(look(exports, "files", now=LATER, quiet_minutes=5)).problems == ()
    exports.put("b.csv", ROW)
    assert [d.scope for d in look(exports, "files", now=LATER, quiet_minutes=5)] == ["a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("period_pattern: '('", "is not a regular expression"),
        (r"period_pattern: '(?P<year>\d+)(?P<month>\d+)(?=x)'", "look-around, back references"),
        ("period_pattern: '[0-9]+'", "needs the groups year and month"),
        ("quiet_minutes: -1", "quiet_minutes"),
    ],
)
def test_settings_of_a_layout_are_checked(tmp_path: Path, settings: str, said: str) -> None:
    text = (
        "first_day: 2026-01-01\nlake: l\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources: [{{name: bill, uri: x, layout: files, {settings}}}]\ndimensions: {{team: {{keys: [team]}}}}\n"
    )
    with pytest.raises(ConfigError, match=said):
        parse_settings(text, tmp_path / "finops.yaml")


def test_when_a_file_was_written_is_no_part_of_what_it_is() -> None:
    assert StoredFile("a", 1, "x", LATER) == StoredFile("a", 1, "x")


# ---- what a look costs ----------------------------------------------------------------------------


def cost(place: Place, layout: str, known: Any = None) -> tuple[int, list[Delivery]]:
    """The requests of a look."""
    source = Source.model_validate(
        {"name": "bill", "uri": place.uri, "layout": layout, "endpoint_url": place.endpoint_url}
    )
    store, deliveries = newest_deliveries(source, known)
    return store.requests, deliveries


@pytest.fixture
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(request, "s3", tmp_path, monkeypatch)


def test_a_look_at_an_unchanged_aws_export_is_three_listings(bucket: Place) -> None:
    for month in range(1, 10):
        put_aws(bucket, f"2026-{month:02}", run="r", chunks=6)
    first, deliveries = cost(bucket, "aws-data-exports")
    # Three listings; then of each of nine months the manifest and one listing of its data folder.
    assert first == 3 + 9 * 2
    known = json.loads(json.dumps(known_manifests(deliveries)))
    again, unchanged = cost(bucket, "aws-data-exports", known)
    assert again == 3
    assert [(d.scope, d.generation, d.unchanged) for d in unchanged] == [
        (d.scope, d.generation, True) for d in deliveries
    ]

    put_aws(bucket, "2026-09", run="s", chunks=2)
    changed, after = cost(bucket, "aws-data-exports", known)
    # The manifest, and its two files one by one.
    assert changed == 3 + 1 + 2
    assert [d.scope for d in after if not d.unchanged] == ["2026-09"]
    assert after[-1].generation == "s"


def test_a_look_at_unchanged_azure_runs_is_one_listing(bucket: Place) -> None:
    for day in range(1, 9):
        put_azure(bucket, f"r{day}", f"2026-09-{day:02}T00:00:00Z", parts=3)
        put_azure(bucket, f"s{day}", f"2026-08-{day:02}T00:00:00Z", period="2026-08", parts=3)
    first, deliveries = cost(bucket, "azure-exports")
    assert first == 1 + 16
    known = json.loads(json.dumps(known_manifests(deliveries)))
    again, unchanged = cost(bucket, "azure-exports", known)
    assert again == 1
    assert sorted((d.scope, d.generation, d.unchanged) for d in unchanged) == [
        ("2026-08", "s8", True),
        ("2026-09", "r8", True),
    ]
    known_manifests(unchanged)
    assert known_manifests(unchanged).keys() == known.keys()

    put_azure(bucket, "r9", "2026-09-09T00:00:00Z", parts=3)
    changed, after = cost(bucket, "azure-exports", known)
    # The new manifest and the two that counted until now.
    assert changed == 1 + 3
    assert {d.scope: d.generation for d in after} == {"2026-08": "s8", "2026-09": "r9"}
    assert cost(bucket, "azure-exports", known_manifests(after))[0] == 1

    bucket.delete("focus/20260901/r9/manifest.json")
    _, withdrawn = cost(bucket, "azure-exports", known_manifests(after))
    assert {d.scope: d.generation for d in withdrawn} == {"2026-08": "s8", "2026-09": "r8"}


def test_a_look_at_unchanged_google_runs_is_one_listing(bucket: Place) -> None:
    for day in range(1, 5):
        put_gcs(bucket, f"r{day}", f"2026-09-{day:02}T00:00:00Z", shards=5)
        put_gcs(bucket, f"s{day}", f"2026-08-{day:02}T00:00:00Z", shards=5, period="2026-08")
    first, deliveries = cost(bucket, "gcs-export")
    assert first == 1 + 8
    known = json.loads(json.dumps(known_manifests(deliveries)))
    again, unchanged = cost(bucket, "gcs-export", known)
    assert again == 1
    assert {d.scope: (d.generation, d.unchanged) for d in unchanged} == {
        "2026-08": ("s4", True),
        "2026-09": ("r4", True),
    }

    put_gcs(bucket, "r5", "2026-09-05T00:00:00Z")
    changed, after = cost(bucket, "gcs-export", known)
    # Only the period with a new run is compared: the new manifest and the one that counted.
    assert changed == 1 + 2
    assert {d.scope: (d.generation, d.unchanged) for d in after} == {"2026-08": ("s4", True), "2026-09": ("r5", False)}
    assert cost(bucket, "gcs-export", known_manifests(after))[0] == 1


def test_what_waits_is_looked_at_again_though_its_manifest_rests(bucket: Place) -> None:
    put_aws(bucket, chunks=2)
    bucket.delete("data/BILLING_PERIOD=2026-09/focus-00002.csv")
    _, waiting = cost(bucket, "aws-data-exports")
    known = known_manifests(waiting)
    assert known == {}
    bucket.put("data/BILLING_PERIOD=2026-09/focus-00002.csv", ROW)
    _, complete = cost(bucket, "aws-data-exports", known)
    assert one(complete).problems == ()


def test_the_estate_looks_the_same_from_disk_with_what_is_known(tmp_path: Path) -> None:
    with small_estate(tmp_path, date(2026, 9, 1), date(2026, 9, 3)) as estate:
        layouts: dict[str, Layout] = {"aws": "aws-data-exports", "azure": "azure-exports", "gcs": "gcs-export"}
        for name, layout in layouts.items():
            folder = estate.root / ("gcp" if name == "gcs" else name)
            source = Source(name=name, uri=str(folder), layout=layout)
            _, deliveries = newest_deliveries(source)
            _, again = newest_deliveries(source, known_manifests(deliveries))
            assert [(d.scope, d.generation) for d in again] == [(d.scope, d.generation) for d in deliveries]
            assert all(d.unchanged for d in again)


# ---- finops sources -------------------------------------------------------------------------------


def finops(*arguments: str) -> Any:
    # Wide, so that no line is broken in the middle of what is looked for.
    return CliRunner().invoke(app, ["sources", *arguments], env={"COLUMNS": "400"})


@pytest.mark.parametrize(
    ("name", "layout", "encoding"),
    [("aws", "aws-data-exports", "map"), ("azure", "azure-exports", "JSON text"), ("gcp", "gcs-export", "list of")],
)
def test_inspect_finds_the_layout_and_prints_what_to_paste(
    tmp_path: Path, name: str, layout: str, encoding: str
) -> None:
    with small_estate(tmp_path, date(2026, 9, 1), date(2026, 9, 3)) as estate:
        found = inspect(str(estate.root / name))
    assert (found.layout, len(found.deliveries), found.problem) == (layout, 1, None)
    assert found.sample
    assert found.sample.rows
    assert found.sample.missing == ()
    assert encoding in dict(found.sample.tag_encodings)["Tags"]
    assert "team" in {key.casefold() for key, _ in found.sample.tag_keys}
    shown = finops("inspect", str(estate.root / name))
    assert shown.exit_code == 0
    assert found.yaml.strip() in shown.output
    settings = (
        "first_day: 2026-09-01\nlake: l\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"dimensions: {{team: {{keys: [team]}}}}\n{found.yaml}"
    )
    [source] = parse_settings(settings, tmp_path / "finops.yaml").sources
    assert (source.layout, source.name) == (layout, name)


def test_inspect_of_a_bucket_is_inspect_of_a_folder(bucket: Place, tmp_path: Path) -> None:
    with small_estate(tmp_path, date(2026, 9, 1), date(2026, 9, 3)) as estate:
        bucket.put_folder(estate.root / "aws")
        near, far = inspect(str(estate.root / "aws")), inspect(bucket.uri, bucket.endpoint_url)
    assert (far.layout, far.sample, far.files, far.size) == (near.layout, near.sample, near.files, near.size)
    assert f"endpoint_url: {bucket.endpoint_url}" in far.yaml


def test_inspect_proposes_a_period_for_monthly_parts(exports: Place) -> None:
    for key in ("2026-08/a.csv", "2026-09/a.csv", "2026-09/b.csv"):
        exports.put(key, ROW)
    found = inspect(exports.uri)
    assert found.layout == "files"
    assert "period_pattern: (?P<year>" in found.yaml
    assert "quiet_minutes: 15" in found.yaml


def test_inspect_of_a_folder_above_several_exports_names_each(exports: Place, tmp_path: Path) -> None:
    with small_estate(tmp_path, date(2026, 9, 1), date(2026, 9, 3)) as estate:
        exports.put_folder(estate.root)
    with small_estate(tmp_path / "second", date(2026, 9, 1), date(2026, 9, 3)) as second:
        for path in (p for p in (second.root / "aws").rglob("*") if p.is_file()):
            exports.put(f"payer2/{path.relative_to(second.root / 'aws').as_posix()}", path.read_bytes())
    exports.put("saas/2026-09/a.csv", ROW)
    exports.put("readme.txt", b"not one")
    shown = finops("inspect", exports.uri, *(("--endpoint-url", exports.endpoint_url) if exports.endpoint_url else ()))
    assert shown.exit_code == 0, shown.output
    assert "5 below" in shown.output
    yaml = shown.output.partition("To paste into finops.yaml:")[2]
    settings = (
        "first_day: 2026-09-01\nlake: l\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"dimensions: {{team: {{keys: [team]}}}}\n{yaml}"
    )
    sources = parse_settings(settings, tmp_path / "finops.yaml").sources
    assert {(s.name, s.uri.removeprefix(f"{exports.uri}/"), s.layout) for s in sources} == {
        ("focus", "aws/focus", "aws-data-exports"),
        ("payer2_focus", "payer2/focus", "aws-data-exports"),
        ("focus_daily", "azure/focus-daily", "azure-exports"),
        ("gcp", "gcp", "gcs-export"),
        ("saas", "saas", "files"),
    }
    for source in sources:
        assert f"{source.uri}\n" in shown.output


def test_inspect_takes_two_azure_exports_of_one_billing_scope_for_one_source(exports: Place, tmp_path: Path) -> None:
    put_azure(exports, "1", "2026-09-03T00:00:00Z")
    for file in (tmp_path / "exports" / "focus").rglob("*"):
        if file.is_file():
            exports.put(f"once/{file.relative_to(tmp_path / 'exports' / 'focus').as_posix()}", file.read_bytes())
    assert [i.uri for i in inspect_all(exports.uri)] == [exports.uri]


def test_check_of_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    checked = check(Source(name="bill", uri=str(tmp_path / "none"), layout="files"), landed=None)
    [finding] = checked.findings
    assert finding.state == "problem"
    assert "it does not exist" in finding.what


def put_export(place: Place, layout: str, export: str) -> None:
    """A small export of a layout, in the folder `export` of the place ("" or ending in a slash)."""
    match layout:
        case "aws-data-exports":
            put_aws(place, export=export)
        case "aws-cur":
            for key in ("20260901-20261001/r-Manifest.json", "20260901-20261001/one/r-Manifest.json"):
                report = {"assemblyId": "one", "reportKeys": [f"{export}20260901-20261001/one/r-1.csv"]}
                place.put(f"{export}{key}", json.dumps(report).encode())
            place.put(f"{export}20260901-20261001/one/r-1.csv", b"lineItem/UsageStartDate\n2026-09-01T00:00:00Z\n")
        case "azure-exports":
            folder = f"{export}20260901-20260930/1"
            scope = "/providers/Microsoft.Billing/billingAccounts/1/providers/Microsoft.CostManagement/exports/daily"
            body = {
                "exportConfig": {"type": "FocusCost", "dataVersion": "1.0", "resourceId": scope},
                "runInfo": {"runId": "1", "startDate": "2026-09-01T00:00:00", "submittedTime": "2026-09-03T00:00:00Z"},
                "blobs": [{"blobName": f"{folder}/part_0.csv", "byteCount": len(ROW)}],
            }
            place.put(f"{folder}/part_0.csv", ROW)
            place.put(f"{folder}/manifest.json", json.dumps(body).encode())
        case "gcs-export":
            folder = f"{export}billing_period=2026-09/run=1"
            place.put(f"{folder}/a.csv", ROW)
            manifest = {"run": "1", "exported_at": "2026-09-03T00:00:00Z", "row_count": 1}
            manifest |= {"files": [{"name": "a.csv", "size": len(ROW), "rows": 1}]}
            place.put(f"{folder}/manifest.json", json.dumps(manifest).encode())
        case "oci-focus":
            place.put(f"{export}FOCUS Reports/2026/09/03/1.csv", ROW)
        case "oci-cost-report":
            place.put(f"{export}reports/cost-csv/1.csv", b"lineItem/intervalUsageStart\n2026-09-01T00:00:00Z\n")


INSIDE = {
    "aws-data-exports": ("data", "metadata", "data/BILLING_PERIOD=2026-09", "metadata/BILLING_PERIOD=2026-09"),
    "aws-cur": ("20260901-20261001", "20260901-20261001/one"),
    "azure-exports": ("20260901-20260930", "20260901-20260930/1"),
    "gcs-export": ("billing_period=2026-09", "billing_period=2026-09/run=1"),
    "oci-focus": ("FOCUS Reports", "FOCUS Reports/2026", "FOCUS Reports/2026/09/03"),
    "oci-cost-report": ("reports/cost-csv",),
}


@pytest.mark.long
@pytest.mark.parametrize("layout", INSIDE)
@pytest.mark.parametrize("folder", ["export", "with [1] brackets", "data"])
def test_inspect_finds_an_export_from_its_own_folder_from_above_and_from_inside(
    exports: Place, layout: str, folder: str
) -> None:
    put_export(exports, layout, f"{folder}/")
    uri = f"{exports.uri}/{folder}"
    [own] = inspect_all(uri)
    whole = [d for d in own.deliveries if d.files]
    assert (own.uri, own.layout, own.inside, len(whole)) == (uri, layout, None, 1)
    for below in INSIDE[layout]:
        [found] = inspect_all(f"{uri}/{below}/")
        assert (found.uri, found.layout, found.inside) == (uri, layout, f"{uri}/{below}/")
        assert found.yaml == own.yaml
    shown = finops("inspect", f"{uri}/{INSIDE[layout][0]}")
    assert "lies inside of the export below" in shown.output
    for levels_above in (exports.uri, exports.uri.rpartition("/")[0]):
        [found] = inspect_all(levels_above)
        assert (found.layout, [d.files and len(d.files) for d in found.deliveries]) == (layout, [len(whole[0].files)])
    if layout == "azure-exports":
        return  # two of one billing scope are one source
    put_export(exports, layout, "second/")
    assert [f.uri for f in inspect_all(exports.uri) if f.deliveries] == sorted([uri, f"{exports.uri}/second"])


def test_inspect_of_a_month_whose_export_was_not_copied_looks_at_the_month(exports: Place) -> None:
    put_aws(exports, export="focus/")
    for key in ("a.csv", "b.csv"):
        exports.put(f"20260901-20260930/{key}", ROW)
    [found] = inspect_all(f"{exports.uri}/20260901-20260930")
    assert (found.layout, found.files, found.inside) == ("files", 2, None)


def test_inspect_of_a_folder_called_data_does_not_list_what_is_around_it(exports: Place) -> None:
    exports.put("data/2026-09/a.csv", ROW)
    put_aws(exports)
    exports.put("billing_period=2026-09/run=1/a.csv", ROW)
    [found] = inspect_all(f"{exports.uri}/data/2026-09")
    assert (found.layout, found.files, found.inside) == ("files", 1, None)


def test_inspect_follows_a_link_to_an_export_and_tells_one_that_leads_nowhere(exports: Place, tmp_path: Path) -> None:
    put_export(exports, "aws-data-exports", "focus/")
    (tmp_path / "link").symlink_to(tmp_path / "exports" / "focus")
    [found] = inspect_all(str(tmp_path / "link"))
    assert (found.layout, len(found.deliveries)) == ("aws-data-exports", 1)
    [inner] = inspect_all(str(tmp_path / "link" / "data"))
    assert inner.uri == str(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    shown = finops("inspect", str(tmp_path / "dangling"))
    assert shown.exit_code == 1
    assert f"is a link to {tmp_path / 'gone'}, which does not exist" in shown.output


def test_inspect_of_a_place_that_is_not_there_says_what_is(exports: Place, tmp_path: Path) -> None:
    exports.put("focus/a.csv", ROW)
    for wrong, said in {
        "focsu": f"{tmp_path / 'exports'} has no 'focsu'; did you mean 'focus'?",
        "other/deeper": f"{tmp_path / 'exports'} has no 'other' (it holds focus)",
        "focus/a.csv/b": "it does not exist",
        "focus/*.parquet": "no file matches '*.parquet'",
    }.items():
        shown = finops("inspect", f"{exports.uri}/{wrong}")
        assert shown.exit_code == 1, wrong
        assert said in " ".join(shown.output.split()), wrong


def test_inspect_of_an_empty_bucket_folder_does_not_call_it_nothing(bucket: Place) -> None:
    bucket.put("other/a.csv", ROW)
    shown = finops("inspect", f"{bucket.uri}/none", "--endpoint-url", str(bucket.endpoint_url))
    assert shown.exit_code == 1
    assert "no file lies there" in shown.output


def test_inspect_of_nothing_says_so(exports: Place) -> None:
    exports.put("readme.txt", b"hello")
    shown = finops("inspect", exports.uri)
    assert shown.exit_code == 1
    assert "no export was found among 1 files (readme.txt)" in shown.output


def test_check_says_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    with small_estate(tmp_path, date(2026, 9, 1), date(2026, 9, 3)):
        pass
    (tmp_path / "finops.yaml").write_text(
        "first_day: 2026-09-01\nlake: l\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "dimensions: {team: {keys: [team]}}\nsources:\n"
        "  - {name: good, uri: estate/aws, layout: aws-data-exports}\n"
        "  - {name: wrong, uri: estate/azure, layout: aws-data-exports}\n"
    )
    config = ("--config", str(tmp_path / "finops.yaml"))
    good = finops("check", "good", *config)
    assert good.exit_code == 0
    assert "1 deliveries, 1 whole" in good.output
    assert "newest billing period 2026-09" in good.output
    both = finops("check", *config)
    assert both.exit_code == 1
    assert "no delivery of layout aws-data-exports was found" in both.output
    assert "finops sources inspect" in both.output
    assert finops("check", "none", *config).exit_code == 1


@pytest.mark.parametrize("name", ["a.csv.gz", "a.parquet"])
def test_check_reads_a_file_to_its_end(exports: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    content = gzip.compress(ROW * 1_000) if name.endswith(".gz") else b"PAR1" + ROW + b"PAR1"
    source = Source(name="bill", uri=exports.uri, layout="files", quiet_minutes=1)

    def found() -> dict[str, str]:
        return {f.what: f.state for f in check(source, landed=None, now=LATER).findings if name in f.what}

    exports.put(name, content)
    assert found() == {f"{name} can be read to its end": "ok"}
    exports.put(name, content[:-9])
    [(what, state)] = found().items()
    assert (state, what.startswith(f"{name} is cut off or damaged: ")) == ("problem", True)
    monkeypatch.setattr(sources_inspect, "READ_WHOLE", 10)
    [(what, state)] = found().items()
    assert (state, "only the head was looked at" in what) == ("ok", True)


def test_check_tells_a_file_that_may_be_listed_but_not_read_and_a_stale_export(exports: Place) -> None:
    exports.put("a.parquet", b"not one")
    source = Source(name="bill", uri=exports.uri, layout="files", quiet_minutes=1)
    checked = check(source, landed=date(2026, 9, 1), now=LATER + timedelta(days=3))
    states = {f.what: f.state for f in checked.findings}
    assert not checked.usable
    assert any(s == "problem" and "begins with b'not '" in what for what, s in states.items())
    assert any(s == "warning" and "landed up to charge day 2026-09-01" in what for what, s in states.items())
