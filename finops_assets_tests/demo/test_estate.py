"""The synthetic estate: what is written is what the model says, in every dialect, to the last decimal."""

from __future__ import annotations

import gc
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from finops_assets.demo import SOURCES, Estate, EstateSpec, Incident

SPEC = EstateSpec(
    date(2026, 8, 10),
    date(2026, 9, 30),
    6_000,
    incidents=(
        Incident("aws", date(2026, 9, 17), "incomplete"),
        Incident("azure", date(2026, 9, 8), "untagged"),
        Incident("gcp", date(2026, 9, 12), "no_rows"),
    ),
)
SERVICE_CATEGORIES = {
    "AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases",
    "Developer Tools",
    "Multicloud", "Identity", "Integration", "Internet of Things", "Management and Governance", "Media",
    "Migration",
    "Mobile", "Networking", "Security", "Storage", "Web", "Other",
}  # fmt: skip


def connection() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return con


def data_files(root: Path, source: str) -> list[str]:
    """The data files that the manifests below ``root`` name, of the newest manifest per billing period."""
    found: list[str] = []
    if source == "aws":
        for manifest in sorted(root.glob("aws/focus/metadata/*/focus-Manifest.json")):
            content = json.loads(manifest.read_text())
            found += [uri.replace("s3://estate", str(root)) for uri in content["dataFiles"]]
    elif source == "azure":
        newest: dict[str, tuple[str, list[str]]] = {}
        for manifest in root.glob("azure/**/manifest.json"):
            content = json.loads(manifest.read_text())
            start = content["runInfo"]["startDate"]
            if start not in newest or newest[start][0] < content["runInfo"]["submittedTime"]:
                blobs = [str(root / "azure" / blob["blobName"]) for blob in content["blobs"]]
                newest[start] = (content["runInfo"]["submittedTime"], blobs)
        for _, blobs in newest.values():
            found += blobs
    else:
        for period in sorted(root.glob("gcp/billing_period=*")):
            folders = sorted(
                period.glob("run=*"),
                key=lambda f: json.loads((f / "manifest.json").read_text())["exported_at"],
            )
            content = json.loads((folders[-1] / "manifest.json").read_text())
            found += [str(folders[-1] / file["name"]) for file in content["files"]]
    return sorted(found)


def load(con: duckdb.DuckDBPyConnection, root: Path, source: str) -> None:
    """A view named like the source: the delivered rows, with exact money and UTC days."""
    files = ", ".join(f"'{name}'" for name in data_files(root, source))
    if source == "azure":
        scan = f"read_csv([{files}], all_varchar = true)"
        start = "strptime(ChargePeriodStart, '%Y-%m-%dT%H:%MZ')"
    else:
        scan = f"read_parquet([{files}], hive_partitioning = false)"
        start = "CAST(ChargePeriodStart AS TIMESTAMP)"
    money = ", ".join(
        f"CAST(CAST({column} AS VARCHAR) AS DECIMAL(38,18)) AS {column}"
        for column in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {source} AS SELECT * REPLACE ({money}), "
        f"CAST({start} AS DATE) AS day, filename AS file "
        f"FROM (SELECT * FROM {scan.removesuffix(')')}, filename = true))"
    )


def written_totals(con: duckdb.DuckDBPyConnection, source: str) -> tuple[int, Decimal, Decimal]:
    [row] = con.execute(f"SELECT count(*), sum(BilledCost), sum(EffectiveCost) FROM {source}").fetchall()
    return row


def days(con: duckdb.DuckDBPyConnection, source: str, where: str = "true") -> dict[date, tuple[int, Decimal]]:
    rows = con.execute(
        f"SELECT day, count(*), sum(EffectiveCost) FROM {source} WHERE {where} GROUP BY day ORDER BY day"
    ).fetchall()
    return {day: (count, cost) for day, count, cost in rows}


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with Estate(SPEC, tmp_path_factory.mktemp("estate")) as made:
        made.deliver_all()
        yield made


