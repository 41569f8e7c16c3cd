"""Planted defects: how much money do the gates hold that they need not, and publish that they should hold?

`python -m benchmarks.gates` writes benchmarks/results/gates.json and prints the table of docs/guides/gates.md. The bills are the
synthetic estate's rows of one cloud, once for each defect as a source of its own, delivered as files; a defect is planted on
`BAD` of its source, or in how its file is written. What each day of each source costs is known beforehand. All sources run
together, through the graph. Both sums should be 0.

Beside it, what the default limits of the gates rest on: of each day of the bills at hand (the estate of the demonstration, and the
real ones of ../shared/data where they lie) the share without a name, as rows and as positive cost.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import duckdb
import yaml

from finops_assets.base.sql import literal
from finops_assets.definitions import build_definitions
from finops_assets.demo import Estate, EstateSpec
from finops_assets.focus.specification import columns as focus_columns
from finops_assets.graph.run_range import QUIET
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.gates.raw import judge_raw
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.settings.sources import Source
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "gates.json"
FIRST, BAD, LAST = date(2026, 9, 1), date(2026, 9, 3), date(2026, 9, 6)
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
CLOUD = "azure"
SEED, ROWS = 7, 6_000
VERSION = "1.0"
DIMENSIONS = {
    "department": {"keys": ["department", "dept", "business_unit"]},
    "team": {"keys": ["team", "squad", "owner_team"]},
}
THRESHOLD = {"warn_above": 15, "block_above": 40}
NOBODY = {"warn_above": 100, "block_above": 100}

Row = dict[str, str]
Rows = list[Row]


@dataclass(frozen=True)
class Defect:
    """Something that a bill may be like, and what is right: the day is built whole, held, or all days of the source are."""

    name: str
    says: str
    right: Literal["built", "day held", "all held"]
    plant: Callable[[Rows], Rows] = lambda rows: rows
    write: Callable[[Path, Rows], None] | None = None
    settings: Mapping[str, Any] | None = None
    layout: str = "files"
    cost: Literal["EffectiveCost", "BilledCost"] = "EffectiveCost"
    """What is compared: of what a provider's invoice says, or of what it is worth."""


def _on_bad(change: Callable[[Row], Row], share: float = 1.0) -> Callable[[Rows], Rows]:
    """Change so large a share of the rows of BAD, the cheapest first; at least one."""

    def plant(rows: Rows) -> Rows:
        bad = sorted(
            (n for n, r in enumerate(rows) if _day(r) == BAD), key=lambda n: abs(Decimal(rows[n]["EffectiveCost"]))
        )
        wanted = set(bad[: max(1, round(len(bad) * share))])
        return [change(dict(r)) if n in wanted else r for n, r in enumerate(rows)]

    return plant


def _day(row: Row) -> date:
    return date.fromisoformat(row["ChargePeriodStart"][:10])


def _set(**values: str) -> Callable[[Row], Row]:
    return lambda row: row | values


def _without(*names: str) -> Callable[[Rows], Rows]:
    return lambda rows: [{n: v for n, v in row.items() if n not in names} for row in rows]


def _few_days(rows: Rows) -> Rows:
    return [row for row in rows if _day(row) in (DAYS[0], DAYS[2], DAYS[4])]


