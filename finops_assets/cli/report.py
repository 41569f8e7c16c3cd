"""finops report: the answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import duckdb
import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import Period
from finops_assets.cli.common import (
    ConfigOption,
    Format,
    FormatOption,
    FromOption,
    OutputOption,
    ToOption,
    emit,
    explained,
    heading,
    made_of,
    not_built,
    out,
    published,
    say,
    write_table,
)
from finops_assets.cost.accrual import ACCRUED, REPORTED_ACCRUALS, accrued_rollup, committed
from finops_assets.cost.commitments import COMMITMENTS, commitments, unused_by_owner
from finops_assets.cost.corrections import CORRECTIONS, corrections
from finops_assets.cost.currency.conversion import CONVERTED_COST, converted_rollup
from finops_assets.cost.reach import ALL, group_reach, narrowed
from finops_assets.cost.restatements import REPORTED_NOW, as_of_relation
from finops_assets.cost.rollup import ROLLUP_TABLE, TOO_MANY, missing
from finops_assets.cost.sparse import COST_CENTERS, SPARSE, SPARSE_GROUPS, sparse_report, sparse_shares
from finops_assets.evaluate.allocation.balance import ALLOCATED_COST
from finops_assets.evaluate.allocation.report import allocation, kept, moves
from finops_assets.evaluate.charges import charges, rollup_by
from finops_assets.evaluate.clusters import CLUSTER_NODES, clusters_report, nodes_report
from finops_assets.evaluate.commitment_use import COMMITMENT_USE, commitment_use_of
from finops_assets.evaluate.comparison import (
    Comparison,
    compare,
    latest_days,
    latest_month,
    missing_days,
    no_figures,
    reported_within,
    require_figures,
)
from finops_assets.evaluate.newest_facts import last_days
from finops_assets.evaluate.reports import (
    SERVICES_BY,
    TEAMS_BY,
    Basis,
    can_group_by,
    cost_by,
    days_collapsed,
    days_without,
    savings_by,
    untagged_by,
)
from finops_assets.evaluate.tokens import TOKENS_BY, tokens_by
from finops_assets.evaluate.unit_costs.figures import UNIT_COSTS, units_of
from finops_assets.evaluate.waste.find import CERTAINTIES, WASTE, WINDOW_DAYS, waste_of
from finops_assets.settings.load import load_settings
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.ddl import dimensions_of

COMMITMENT_FIGURES = [
    "CommitmentDiscountId", "currency", "purchase_billed_cost", "used_cost", "unused_cost", "difference",
    "utilisation_percent", "first_day", "last_day", "term_held",
]  # fmt: skip

USE_FIGURES = [
    "source", "department", "team", "ServiceName", "CommitmentDiscountType", "currency", "eligible_cost", "coverage_percent",
    "utilisation_percent", "unused_cost", "rate_percent", "one_more", "one_more_saved", "one_more_wasted", "days",
]  # fmt: skip

WASTE_FIGURES = [
    "kind", "department", "team", "name", "service", "first_day", "currency", "cost_a_month", "could_save", "row_count", "certainty", "why",
]  # fmt: skip

CHARGES_SHOWN = [
    "charge_date", "source_file", "source_row", "team", "ServiceName", "ResourceName", "AllocatedResourceName", "ChargeDescription", "currency",
    "billed_cost", "effective_cost",
]  # fmt: skip
RESOURCE = ("source", "SubAccountName", "ServiceName", "ResourceName", "ResourceId")
"""What a person needs to find a resource."""
Made = TypeVar("Made")

report_app = typer.Typer(no_args_is_help=True, help="The answers. Ends are exclusive, days are UTC.")


AsOfOption = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="As it was reported at the end of this UTC day")
]


WhereOption = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only this cost; again for more, of one column either")
]
BasisOption = Annotated[
    Basis | None,
    typer.Option(help="One basis alone: effective, billed (cash), or accrued (charges longer than a day by day)"),
]
CurrencyOption = Annotated[
    Literal["billing", "reporting"], typer.Option(help="As billed, or in the reporting currency of finops.yaml")
]


def _rollup(as_of: datetime | None) -> str:
    return as_of_relation(as_of.date()) if as_of else ROLLUP_TABLE


def _period(
    connection: duckdb.DuckDBPyConnection, rollup: str, first: datetime | None, end: datetime | None, days: bool = False
) -> Period:
    latest = latest_days(connection, rollup=rollup) if days else latest_month(connection, rollup)
    if latest is None:
        raise FinopsError("nothing was reported: no day had passed its gates")
    period = Period(first.date() if first else latest.first, end.date() if end else latest.end)
    if period.end <= period.first:
        raise FinopsError(f"the range {period.first} to {period.end} is empty; --to is exclusive")
    require_figures(connection, period, rollup)
    return period


@report_app.command("teams")
def report_teams(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated; tag:KEY is a tag")] = ",".join(TEAMS_BY),
    format: FormatOption = "table", output: OutputOption = None, as_of: AsOfOption = None,
    basis: BasisOption = None, currency: CurrencyOption = "billing", where: WhereOption = None,
    sparse: Annotated[bool, typer.Option("--sparse", help="Teams with too few resources as their department's __sparse__")] = False,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """What did each team spend? By default the latest month, against the same days of the month before."""
    if sparse:
        _report_cost_centers(config, first, end, by, format, output, as_of, basis, currency, where)
        return
    _report_cost(config, first, end, by, format, output, as_of, basis, currency, where)


def _report_cost_centers(
    config: Path | None,
    first: datetime | None,
    end: datetime | None,
    by: str,
    format: Format,
    output: Path | None,
    as_of: datetime | None,
    basis: Basis | None,
    currency: Literal["billing", "reporting"],
    where: list[str] | None,
) -> None:
    with explained(), published(config) as connection:
        if as_of or basis == "accrued" or currency == "reporting":
            raise FinopsError(
                "--sparse goes with neither --as-of, --basis accrued nor --currency reporting; leave one out"
            )
        _have_groups(connection)
        period = _period(connection, ROLLUP_TABLE, first, end)
        table = _checked(
            config, lambda: cost_by(connection, period, _columns(by), COST_CENTERS, basis, where=_where(where))
        )
        emit(table, _compared(connection, period), format, output, basis)
        _say_built_without(connection, period, by, ROLLUP_TABLE)
        if format == "table":
            shares = ", ".join(f"{share:.1f} % of {c}" for c, share in sparse_shares(connection, period).items())
            out.print(f"{SPARSE}: {shares}", style="dim", highlight=False)


@report_app.command("sparse")
def report_sparse(
    first: FromOption = None, end: ToOption = None,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Which teams have too few resources to be cost centers, with their cost on these days and its share."""
    with explained(), published(config) as connection:
        _have_groups(connection)
        period = _period(connection, ROLLUP_TABLE, first, end)
        if format == "table":
            out.print(str(period), style="dim", highlight=False)
        write_table(sparse_report(connection, period), format, output, made_of(connection, period, "effective"))