@pytest.fixture(scope="module")
def written(estate: Estate) -> duckdb.DuckDBPyConnection:
    con = connection()
    for source in SOURCES:
        load(con, estate.root, source)
    return con


def test_about_as_many_rows_as_asked_for(estate: Estate) -> None:
    assert abs(sum(rows for rows, _, _ in estate.totals().values()) / SPEC.rows - 1) < 0.05


@pytest.mark.parametrize("source", SOURCES)
def test_written_rows_and_money_equal_the_totals(
    estate: Estate, written: duckdb.DuckDBPyConnection, source: str
) -> None:
    assert written_totals(written, source) == estate.totals()[source]


def test_truth_sums_to_the_totals_and_has_one_row_per_key(estate: Estate) -> None:
    con = connection()
    con.register("truth", estate.truth())
    sums = con.execute(
        "SELECT source, sum(row_count), sum(billed_cost), sum(effective_cost) FROM truth GROUP BY source"
    ).fetchall()
    assert {source: tuple(rest) for source, *rest in sums} == estate.totals()
    keys = "source, charge_date, department, team, environment, ServiceCategory, BillingCurrency"
    assert con.execute(
        f"SELECT count(*) FROM (SELECT {keys} FROM truth GROUP BY ALL HAVING count(*) > 1)"
    ).fetchall() == [(0,)]


@pytest.mark.parametrize("source", SOURCES)
def test_truth_by_day_equals_the_files_by_day(estate: Estate, written: duckdb.DuckDBPyConnection, source: str) -> None:
    con = connection()
    con.register("truth", estate.truth())
    rows = con.execute(
        "SELECT charge_date, sum(row_count), sum(effective_cost) FROM truth WHERE source = ? GROUP BY ALL",
        [source],
    ).fetchall()
    assert {day: (count, cost) for day, count, cost in rows} == days(written, source)


ALIASES = {
    "department": ("department", "dept", "businessunit"),
    "team": ("team", "squad", "ownerteam"),
    "environment": ("environment", "env", "stage"),
}
ENVIRONMENT_VALUES = {"production": "prod", "prd": "prod", "development": "dev", "stg": "staging"}


def read_owner(tags: dict[str, str], dimension: str) -> str | None:
    """A plain reading of raw tags by the documented rules, on its own legs: the model's truth must agree."""
    plain = {"".join(c for c in key.removeprefix("user:").lower() if c not in " -_."): v for key, v in tags.items()}
    for alias in ALIASES[dimension]:
        value = plain.get(alias, "").strip().lower()
        if value not in ("", "none", "n/a", "unknown", "null"):
            return ENVIRONMENT_VALUES.get(value, value) if dimension == "environment" else value
    return None


@pytest.mark.parametrize("source", SOURCES)
def test_truth_agrees_with_a_plain_reading_of_the_tags(
    estate: Estate, written: duckdb.DuckDBPyConnection, source: str
) -> None:
    read: dict[tuple[date, str | None, str | None, str | None, str], tuple[int, Decimal]] = {}
    for day, raw, category, cost in written.execute(
        f"SELECT day, Tags, ServiceCategory, EffectiveCost FROM {source}"
    ).fetchall():
        if source == "azure":
            tags = json.loads(raw or "{}")
        elif source == "gcp":
            tags = {tag["key"]: tag["value"] for tag in raw or []}
        else:
            tags = dict(raw or {})
        department, team, environment = (read_owner(tags, dimension) for dimension in ALIASES)
        key = (day, department, team, environment, category)
        count, total = read.get(key, (0, Decimal(0)))
        read[key] = (count + 1, total + cost)
    con = connection()
    con.register("truth", estate.truth())
    told = con.execute(
        "SELECT charge_date, department, team, environment, ServiceCategory, row_count, "
        "effective_cost FROM truth "
        "WHERE source = ?",
        [source],
    ).fetchall()
    assert {tuple(row[:5]): (row[5], row[6]) for row in told} == read


