"""finops alerts: what was told, and whether the channels work."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from finops_assets.alerts.alert import Alert, Notice
from finops_assets.alerts.channels import ChannelError, name_of, send
from finops_assets.alerts.dispatch import close
from finops_assets.alerts.history import AlertHistory, Row
from finops_assets.base.errors import FinopsError
from finops_assets.base.timestamps import minute
from finops_assets.cli.common import ConfigOption, explained, out, say
from finops_assets.settings.load import load_settings

alerts_app = typer.Typer(no_args_is_help=True, help="Alerts: what was told, and whether the channels work.")
STYLE = {"CRITICAL": "bold red", "WARNING": "yellow", "INFO": "dim"}


@alerts_app.command("list")
def alerts_list(
    only_open: Annotated[bool, typer.Option("--open", help="Only what nothing has resolved yet")] = False,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="Detected on this UTC day or later")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """The alert history, newest first. Times are UTC."""
    with explained():
        history = AlertHistory.beside(load_settings(config).warehouse)
        with history.opened() as opened:
            rows = opened.rows(only_open, since.replace(tzinfo=UTC) if since else None)
            has_seen = opened.has_seen()
    if not rows and not has_seen:
        out.print(
            "No alerts, because none were ever looked for: Dagster's daemon collects them, with the sensor `alerts`"
            " (every 30 s). Start it: `make ui`, `dagster dev` or `dagster-daemon run`; what was run before is then"
            " looked at too. Until then `finops deliveries` says what waits or was refused, `finops sources check`"
            " what is late, and `finops alerts test` tries the channels.",
            highlight=False,
            soft_wrap=True,
        )
        return
    if not rows:
        out.print("No alerts.")
        return
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("severity", "detected", "resolved", "alert", "channels"):
        shown.add_column(heading, no_wrap=heading not in ("alert", "channels"), overflow="fold")
    for row in rows:
        severity = row.alert.severity
        shown.add_row(
            Text(severity, STYLE[severity]),
            f"{row.detected_at:%Y-%m-%d %H:%M}",
            f"{row.resolved_at:%Y-%m-%d %H:%M}" if row.resolved_at else "open",
            row.alert.title,
            _channels(row),
        )
    out.print(shown)


def _channels(row: Row) -> str:
    return "\n".join(
        f"{name}: {'sent' if d['ok'] else 'not sent'}" + (f" ({d['last_error']})" if d["last_error"] else "")
        for name, d in row.deliveries.items()
    )


@alerts_app.command("test")
def alerts_test(config: ConfigOption = None) -> None:
    """Send a test to every channel, whatever its filters, and say what happened. Exits with 1 if one failed."""
    with explained():
        channels = load_settings(config).alerts.channels
        if not channels:
            raise FinopsError(
                "no channels are configured; add them under alerts.channels in finops.yaml (docs/guides/alerts.md)"
            )
    now = datetime.now(UTC)
    alert = Alert("test", "INFO", "finops_assets reaches this channel", f"A test of {minute(now)}; nothing is wrong.")
    failed = False
    for channel in channels:
        try:
            remark = send(channel, Notice(f"test-{now:%Y%m%d%H%M%S%f}", "test", alert, now), os.environ)
        except ChannelError as error:
            failed = True
            say("failed", f"{name_of(channel)}: {error}", out)
        else:
            say("sent", f"{name_of(channel)}{': ' if remark else ''}{remark}", out)
    if failed:
        raise typer.Exit(1)


@alerts_app.command("close")
def alerts_close(
    key: Annotated[str, typer.Argument(help="The alert's key, as alert_history has it, or its title")],
    note: Annotated[str, typer.Option(help="Why")] = "",
    config: ConfigOption = None,
) -> None:
    """Resolve an open alert by hand; the channels that were told of it are told. What is still wrong comes back."""
    with explained():
        history = AlertHistory.beside(load_settings(config).warehouse)
        with history.opened() as opened:
            keys = {a.alert.title: a.alert.key for a in opened.open_alerts().values()}
        if not close(history, keys.get(key, key), f"Closed by hand. {note}".strip(), datetime.now(UTC)):
            known = "; ".join(sorted(keys.values())) or "none"
            raise FinopsError(f"no open alert {key!r}; open: {known}")
    out.print("closed")