def _no_tags(rows: Rows) -> Rows:
    """Some ways of writing that a row has none, on every twentieth row."""
    words = ("", "-", "''", "none", '""')
    return [row | {"Tags": words[n // 20 % len(words)]} if n % 20 == 0 else row for n, row in enumerate(rows)]


def _left_out_by_azure(rows: Rows) -> Rows:
    """As Microsoft documents it: no PublisherName on reservations, no ServiceName on purchases."""
    commitment = lambda r: bool(r.get("CommitmentDiscountId"))  # noqa: E731
    rows = [r | {"PublisherName": ""} if commitment(r) else r for r in rows]
    return [r | {"ServiceName": ""} if r["ChargeCategory"] == "Purchase" else r for r in rows]


def _text(rows: Rows, delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n", delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _plainly(folder: Path, rows: Rows) -> None:
    (folder / "bill.csv").write_text(_text(rows), encoding="utf-8")


def _german(folder: Path, rows: Rows) -> None:
    numbers = [n for n, c in focus_columns().items() if c.type == "decimal"]
    with_comma = [{n: v.replace(".", ",") if n in numbers else v for n, v in row.items()} for row in rows]
    (folder / "bill.csv").write_text(_text(with_comma, ";"), encoding="utf-8")


def _utf16(folder: Path, rows: Rows) -> None:
    (folder / "bill.csv").write_text(_text(rows), encoding="utf-16")


def _cp1252(folder: Path, rows: Rows) -> None:
    (folder / "bill.csv").write_text(_text([r | {"ResourceName": "Büro – Köln"} for r in rows]), encoding="cp1252")


def _beside_an_empty_one(folder: Path, rows: Rows) -> None:
    _plainly(folder, rows)
    (folder / "empty.csv").write_bytes(b"")


def _cut(folder: Path, rows: Rows) -> None:
    whole = gzip.compress(_text(rows).encode(), mtime=0)
    (folder / "bill.csv.gz").write_bytes(whole[: len(whole) // 2])


def _cur_without_negations(folder: Path, rows: Rows) -> None:
    """The bill as an AWS CUR that somebody filtered: a third of it is a savings plan's usage, and nothing negates it."""
    lines = [
        {
            "bill/PayerAccountId": "1", "bill/BillingEntity": "AWS", "bill/InvoicingEntity": "AWS",
            "bill/BillingPeriodStartDate": row["BillingPeriodStart"], "bill/BillingPeriodEndDate": row["BillingPeriodEnd"],
            "lineItem/UsageAccountId": "2", "lineItem/LineItemType": "SavingsPlanCoveredUsage" if n % 3 == 0 else "Usage",
            "lineItem/UsageStartDate": row["ChargePeriodStart"], "lineItem/UsageEndDate": row["ChargePeriodEnd"],
            "lineItem/ProductCode": "AmazonEC2", "lineItem/CurrencyCode": row["BillingCurrency"],
            "lineItem/UnblendedCost": row["BilledCost"], "product/ProductName": "Amazon Elastic Compute Cloud",
            "pricing/publicOnDemandCost": row["ListCost"],
            "savingsPlan/SavingsPlanARN": f"arn:aws:savingsplans::1:savingsplan/{n % 2}" if n % 3 == 0 else "",
            "savingsPlan/SavingsPlanEffectiveCost": row["EffectiveCost"] if n % 3 == 0 else "",
            "resourceTags/user:department": "platform", "resourceTags/user:team": "runtime",
        }
        for n, row in enumerate(rows)
    ]  # fmt: skip
    _plainly(folder, lines)


DEFECTS = (
    Defect("clean", "nothing is wrong", "built"),
    Defect("few_days", "charges on three of the days of a closed month", "built", _few_days),
    Defect("nameless_row", "one row without ServiceName and PublisherName", "built",
           _on_bad(_set(ServiceName="", PublisherName=""), 0)),
    Defect("no_account", "neither BillingAccountId nor ProviderName on any row", "built",
           _without("BillingAccountId", "ProviderName")),
    Defect("other_words", "words outside closed lists, one of them in ChargeCategory", "built",
           lambda rows: _on_bad(_set(ChargeCategory="Gebrauch"), 0)([r | {"PricingCategory": "Sondertarif"} for r in rows])),
    Defect("no_tags_written", "no tags, written as empty, -, '', none, \"\"", "built", _no_tags),
    Defect("unreadable_tags", "one tag set that cannot be read", "built", _on_bad(_set(Tags='{"team": '), 0)),
    Defect("no_tags_column", "no Tags column, and a threshold that allows it", "built", _without("Tags"),
           settings={"department": NOBODY, "team": NOBODY}),
    Defect("left_out", "what Azure is known to leave out", "built", _left_out_by_azure),
    Defect("decimal_comma", "; as delimiter and a decimal comma", "built", write=_german),
    Defect("utf16", "UTF-16", "built", write=_utf16),
    Defect("cp1252", "Windows code page 1252", "built", write=_cp1252),
    Defect("empty_file", "an empty file beside the bill", "built", write=_beside_an_empty_one),
    Defect("no_negations", "an AWS CUR without the negations of savings plans' covered usage: billed cost", "built",
           write=_cur_without_negations, layout="aws-cur", cost="BilledCost"),
    Defect("incomplete", "one row says that the day is not complete", "day held",
           lambda rows: _on_bad(_set(x_DatasetCompletionStatus="Incomplete"), 0)(
               [r | {"x_DatasetCompletionStatus": "Complete"} for r in rows])),
    Defect("no_money", "one row without BilledCost", "day held", _on_bad(_set(BilledCost=""), 0)),
    Defect("no_number", "one BilledCost that is no number", "day held", _on_bad(_set(BilledCost="see invoice"), 0)),
    Defect("no_currency", "one row without BillingCurrency", "day held", _on_bad(_set(BillingCurrency=""), 0)),
    Defect("untagged", "a day that lost all its tags", "day held", _on_bad(_set(Tags=""))),
    Defect("nameless_day", "a day without ServiceName", "day held", _on_bad(_set(ServiceName=""))),
    Defect("cut_file", "a compressed file that ends in the middle", "all held", write=_cut),
)  # fmt: skip


def estate_rows(folder: Path, rows: int, seed: int) -> Rows:
    """The rows of one of the estate's clouds as the canonical form has them, as text, by time."""
    with Estate(EstateSpec(FIRST, LAST, rows, seed), folder / "estate") as estate:
        estate.deliver_all()
    source = {"name": CLOUD, "provider": "Microsoft", "uri": f"estate/{CLOUD}", "layout": "azure-exports"}
    platform = _platform(folder, [source], {})
    [counted] = platform.settings.counted
    land_source(platform.lake, platform.settings.engine, counted, FIRST)
    compose_days(platform.lake, platform.settings.engine, counted, DAYS)
    files = [str(platform.lake.day_file("raw", CLOUD, day)) for day in DAYS]
    names = [n for n, c in focus_columns().items() if VERSION in c.level]
    shown = ", ".join(
        f"strftime({n}, '%Y-%m-%dT%H:%M:%SZ') AS {n}"
        if focus_columns()[n].type == "datetime"
        else f"CAST({n} AS VARCHAR) AS {n}"
        for n in names
    )
    with duckdb.connect() as connection:
        relation = f"read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"
        found = connection.execute(
            f"SELECT {shown} FROM {relation} ORDER BY ChargePeriodStart, source_file, source_row"
        )
        return [{n: v or "" for n, v in zip(names, row)} for row in found.fetchall()]


def _platform(
    folder: Path, sources: Sequence[Mapping[str, Any]], policies: Mapping[str, Any], first_day: date = FIRST
) -> Platform:
    settings = {
        "first_day": first_day.isoformat(), "lake": "lake", "warehouse": "w.duckdb", "published": "p.duckdb",
        "sources": list(sources), "dimensions": DIMENSIONS,
        "tag_policy": {
            "required": list(DIMENSIONS), "thresholds": dict.fromkeys(DIMENSIONS, THRESHOLD), "sources": dict(policies),
        },
    }  # fmt: skip
    return Platform(parse_settings(yaml.safe_dump(settings), folder / "finops.yaml"))


@dataclass(frozen=True)
class Outcome:
    """What a source came to, in the bill's currency: of what it cost, what was held in vain and published in vain."""

    defect: Defect
    cost: Decimal
    at_stake: Decimal
    """Of the day with the defect, or of all days where it is the file's."""
    held_in_vain: Decimal
    published_in_vain: Decimal


def judged(folder: Path, defects: Sequence[Defect] = DEFECTS, rows: int = ROWS, seed: int = SEED) -> list[Outcome]:
    """Plant each defect in a source of its own, run all days through the graph, and compare by source and day."""
    bill = estate_rows(folder / "made", rows, seed)
    sources = []
    truth: dict[tuple[str, date], Decimal] = {}
    for defect in defects:
        place = folder / "bills" / defect.name
        place.mkdir(parents=True)
        planted = defect.plant(bill)
        (defect.write or _plainly)(place, planted)
        # What a day costs is known from the rows before anything was planted in their money.
        days = {_day(row) for row in planted}
        for row in bill:
            if _day(row) in days:
                _add(truth, (defect.name, _day(row)), Decimal(row[defect.cost]))
        place_of = {"uri": f"bills/{defect.name}", "layout": defect.layout}
        sources.append({"name": defect.name, "provider": "Microsoft", **place_of})
    policies = {defect.name: defect.settings for defect in defects if defect.settings}
    platform = _platform(folder, sources, policies)
    _run(platform)
    published = _published(platform)
    return [_outcome(defect, truth, published) for defect in defects]


def _add(sums: dict[tuple[str, date], Decimal], key: tuple[str, date], amount: Decimal) -> None:
    with localcontext(prec=80):
        sums[key] = sums.get(key, Decimal(0)) + amount


def _run(platform: Platform) -> None:
    span = {"dagster/asset_partition_range_start": str(FIRST), "dagster/asset_partition_range_end": str(LAST)}
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(platform.settings).resolve_job_def("daily")
        job.execute_in_process(instance=instance, tags=span, run_config=QUIET, raise_on_error=False)


def _published(platform: Platform) -> dict[tuple[str, date], dict[str, Decimal]]:
    with platform.warehouse.reading() as connection:
        return {
            (source, day): {"EffectiveCost": effective, "BilledCost": billed}
            for source, day, effective, billed in connection.execute(
                "SELECT source, charge_date, sum(effective_cost), sum(billed_cost) FROM reported_cost"
                " WHERE reported_to IS NULL GROUP BY ALL"
            ).fetchall()
        }


def _outcome(
    defect: Defect,
    truth: Mapping[tuple[str, date], Decimal],
    published: Mapping[tuple[str, date], Mapping[str, Decimal]],
) -> Outcome:
    in_vain = {"held": Decimal(0), "published": Decimal(0)}
    cost = at_stake = Decimal(0)
    with localcontext(prec=80):
        for day in DAYS:
            right = truth.get((defect.name, day), Decimal(0))
            found = published.get((defect.name, day), {}).get(defect.cost, Decimal(0))
            held = defect.right == "all held" or (defect.right == "day held" and day == BAD)
            in_vain["published" if held else "held"] += abs(found) if held else abs(right - found)
            cost += right
            at_stake += right if day == BAD or defect.write else 0
    return Outcome(defect, cost, at_stake, in_vain["held"], in_vain["published"])


SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
BILLS = {
    "the FOCUS 1.0 sample": (SHARED / "focus_sample_1_0.csv", "files"),
    "native AWS CUR": (SHARED / "native" / "aws_cur_sample.csv", "aws-cur"),
    "native Azure EA": (SHARED / "native" / "azure_ea_sample.csv", "azure-actual-amortized"),
    "native OCI": (SHARED / "native" / "oci_cost_report_sample.csv", "oci-cost-report"),
}
NAMES = ("ServiceName", "ServiceCategory", "ChargeCategory", "ProviderName", "BillingAccountId", "PublisherName")
NO_TAGS = "no tags"


def shares(folder: Path) -> list[dict[str, Any]]:
    """By bill and name: days, and of the day that lacks it most the share of rows and of positive effective cost, in percent;
    on how many days more than half of the cost lacks it; on how many the gate `conforms` holds."""
    first, last = date(2026, 8, 31), date(2026, 10, 31)
    with Estate(EstateSpec(first, last, 16_000, SEED), folder / "estate") as estate:
        estate.deliver_all()
    layouts = {"aws": "aws-data-exports", "azure": "azure-exports", "gcp": "gcs-export"}
    bills = {f"the estate's {source}": (folder / "estate" / source, layout) for source, layout in layouts.items()}
    bills |= {name: found for name, found in BILLS.items() if found[0].is_file()}
    sources = [
        {"name": f"bill_{n}", "uri": str(place), "layout": layout} for n, (place, layout) in enumerate(bills.values())
    ]
    platform = _platform(folder, sources, {}, date(2015, 1, 1))
    return [
        {"bill": bill, **line}
        for bill, source in zip(bills, platform.settings.sources)
        for line in _shares_of(platform, source)
    ]


def _shares_of(platform: Platform, source: Source) -> list[dict[str, Any]]:
    landed = land_source(platform.lake, platform.settings.engine, source, platform.settings.first_day)
    days = sorted({day for generation in landed for day in generation.days})
    compose_days(platform.lake, platform.settings.engine, source, days)
    held = sum(not v.passed for v in judge_raw(platform, source, days) if v.gate == "conforms")
    files = ", ".join(literal(str(platform.lake.day_file("raw", source.name, day))) for day in days)
    positive = "greatest(coalesce(EffectiveCost, BilledCost), 0)"
    lines = []
    with duckdb.connect() as connection:
        for name in (*NAMES, NO_TAGS):
            lacks = "coalesce(Tags, '') IN ('', '{}')" if name == NO_TAGS else f"{name} IS NULL"
            [(rows, cost, more)] = connection.execute(
                f"""
                SELECT max(rows), max(cost), count(*) FILTER (cost > 50) FROM (
                    SELECT 100 * avg(CAST({lacks} AS INTEGER)) AS rows,
                        100 * coalesce(sum({positive}) FILTER ({lacks}), 0) / nullif(sum({positive}), 0) AS cost
                    FROM read_parquet([{files}], hive_partitioning = false, union_by_name = true)
                    GROUP BY CAST(ChargePeriodStart AS DATE)
                )
                """
            ).fetchall()
            lines.append(
                {
                    "name": name, "days": len(days), "most_rows_percent": round(float(rows or 0), 1),
                    "most_cost_percent": round(float(cost or 0), 1), "days_above_half": more, "days_held": held,
                }
            )  # fmt: skip
    return lines


def main() -> None:
    """Measure, print the table, write the results."""
    with tempfile.TemporaryDirectory(prefix="finops-gates-") as folder:
        found = judged(Path(folder) / "planted")
        measured = shares(Path(folder) / "shares")
    shown = [
        {
            "defect": o.defect.name, "says": o.defect.says, "right": o.defect.right, "cost": f"{o.cost:.2f}",
            "at_stake": f"{o.at_stake:.2f}", "held_in_vain": f"{o.held_in_vain.normalize():f}",
            "published_in_vain": f"{o.published_in_vain.normalize():f}",
        }
        for o in found
    ]  # fmt: skip
    sums = {
        name: f"{sum((getattr(o, name) for o in found), Decimal(0)).normalize():f}"
        for name in ("held_in_vain", "published_in_vain")
    }
    results = {"rows": ROWS, "days": len(DAYS), "seed": SEED, **sums, "defects": shown, "shares": measured}
    write_results(RESULTS, results)
    for row in shown:
        print(
            f"{row['says']:<60} {row['right']:<9} at stake {row['at_stake']:>10}  held in vain {row['held_in_vain']:>8}"
            f"  published in vain {row['published_in_vain']:>8}"
        )
    print(json.dumps(sums))
    for line in measured:
        print("  ".join(str(value) for value in line.values()))


if __name__ == "__main__":
    main()