@pytest.mark.parametrize(
    ("source", "blank"), [("aws", "coalesce(cardinality(Tags), 0) = 0"),
                          ("azure", "coalesce(Tags, '{}') = '{}'"),
                          ("gcp", "coalesce(len(Tags), 0) = 0")],
)  # fmt: skip
def test_truth_counts_untagged_rows_and_resources_as_written(
    estate: Estate, written: duckdb.DuckDBPyConnection, source: str, blank: str
) -> None:
    con = connection()
    con.register("truth", estate.truth())
    [told] = con.execute(
        "SELECT sum(untagged_rows), sum(resource_count) FROM truth WHERE source = ?", [source]
    ).fetchall()
    [seen] = written.execute(
        f"SELECT count(*) FILTER ({blank}), count(DISTINCT (day, "
        f"ResourceId)) FILTER (ResourceId IS NOT NULL) FROM {source}"
    ).fetchall()
    assert told == seen
    assert 0 < seen[0] < SPEC.rows / 10


def test_owners_are_known_of_every_resource_and_agree_with_what_tags_tell(estate: Estate) -> None:
    owners, truth = estate.owners(), estate.truth()
    with duckdb.connect() as con:
        con.register("owners", owners)
        con.register("truth", truth)
        [(resources, distinct, without)] = con.execute(
            "SELECT count(*), count(DISTINCT (source, ResourceId)), count(*) FILTER (team IS NULL) FROM owners"
        ).fetchall()
        unknown = con.execute(
            "SELECT DISTINCT source, department FROM truth WHERE department IS NOT NULL"
            " EXCEPT SELECT DISTINCT source, department FROM owners"
        ).fetchall()
    assert resources == distinct > 100
    assert without == 0
    assert unknown == []


def test_the_same_specification_gives_the_same_files(estate: Estate, tmp_path: Path) -> None:
    with Estate(SPEC, tmp_path) as again:
        again.deliver_all()

    def content(root: Path) -> dict[str, bytes]:
        found = {}
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            data = path.read_bytes()
            found[str(path.relative_to(root))] = gzip.decompress(data) if path.suffix == ".gz" else data
        return found

    assert content(tmp_path) == content(estate.root)


def test_another_seed_gives_another_estate(estate: Estate, tmp_path: Path) -> None:
    with Estate(replace(SPEC, seed=8), tmp_path) as other:
        other.deliver("gcp", "2026-09")
        assert other.totals()["gcp"][1] != estate.totals()["gcp"][1]


def test_aws_layout_and_manifest(estate: Estate, written: duckdb.DuckDBPyConnection) -> None:
    manifests = sorted(estate.root.glob("aws/focus/metadata/BILLING_PERIOD=*/focus-Manifest.json"))
    assert [path.parent.name for path in manifests] == ["BILLING_PERIOD=2026-08", "BILLING_PERIOD=2026-09"]
    described = {name: str(kind) for name, kind, *_ in written.execute("DESCRIBE aws").fetchall()}
    for path in manifests:
        manifest = json.loads(path.read_text())
        period = path.parent.name
        assert manifest["dataFiles"] == [f"s3://estate/aws/focus/data/{period}/focus-00001.snappy.parquet"]
        assert manifest["executionId"]
        assert manifest["exportArn"].startswith("arn:aws:bcm-data-exports:")
        assert len(manifest["columns"]) == 57 + 3 + 2
        assert {column["name"] for column in manifest["columns"]} == set(described) - {
            "day",
            "file",
            "filename",
        }
        schema = dict(
            written.execute(
                "SELECT name, logical_type FROM parquet_schema(?) WHERE name LIKE '%Period%'",
                [str(estate.root / "aws/focus/data" / period / "focus-00001.snappy.parquet")],
            ).fetchall()
        )
        assert len(schema) == 4
        assert all("isAdjustedToUTC=0" in kind and "MILLIS" in kind for kind in schema.values())
    assert described["Tags"] == "MAP(VARCHAR, VARCHAR)"


