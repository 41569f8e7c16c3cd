"""finops anomalies: what was found, what drove it, and what people say of it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

import typer

from finops_assets.base.processes import account_name
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    OutputOption,
    explained,
    made_of,
    out,
    published,
    say,
    write_table,
)
from finops_assets.evaluate.anomalies.history import ENDED, Anomaly, AnomalyHistory, history_table
from finops_assets.evaluate.anomalies.key import CAUSES
from finops_assets.evaluate.anomalies.rates import rates, rates_table, today
from finops_assets.evaluate.comparison import recent_days
from finops_assets.settings.load import load_settings
from finops_assets.tables.envelope import NOTHING_SAID
from finops_assets.tables.rows import Rows

SHOWN = (
    "id", "first day", "days", "team", "what", "currency", "expected", "difference", "sigmas", "kind", "cause", "state",
)  # fmt: skip
anomalies_app = typer.Typer(no_args_is_help=True, help="Anomalies: found, explained, judged.")


@anomalies_app.command("list")
def anomalies_list(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that last")] = False,
    team: Annotated[str | None, typer.Option(help="Only this team's")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="That lasted to this UTC day or longer")
    ] = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """The anomalies, the newest first. Amounts: what their days cost above (+) or below (-) what was expected."""
    with explained():
        settings, about = load_settings(config), NOTHING_SAID
        found = AnomalyHistory.beside(settings.warehouse).all(since.date() if since else None)
        if settings.published.is_file():
            with published(config) as connection:
                about = made_of(connection, recent_days(connection))
    found = [a for a in found if (not only_open or a.resolved_at is None) and (team is None or a.key.team == team)]
    if format != "table":
        write_table(history_table(found), format, output, about)
        return
    if not found:
        out.print("No anomalies. They are looked for by the asset anomaly_history, after the rollup.")
        return
    rows = [
        (
            a.id, a.first_day, a.days, a.key.owner, a.key.ResourceId or a.key.ServiceCategory, a.key.currency,
            a.expected, a.excess, a.score, f"{a.kind} {'up' if a.direction > 0 else 'down'}", a.cause, _state(a),
        )
        for a in found
    ]  # fmt: skip
    write_table(Rows(SHOWN, rows), "table", None)


def _state(anomaly: Anomaly) -> str:
    ended = ENDED[anomaly.ended].partition(":")[0] if anomaly.ended else "open"
    return f"{ended}, {anomaly.verdict}" if anomaly.verdict else ended


@anomalies_app.command("show")
def anomalies_show(
    anomaly_id: Annotated[str, typer.Argument(metavar="ID", help="As list shows it, or its beginning")],
    config: ConfigOption = None,
) -> None:
    """One anomaly: its days, its likely cause, and what moved most."""
    with explained():
        a = AnomalyHistory.beside(load_settings(config).warehouse).find(anomaly_id)
    beyond = f"{a.excess:+,.2f} {a.key.currency}" + (f" ({a.percent:+,.0f} %)" if a.percent is not None else "")
    lines = {
        a.id: a.key.name,
        "days": f"{a.first_day} to {a.last_day}, {a.days} with figures; a {a.kind}, {a.score:g} sigmas on {a.surest_day}",
        "cost": f"{a.observed:,.2f} {a.key.currency}, expected {a.expected:,.2f}: {beyond}",
        "cause": f"{a.cause} ({CAUSES[a.cause]})",
        "evidence": a.evidence,
        "detected": f"{a.detected_at:%Y-%m-%d %H:%M} UTC",
        "ended": f"{a.resolved_at:%Y-%m-%d %H:%M} UTC, {ENDED[a.ended]}" if a.resolved_at and a.ended else "it lasts",
    }
    if a.verdict:
        by = f" by {a.judged_by}" if a.judged_by else ""
        lines["verdict"] = f"{a.verdict}{by}{': ' if a.note else ''}{a.note}"
    for name, text in lines.items():
        say(f"{name:<10}", text, out, style="bold")
    if a.drivers:
        out.print("\nwhat moved most, a day", style="dim")
        names, amounts = ("facet", "name"), ("before", "now", "change")
        moved = [(*(d[n] for n in names), *(Decimal(d[n]) for n in amounts)) for d in a.drivers]
        write_table(Rows((*names, *amounts), moved), "table", None)


@anomalies_app.command("resolve")
def anomalies_resolve(
    anomaly_id: Annotated[str, typer.Argument(metavar="ID", help="As list shows it, or its beginning")],
    verdict: Annotated[
        Literal["confirmed", "false"],
        typer.Option(help="confirmed: worth knowing; false: it should not have been told"),
    ],
    by: Annotated[str | None, typer.Option(help="Who says so (default: the user)")] = None,
    note: Annotated[str, typer.Option(help="Why")] = "",
    config: ConfigOption = None,
) -> None:
    """Say whether an anomaly was one. It ends; the verdicts make the false-positive rate of the team."""
    with explained():
        history = AnomalyHistory.beside(load_settings(config).warehouse)
        judged = history.judge(anomaly_id, verdict, datetime.now(UTC), by or account_name(), note)
    out.print(f"{judged.id} {judged.key.name}, {judged.first_day}: {verdict}", highlight=False)


@anomalies_app.command("rates")
def anomalies_rates(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """How often anomalies were false, by team, over 90 days; and the sigma that the verdicts support."""
    with explained():
        settings = load_settings(config)
        everything = AnomalyHistory.beside(settings.warehouse).all()
        found = rates(everything, settings.anomalies, today(max((a.last_day for a in everything), default=None)))
    if format == "table" and not found:
        out.print("No anomalies in the last 90 days.")
        return
    write_table(rates_table(found), format, output)