def _have_groups(connection: duckdb.DuckDBPyConnection) -> None:
    if not Warehouse.has(connection, SPARSE_GROUPS):
        raise FinopsError(
            "resources were not counted yet: materialise sparse_groups, or run days (`finops run FROM TO`)"
        )


@report_app.command("services")
def report_services(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated; tag:KEY is a tag")] = ",".join(SERVICES_BY),
    format: FormatOption = "table", output: OutputOption = None, as_of: AsOfOption = None,
    basis: BasisOption = None, currency: CurrencyOption = "billing", where: WhereOption = None,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """What did each service category cost?"""
    _report_cost(config, first, end, by, format, output, as_of, basis, currency, where)


@report_app.command("charges")
def report_charges(
    first: FromOption = None, end: ToOption = None, where: WhereOption = None,
    most: Annotated[int, typer.Option(min=1, help="At most so many, the largest first")] = 1_000,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """The single charges, the largest first, each with the file and row of the bill that it stood in."""
    with explained(), published(config) as connection:
        period = _period(connection, ROLLUP_TABLE, first, end)
        providers = load_settings(config).providers
        table = _checked(config, lambda: charges(connection, period, providers, _where(where), most=most))
        # What a charge was split for, where one of them was.
        whole = not any(table["AllocatedResourceName"])
        columns = [c for c in CHARGES_SHOWN if not (whole and c == "AllocatedResourceName")]
        shown = table.only(columns) if format == "table" else table
        write_table(shown, format, output, made_of(connection, period))


@report_app.command("untagged")
def report_untagged(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = "provider",
    resources: Annotated[str | None, typer.Option(metavar="DIMENSION", help="The resources without this dimension instead, the costliest first")] = None,
    format: FormatOption = "table", output: OutputOption = None, as_of: AsOfOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Which share of positive effective cost has no owner? By default the last 30 days."""
    if resources:
        if as_of or by != "provider":
            say("error", "--resources goes with neither --by nor --as-of; leave one out")
            raise typer.Exit(1)
        _report_resources_without(config, first, end, resources, format, output)
        return
    with explained(), published(config) as connection:
        rollup = _rollup(as_of)
        period = _period(connection, rollup, first, end, days=True)
        reported = rollup if as_of else REPORTED_NOW
        table = _checked(config, lambda: untagged_by(connection, period, _columns(by), rollup, reported))
        emit(table, _compared(connection, period, reported), format, output, "effective")
        _say_built_without(connection, period, ",".join(can_group_by(connection, rollup)), rollup)


def _report_resources_without(
    config: Path | None,
    first: datetime | None,
    end: datetime | None,
    dimension: str,
    format: Format,
    output: Path | None,
) -> None:
    with explained(), published(config) as connection:
        period = _period(connection, ROLLUP_TABLE, first, end, days=True)
        known = dimensions_of(connection)
        if dimension not in known:
            raise FinopsError(f"--resources: found {dimension!r}; allowed: {', '.join(known)}")
        providers = load_settings(config).providers
        where = {dimension: [missing(dimension)]}
        relation = _checked(config, lambda: rollup_by(connection, providers, (*RESOURCE, *where)))
        compared = _compared(connection, period)
        table = cost_by(connection, period, RESOURCE, relation, "effective", where=where, compared=compared)
        # Those that cost something before alone are no work for anybody.
        emit(table.where(lambda row: row["effective_cost"] != 0), compared, format, output, "effective")
        if format == "table":
            out.print("`finops owners suggest` says who probably owns them.", style="dim", highlight=False)


def _report_cost(
    config: Path | None,
    first: datetime | None,
    end: datetime | None,
    by: str,
    format: Format,
    output: Path | None,
    as_of: datetime | None,
    basis: Basis | None,
    currency: Literal["billing", "reporting"],
    where: list[str] | None,
) -> None:
    with explained(), published(config) as connection:
        rollup = _converted(connection, config, as_of, basis) if currency == "reporting" else _rollup(as_of)
        period = _period(connection, rollup, first, end)
        reported = rollup if as_of else REPORTED_NOW
        asked, only = rollup, _where(where)
        if not as_of and basis != "accrued" and currency == "billing":
            providers = load_settings(config).providers
            asked = _checked(config, lambda: rollup_by(connection, providers, (*_columns(by), *only)))
        if basis == "accrued":
            dimensions = dimensions_of(connection, REPORTED_ACCRUALS if as_of else ACCRUED)
            asked = accrued_rollup(as_of.date() if as_of else None, dimensions)
        compared = _compared(connection, period, reported, None if basis == "accrued" else rollup)
        table = _checked(
            config, lambda: cost_by(connection, period, _columns(by), asked, basis, reported, only, compared)
        )
        emit(table, compared, format, output, basis)
        _say_built_without(connection, period, by, rollup)


def _converted(
    connection: duckdb.DuckDBPyConnection, config: Path | None, as_of: datetime | None, basis: Basis | None
) -> str:
    if load_settings(config).currency is None:
        raise FinopsError("--currency reporting: finops.yaml has no currency section (docs/guides/money.md)")
    if as_of or basis == "accrued":
        what = "--as-of" if as_of else "--basis accrued"
        raise FinopsError(f"{what} is answered in the currencies of the bills only; leave out --currency reporting")
    if not Warehouse.has(connection, CONVERTED_COST):
        raise FinopsError(
            "no day is converted yet: run days, or see the check daily_cost_converted:rates_present for what is missing"
        )
    return converted_rollup()


@report_app.command("savings")
def report_savings(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = ",".join(TEAMS_BY),
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """List and contracted cost beside what was billed. Commitments count once, where they were bought."""
    with explained(), published(config) as connection:
        period = _period(connection, ROLLUP_TABLE, first, end)
        table = _checked(config, lambda: savings_by(connection, period, _columns(by)))
        if format == "table":
            out.print(str(period), style="dim", highlight=False)
        write_table(table, format, output, made_of(connection, period, "billed"))
        _say_built_without(connection, period, by, ROLLUP_TABLE, before=False)


@report_app.command("commitments")
def report_commitments(
    unused: Annotated[bool, typer.Option("--unused", help="Unused commitment by its owner instead")] = False,
    by: Annotated[Literal["commitment", "team", "service"], typer.Option(help="team, service: coverage, utilisation and what one unit more would have saved and wasted")] = "commitment",
    days: Annotated[Literal["30", "60", "90"], typer.Option(help="With --by team or service: so many days back")] = "30",
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What of each commitment was used, over all days held, beside what it was bought for; or coverage by team."""
    with explained(), published(config) as connection:
        if by != "commitment":
            if unused:
                raise FinopsError("--unused goes without --by; leave one out")
            _report_commitment_use(connection, by, int(days), format, output)
            return
        if not Warehouse.has(connection, COMMITMENTS):
            raise FinopsError("no day was built yet (`finops run FROM TO`)")
        table = unused_by_owner(connection) if unused else commitments(connection)
        if format == "table" and not unused:
            table = table.only(COMMITMENT_FIGURES)
        write_table(table, format, output, made_of(connection))


def _report_commitment_use(
    connection: duckdb.DuckDBPyConnection,
    by: Literal["team", "service"],
    window: int,
    format: Format,
    output: Path | None,
) -> None:
    if not Warehouse.has(connection, COMMITMENT_USE):
        raise FinopsError("commitments were not looked at yet; run days (`finops run FROM TO`)")
    table = commitment_use_of(connection, window, "team" if by == "team" else "all")
    period = last_days(table, window)
    shown = [name for name in USE_FIGURES if by == "team" or name not in ("department", "team")]
    if format == "table" and period is not None:
        out.print(f"{period}, {window} days", style="dim", highlight=False)
    write_table(
        table.only(shown) if format == "table" else table, format, output, made_of(connection, period, "effective")
    )


@report_app.command("corrections")
def report_corrections(
    first: FromOption = None, end: ToOption = None,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What later bills brought to days before, and which bill. The amounts are in those days' figures."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, CORRECTIONS):
            raise FinopsError("no day was built yet (`finops run FROM TO`)")
        table = corrections(connection, first.date() if first else None, end.date() if end else None)
        period = _period(connection, ROLLUP_TABLE, first, end) if first or end else None
        write_table(table, format, output, made_of(connection, period))


@report_app.command("committed")
def report_committed(
    by: Annotated[str, typer.Option(help="Columns, comma-separated")] = ",".join(TEAMS_BY),
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What charges longer than a day still hold for days that are not reached, by month. These are no actuals."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, REPORTED_ACCRUALS):
            raise FinopsError("no day was built yet (`finops run FROM TO`)")
        table = _checked(config, lambda: committed(connection, _columns(by)))
        write_table(table, format, output, made_of(connection))


@report_app.command("allocation")
def report_allocation(
    first: FromOption = None, end: ToOption = None,
    basis: Annotated[Literal["effective", "billed"], typer.Option(help="Which cost")] = "effective",
    by_rule: Annotated[bool, typer.Option("--by-rule", help="What each rule moved from whom to whom instead")] = False,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Showback and chargeback side by side: each team's own cost, and what it bears after the rules of shared_cost."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, ALLOCATED_COST):
            raise FinopsError("nothing was allocated yet; set `shared_cost` in finops.yaml and run days")
        period = _period(connection, ROLLUP_TABLE, first, end)
        if format == "table":
            out.print(f"{period}, {basis} cost", style="dim", highlight=False)
        table = moves(connection, period, basis) if by_rule else allocation(connection, period, basis)
        write_table(table, format, output, made_of(connection, period, basis))
        for text in kept(connection, period):
            say("note", text)
        if gaps := missing_days(connection, period, ALLOCATED_COST):
            say("note", no_figures("the period", period, gaps))


@report_app.command("units")
def report_units(
    first: FromOption = None, end: ToOption = None,
    grain: Annotated[Literal["day", "week", "month"], typer.Option(help="A row a")] = "month",
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What one of something costs: an order, a customer, a request. By default all months."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, UNIT_COSTS):
            raise FinopsError(
                "no unit cost was made yet; set `unit_metrics` and `unit_costs` in finops.yaml and run days"
            )
        table = units_of(connection, grain, first.date() if first else None, end.date() if end else None)
        shown = None
        if len(table):
            begun, over = min(table["period_start"]), max(table["period_end"])
            shown = reported_within(connection, begun, over)
        write_table(table, format, output, made_of(connection, shown))
        for unit_cost, metric in sorted(set(zip(table["unit_cost"], table["metric"]))):
            of_it = [row for row in table if (row["unit_cost"], row["metric"]) == (unit_cost, metric)]
            lacks_quantity, lacks_cost = (
                max(row[lack] for row in of_it) for lack in ("days_without_quantity", "days_without_cost")
            )
            if lacks_quantity or lacks_cost:
                say(
                    "note",
                    f"{unit_cost}: days count that have both; periods lack up to {lacks_quantity} days of"
                    f" {metric} and up to {lacks_cost} of a source's cost",
                )


@report_app.command("waste")
def report_waste(
    certainty: Annotated[Literal["high", "medium", "low"], typer.Option(help="At least so sure")] = "low",
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Charges that the bill itself shows to be for nothing: idle addresses, storage that outlives its machine, and their like."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, WASTE):
            raise FinopsError("waste was not looked for yet; run days (`finops run FROM TO`)")
        table = waste_of(connection, CERTAINTIES[: CERTAINTIES.index(certainty) + 1])
        period = last_days(table, WINDOW_DAYS)
        # What has no name is known by its id.
        if format == "table":
            names = [row["name"] or row["ResourceId"] for row in table]
            table = table.with_column("name", names).only(WASTE_FIGURES)
        write_table(table, format, output, made_of(connection, period, "effective"))


@report_app.command("tokens")
def report_tokens(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated; also model, token_type")] = ",".join(TOKENS_BY),
    where: WhereOption = None, format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What did a million tokens cost, by model, type of token and team? Of every bill that counts tokens."""
    with explained(), published(config) as connection:
        period = _period(connection, ROLLUP_TABLE, first, end)
        providers = load_settings(config).providers
        table = _checked(config, lambda: tokens_by(connection, period, providers, _columns(by), _where(where)))
        if format == "table":
            out.print(str(period), style="dim", highlight=False)
        write_table(table, format, output, made_of(connection, period))


@report_app.command("html")
def report_html(
    month: Annotated[str | None, typer.Option(help="As 2026-10 (default: that of the newest reported day)")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file (default: beside the published copy)")] = None,
    group: Annotated[str | None, typer.Option(help="Of what this group of `access` sees alone; needs --output")] = None,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """A month on one page: an HTML file that asks for no other. Spend, budgets, forecast, anomalies, tags."""
    # Not for every report: templates take a tenth of a second to import.
    from finops_assets.evaluate.page.file import page_path, write_page
    from finops_assets.evaluate.page.gather import gather

    with explained():
        settings = load_settings(config)
        if group and not output:
            raise FinopsError("--group needs --output: beside the published copy lies the page of everybody")
        reach = group_reach(settings.access, group) if group else ALL
        with published(config) as whole:
            if reach.whole:
                figures = gather(whole, month)
            else:
                with narrowed(settings.published, reach) as connection:
                    figures = gather(connection, month)
        path = write_page(figures, output or page_path(settings.published, figures.month))
        out.print(f"{figures.period}: {path}", highlight=False, soft_wrap=True)


@report_app.command("digest")
def report_digest(
    name: Annotated[str, typer.Argument(help="One of `digests` in finops.yaml")],
    send: Annotated[bool, typer.Option("--send", help="Send it now; without, it is only shown")] = False,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """What a group gets in the post: the newest month of what it sees, in short."""
    from finops_assets.evaluate.page.digest import letter, send_digest

    with explained():
        settings = load_settings(config)
        chosen = next((digest for digest in settings.digests if digest.name == name), None)
        if chosen is None:
            known = ", ".join(digest.name for digest in settings.digests) or "none; set `digests` in finops.yaml"
            raise FinopsError(f"found {name!r}; digests: {known}")
        written, remark = send_digest(settings, chosen, os.environ) if send else (letter(settings, chosen), "")
        heading(written.subject)
        out.print(written.text, highlight=False, soft_wrap=True)
        if send:
            say("sent", f"to the channel {chosen.channel}{f'; {remark}' if remark else ''}", out)


def _compared(
    connection: duckdb.DuckDBPyConnection, period: Period, reported: str = REPORTED_NOW, rollup: str | None = None
) -> Comparison:
    """What is compared; says which days the figures do not hold."""
    compared = compare(connection, period, reported, rollup)
    _say(compared.notes)
    return compared


def _say(notes: list[str]) -> None:
    """On standard error, so that no format is disturbed."""
    for text in notes:
        say("note", text)


@report_app.command("clusters")
def report_clusters(
    first: FromOption = None, end: ToOption = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="A row a node and day")] = False,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What became of the charges of clusters' nodes: split by what ran on them, or not, and why. By default the latest month."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, CLUSTER_NODES):
            raise FinopsError(
                "nothing is known of clusters: name their usage in `clusters:` of finops.yaml (docs/guides/clusters.md),"
                " run days (`finops run FROM TO`), and publish"
            )
        period = _period(connection, ROLLUP_TABLE, first, end)
        table = nodes_report(connection, period) if nodes else clusters_report(connection, period)
        if format == "table":
            out.print(str(period), style="dim", highlight=False)
        write_table(table, format, output, made_of(connection, period, "effective"))


def _columns(by: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in by.split(",") if part.strip())


def _where(conditions: list[str] | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for condition in conditions or ():
        column, given, value = condition.partition("=")
        if not given or not column.strip():
            raise FinopsError(f"--where: found {condition!r}; a column and a value are needed, as team=search")
        found.setdefault(column.strip(), []).append(value)
    return found


def _checked(config: Path | None, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except ValueError as error:
        refused = str(error).partition("; allowed: ")[0].removeprefix("found ").split(", ")
        raise FinopsError(f"--by: {not_built(config, refused) or error}") from error


def _say_built_without(
    connection: duckdb.DuckDBPyConnection, period: Period, by: str, rollup: str, before: bool = True
) -> None:
    """Which days a dimension is null on, because they were built before finops.yaml had it, and on which all of its values
    stand together."""
    whole = Period(period.before.first, period.end) if before else period
    for name, days in days_collapsed(connection, whole, _columns(by), rollup).items():
        _say(
            [
                f"{name} has too many values to be summed by on {len(days)} of the days that are shown or compared, {days[0]} to"
                f" {days[-1]}: what has one of them stands together there, as {TOO_MANY}; the facts (`cloud_cost_facts`) have each"
            ]
        )
    for name, days in days_without(connection, whole, _columns(by), rollup).items():
        end = days[-1] + timedelta(days=1)
        _say(
            [
                f"{name} is not known of {len(days)} of the days that are shown or compared, {days[0]} to {days[-1]}: they were"
                f" built before finops.yaml had it. `finops run {days[0]} {end}` builds them with it, from what was landed"
            ]
        )