def test_azure_manifest_agrees_with_its_blobs(estate: Estate) -> None:
    manifests = sorted(estate.root.glob("azure/focus-daily/*/*/*/manifest.json"))
    assert [path.parts[-4] for path in manifests] == ["20260801-20260831", "20260901-20260930"]
    for path in manifests:
        manifest = json.loads(path.read_text())
        assert manifest["exportConfig"]["type"] == "FocusCost"
        assert manifest["exportConfig"]["dataVersion"] == "1.0"
        assert manifest["blobCount"] == len(manifest["blobs"])
        assert manifest["byteCount"] == sum(blob["byteCount"] for blob in manifest["blobs"])
        assert manifest["dataRowCount"] == sum(blob["dataRowCount"] for blob in manifest["blobs"])
        for blob in manifest["blobs"]:
            file = estate.root / "azure" / blob["blobName"]
            assert file.parent == path.parent
            assert file.stat().st_size == blob["byteCount"]
            assert len(gzip.decompress(file.read_bytes()).splitlines()) == blob["dataRowCount"] + 1


def test_gcp_manifest_agrees_with_its_shards(estate: Estate) -> None:
    manifests = sorted(estate.root.glob("gcp/billing_period=*/run=*/manifest.json"))
    assert len(manifests) == 2
    for path in manifests:
        manifest = json.loads(path.read_text())
        assert f"run={manifest['run']}" == path.parent.name
        assert f"billing_period={manifest['billing_period']}" == path.parent.parent.name
        rows, total = 0, Decimal(0)
        for file in manifest["files"]:
            shard = path.parent / file["name"]
            assert shard.stat().st_size == file["size"]
            [(count, billed)] = (
                connection().execute("SELECT count(*), sum(BilledCost) FROM read_parquet(?)", [str(shard)]).fetchall()
            )
            assert count == file["rows"]
            rows, total = rows + count, total + billed
        assert rows == manifest["row_count"]
        assert {currency: Decimal(text) for currency, text in manifest["currency_totals"].items()} == {"USD": total}


@pytest.mark.parametrize("source", SOURCES)
def test_closed_lists_hold_and_every_kind_of_charge_is_present(written: duckdb.DuckDBPyConnection, source: str) -> None:
    def values(column: str) -> set[str | None]:
        return {value for (value,) in written.execute(f"SELECT DISTINCT {column} FROM {source}").fetchall()}

    assert values("ServiceCategory") <= SERVICE_CATEGORIES
    assert values("ChargeCategory") == {"Usage", "Purchase", "Tax", "Credit"}
    assert values("ChargeClass") == {"Correction", None}
    assert values("ChargeFrequency") <= {"One-Time", "Recurring", "Usage-Based"}
    assert values("PricingCategory") <= {"Standard", "Dynamic", "Committed", "Other", None}
    assert values("CommitmentDiscountCategory") <= {"Spend", "Usage", None}
    assert values("CommitmentDiscountStatus") == {"Used", "Unused", None}
    assert values("x_DatasetCompletionStatus") <= {"Complete", "Incomplete"}
    assert values("BillingCurrency") == {"EUR" if source == "azure" else "USD"}
    never = written.execute(
        f"SELECT count(*) FROM {source} WHERE BilledCost IS NULL OR EffectiveCost IS NULL "
        "OR ListCost IS NULL "
        "OR ContractedCost IS NULL OR BillingAccountId IS NULL OR ServiceName IS NULL "
        "OR InvoiceIssuerName IS NULL"
    ).fetchall()
    assert never == [(0,)]


@pytest.mark.parametrize("source", SOURCES)
def test_commitments_taxes_credits_and_refunds_cost_what_they_should(
    written: duckdb.DuckDBPyConnection, source: str
) -> None:
    def none(where: str) -> None:
        assert written.execute(f"SELECT count(*) FROM {source} WHERE {where}").fetchall() == [(0,)]

    none(
        "CommitmentDiscountStatus IS NOT NULL AND NOT (BilledCost = 0 AND EffectiveCost > 0 "
        "AND ChargeCategory = 'Usage')"
    )
    none("CommitmentDiscountStatus = 'Unused' AND ResourceId <> CommitmentDiscountId")
    none("CommitmentDiscountStatus IS NOT NULL AND CommitmentDiscountId IS NULL")
    none("ChargeCategory = 'Purchase' AND NOT (BilledCost > 0 AND EffectiveCost = 0)")
    none("ChargeCategory IN ('Tax', 'Credit') AND (ResourceId IS NOT NULL OR Tags IS NOT NULL)")
    none("ChargeCategory = 'Credit' AND BilledCost >= 0")
    none("CommitmentDiscountId IS NULL AND BilledCost <> EffectiveCost")
    # Price times quantity is cost, exactly, unless the price is not given.
    none(
        "CAST(CAST(ListUnitPrice AS VARCHAR) AS DECIMAL(28,10)) * CAST(CAST(PricingQuantity AS DOUBLE) AS "
        "BIGINT) <> ListCost"
    )
    [(refunds,)] = written.execute(
        f"SELECT count(*) FROM {source} WHERE ChargeCategory = 'Usage' AND ChargeClass IS NULL AND BilledCost < 0"
    ).fetchall()
    assert refunds > 0


def test_tax_spans_the_month_and_hourly_rows_an_hour(written: duckdb.DuckDBPyConnection) -> None:
    [(start, end)] = written.execute(
        "SELECT DISTINCT ChargePeriodStart, ChargePeriodEnd FROM azure WHERE ChargeCategory = 'Tax' "
        "AND day >= DATE '2026-09-01'"
    ).fetchall()
    assert (start, end) == ("2026-09-01T00:00Z", "2026-10-01T00:00Z")
    hours = written.execute(
        "SELECT count(DISTINCT hour(ChargePeriodStart)), "
        "count(*) FILTER (ChargePeriodEnd - ChargePeriodStart <> INTERVAL 1 HOUR) "
        "FROM aws WHERE ChargeCategory = 'Usage' AND ChargeClass IS NULL "
        "AND coalesce(CommitmentDiscountStatus, 'Used') = 'Used'"
    ).fetchall()
    assert hours == [(24, 0)]


@pytest.mark.parametrize("source", SOURCES)
def test_corrections_land_on_days_of_the_month_before(written: duckdb.DuckDBPyConnection, source: str) -> None:
    rows = written.execute(
        "SELECT DISTINCT left(CAST(BillingPeriodStart AS VARCHAR), 7), strftime(day, '%Y-%m') "
        f"FROM {source} WHERE ChargeClass = 'Correction'"
    ).fetchall()
    assert rows == [("2026-09", "2026-08")]
    [(first, last)] = written.execute(f"SELECT min(day), max(day) FROM {source}").fetchall()
    assert SPEC.first_day <= first
    assert last <= SPEC.last_day


def test_incomplete_day_is_marked_on_later_rows_only(written: duckdb.DuckDBPyConnection) -> None:
    marks = [
        status
        for (status,) in written.execute(
            "SELECT x_DatasetCompletionStatus FROM aws WHERE day = DATE '2026-09-17' "
            "AND ChargeClass IS NULL ORDER BY rowid"
        ).fetchall()
    ]
    assert marks[0] == "Complete"
    assert "Incomplete" in marks
    assert set(days(written, "aws", "x_DatasetCompletionStatus = 'Incomplete'")) == {date(2026, 9, 17)}


def test_untagged_day_has_lost_its_tags_and_its_owners(estate: Estate, written: duckdb.DuckDBPyConnection) -> None:
    assert written.execute("SELECT count(Tags) FROM azure WHERE day = DATE '2026-09-08'").fetchall() == [(0,)]
    con = connection()
    con.register("truth", estate.truth())
    rows = con.execute(
        "SELECT count(department), count(team), count(environment), "
        "sum(untagged_rows) = sum(row_count) FROM truth "
        "WHERE source = 'azure' AND charge_date = DATE '2026-09-08'"
    ).fetchall()
    assert rows == [(0, 0, 0, True)]


@pytest.mark.long
def test_day_without_rows_is_absent_and_no_other_day_changes(
    written: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    with Estate(replace(SPEC, incidents=()), tmp_path) as healed:
        healed.deliver_all()
    con = connection()
    for source in SOURCES:
        load(con, tmp_path, source)
        ill, well = days(written, source), days(con, source)
        gone = {date(2026, 9, 12)} if source == "gcp" else set()
        assert set(well) - set(ill) == gone
        assert {day: well[day] for day in ill} == ill


@pytest.mark.parametrize("source", SOURCES)
def test_normal_days_are_mostly_tagged(estate: Estate, source: str) -> None:
    con = connection()
    con.register("truth", estate.truth())
    shares = con.execute(
        "SELECT charge_date, sum(effective_cost) FILTER (department IS NULL) / sum(effective_cost), "
        "sum(effective_cost) FILTER (team IS NULL) / sum(effective_cost) FROM truth "
        "WHERE source = ? AND effective_cost > 0 GROUP BY charge_date",
        [source],
    ).fetchall()
    normal = [max(float(a or 0), float(b or 0)) for day, a, b in shares if day != date(2026, 9, 8)]
    assert max(normal) < 0.25
    assert 0.01 < sum(normal) / len(normal) < 0.15


@pytest.mark.long
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("create_new", [False, True])
def test_through_gives_the_days_so_far_and_later_the_rest(
    estate: Estate, written: duckdb.DuckDBPyConnection, tmp_path: Path, source: str, create_new: bool
) -> None:
    with Estate(SPEC, tmp_path) as other:
        other.deliver(source, "2026-09", through=date(2026, 9, 6), create_new=create_new)
        con = connection()
        load(con, tmp_path, source)
        assert written_totals(con, source) == other.totals()[source]
        whole = days(written, source, "left(CAST(BillingPeriodStart AS VARCHAR), 7) = '2026-09'")
        assert days(con, source) == {day: value for day, value in whole.items() if day <= date(2026, 9, 6)}
        first_files = data_files(tmp_path, source)
        other.deliver(source, "2026-09", create_new=create_new)
        load(con, tmp_path, source)
        assert days(con, source) == whole
        assert written_totals(con, source) == other.totals()[source]
        if create_new or source == "gcp":
            assert not set(first_files) & set(data_files(tmp_path, source))
            assert all(Path(file).exists() for file in first_files)
        else:
            assert first_files == data_files(tmp_path, source)


@pytest.mark.long
@pytest.mark.parametrize("source", SOURCES)
def test_restatement_changes_the_usage_of_its_day_and_nothing_else(
    written: duckdb.DuckDBPyConnection, tmp_path: Path, source: str
) -> None:
    day, factor = date(2026, 9, 3), Decimal("1.25")
    with Estate(SPEC, tmp_path) as other:
        other.deliver(source, "2026-09", generation=2, restate={day: factor})
        totals = other.totals()[source]
    con = connection()
    load(con, tmp_path, source)
    assert written_totals(con, source) == totals
    before = "left(CAST(BillingPeriodStart AS VARCHAR), 7) = '2026-09'"
    usage, other_rows = "ChargeCategory = 'Usage' AND ChargeClass IS NULL", "ChargeCategory <> 'Usage'"
    was, now = days(written, source, f"{before} AND {usage}"), days(con, source, usage + " AND true")
    assert now[day] == (was[day][0], was[day][1] * factor)
    assert {d: v for d, v in now.items() if d != day} == {d: v for d, v in was.items() if d != day}
    assert days(con, source, other_rows) == days(written, source, f"{before} AND {other_rows}")


@pytest.mark.long
def test_a_smaller_delivery_leaves_no_stale_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finops_assets.demo import deliver
    from finops_assets.demo.rows import chunks

    monkeypatch.setattr(deliver, "chunks", lambda planned: chunks(planned, 300))
    with Estate(replace(SPEC, incidents=()), tmp_path) as split:
        for source in SOURCES:
            split.deliver(source, "2026-09")
            con = connection()
            load(con, tmp_path, source)
            assert written_totals(con, source) == split.totals()[source]
            many = data_files(tmp_path, source)
            assert len(many) > 2
            split.deliver(source, "2026-09", through=date(2026, 9, 3), generation=40)
            few = data_files(tmp_path, source)
            assert len(few) == 1
            load(con, tmp_path, source)
            assert written_totals(con, source) == split.totals()[source]
            if source == "aws":  # emptied, not deleted
                scan = con.execute("SELECT count(*) FROM read_parquet(?)", [sorted(set(many) - set(few))]).fetchall()
                assert scan == [(0,)]
            if source == "azure":
                assert not any(Path(file).exists() for file in set(many) - set(few))


def test_tag_sets_can_be_set(tmp_path: Path) -> None:
    with Estate(EstateSpec(date(2026, 9, 1), date(2026, 9, 30), 5_000, tag_sets=60), tmp_path) as few:
        few.deliver("gcp", "2026-09")
    con = connection()
    load(con, tmp_path, "gcp")
    [(sets,)] = con.execute("SELECT count(DISTINCT CAST(Tags AS VARCHAR)) FROM gcp").fetchall()
    assert 15 <= sets <= 27


def test_resources_that_move_change_team_on_the_15th(estate: Estate, written: duckdb.DuckDBPyConnection) -> None:
    moved = written.execute(
        "SELECT ResourceId, min(day) FILTER (tags_text = last), max(day) FILTER (tags_text = first) FROM ("
        "SELECT ResourceId, day, CAST(Tags AS VARCHAR) AS tags_text, first_value(tags_text) OVER w AS first, "
        "last_value(tags_text) OVER w AS last FROM gcp WHERE Tags IS NOT NULL "
        "WINDOW w AS (PARTITION BY ResourceId ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING "
        "AND UNBOUNDED FOLLOWING)"
        ") WHERE first <> last GROUP BY ResourceId"
    ).fetchall()
    assert moved
    for _, begins, ends in moved:
        assert any(ends < turn <= begins for turn in (date(2026, 8, 15), date(2026, 9, 15)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EstateSpec(date(2026, 9, 2), date(2026, 9, 1), 100), "before first_day"),
        (lambda: EstateSpec(date(2026, 9, 1), date(2026, 9, 30), 100), "at least 360"),
        (lambda: Incident("oci", date(2026, 9, 1), "untagged"), "allowed: aws, azure, gcp"),
        (lambda: Incident("aws", date(2026, 9, 1), "late"), "allowed: incomplete, untagged, no_rows"),
        (
            lambda: replace(SPEC, incidents=(Incident("aws", date(2026, 1, 1), "no_rows"),)),
            "outside the estate",
        ),
        (lambda: Estate(SPEC, Path("nowhere")).deliver("oci", "2026-09"), "allowed: aws, azure, gcp"),
        (lambda: Estate(SPEC, Path("nowhere")).deliver("aws", "2026-13"), "allowed: YYYY-MM"),
        (lambda: Estate(SPEC, Path("nowhere")).deliver("aws", "2026-07"), "allowed: 2026-08 to 2026-09"),
        (
            lambda: Estate(SPEC, Path("nowhere")).deliver("aws", "2026-09", through=date(2026, 8, 31)),
            "first charge day",
        ),
        (
            lambda: Estate(SPEC, Path("nowhere")).deliver("aws", "2026-09", restate={date(2026, 8, 31): Decimal(2)}),
            "outside 2026-09",
        ),
    ],
)
def test_wrong_requests_say_what_is_allowed(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.long
def test_an_estate_that_nobody_closes_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    estate = Estate(EstateSpec(date(2026, 9, 1), date(2026, 9, 2), 120), tmp_path / "estate")
    estate.deliver("gcp", "2026-09")
    assert [p.name[:7] for p in temporary.iterdir()] == ["estate-"]
    del estate
    gc.collect()
    assert list(temporary.iterdir()) == []
