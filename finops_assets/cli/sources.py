"""finops sources: connect a billing export, and see whether it can be used."""

from __future__ import annotations

from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.secrets import without_secrets
from finops_assets.cli.common import ConfigOption, explained, heading, out, say
from finops_assets.ingest.inspect import Inspection, Sample, check, inspect_all
from finops_assets.ingest.usage.inspect import UsageInspection, inspect_usage
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.storage.ledger import Ledger

sources_app = typer.Typer(no_args_is_help=True, help="Billing exports: what lies at a URI, and whether it can be used.")

SHOWN_DELIVERIES = 12
SHOWN_KEYS = 20


@sources_app.command("inspect")
def sources_inspect(
    uri: Annotated[str, typer.Argument(help="s3://, az://, https://<account>.blob…, gs://, or a local folder or file")],
    endpoint_url: Annotated[str | None, typer.Option(help="Of an S3-compatible store or an emulator")] = None,
) -> None:
    """Find out layout, FOCUS version, columns, periods and tags of an export; print the YAML to paste.

    Of a folder above several exports each is named. Usage of a Kubernetes cluster is known, too.
    """
    with explained():
        if usage := inspect_usage(uri, endpoint_url):
            _print_usage(usage)
            return
        found = inspect_all(uri, endpoint_url)
    if found[0].inside:
        _line(
            "note       ",
            f"{found[0].inside} lies inside of the export below; a source's uri ends at the export's folder",
        )
    if len(found) > 1:
        _line("exports    ", f"{len(found)} below {without_secrets(uri)}; each is a source of its own")
    for each in found:
        if len(found) > 1:
            heading(f"{each.uri}")
        _print(each)
    out.print("\nTo paste into finops.yaml:\n")
    first, *more = (each.yaml for each in found)
    out.print(first + "".join(y.partition("\n")[2] for y in more), highlight=False, soft_wrap=True)


@sources_app.command("check")
def sources_check(
    name: Annotated[str | None, typer.Argument(help="One source; all of finops.yaml by default")] = None,
    config: ConfigOption = None,
) -> None:
    """Reachable, permitted, complete, fresh? Says what is missing and what to do. Exit code 1 if one is not usable."""
    with explained():
        settings = load_settings(config)
        try:
            sources = settings.sources if name is None else (settings.source(name),)
        except KeyError as error:
            raise FinopsError(str(error.args[0])) from error
        usable, lake = True, Platform(settings).lake
        for source in sources:
            days = [day for g in Ledger(lake, source.name).all_live() for day in g.days]
            checked = check(source, max(days, default=None))
            usable &= checked.usable
            heading(source.name, f" ({source.layout})")
            for finding in checked.findings:
                say(finding.state, finding.what, out, "  ", width=8)
                if finding.advice:
                    _line("          → ", finding.advice)
    if not usable:
        raise typer.Exit(1)


def _print(found: Inspection) -> None:
    _line("layout     ", f"{found.layout} ({found.sign})")
    _line("size       ", f"{found.files} files, {found.size / 1e6:,.1f} MB below {found.uri}")
    whole = [d for d in found.deliveries if not d.problems]
    _line("deliveries ", f"{len(found.deliveries)}, {len(whole)} whole")
    for delivery in found.deliveries[-SHOWN_DELIVERIES:]:
        size = sum(f.size for f in delivery.files) / 1e6
        state = "; ".join(delivery.problems) or ("whole" if delivery.verified else "no manifest, so not verified")
        _line("           ", f"{delivery.scope}: {len(delivery.files)} files, {size:,.1f} MB, {state}")
    if len(found.deliveries) > SHOWN_DELIVERIES:
        _line("           ", f"… and {len(found.deliveries) - SHOWN_DELIVERIES} before")
    if found.problem:
        say("problem", found.problem, out, width=11)
    if found.sample is not None:
        _print_sample(found.sample)


def _print_usage(found: UsageInspection) -> None:
    _line("usage      ", "what ran on a Kubernetes cluster: no bill, but what nodes' charges are split by")
    _line("size       ", f"{found.files} files, {found.size / 1e6:,.1f} MB below {found.uri}")
    if found.problem:
        say("problem", f"{found.sample}: {found.problem}", out, width=11)
    else:
        days = f"{found.days[0]}" + (f" to {found.days[-1]}" if len(found.days) > 1 else "") if found.days else "no day"
        _line("looked into", f" {found.sample}: {days}, clusters {', '.join(found.clusters)}, {found.pods:,} pods")
        _line("nodes      ", f"{found.nodes:,}, of {found.by_provider_id:,} the provider id is told")
        if found.nameless:
            say("problem", f"{found.nameless:,} rows name no node; nothing can be split by them", out, width=11)
        _line("idle       ", found.idle)
        _line("labels     ", f"on {found.labels:,} rows")
    out.print(f"\nTo paste into finops.yaml:\n\n{found.yaml}", highlight=False, soft_wrap=True)


def _print_sample(sample: Sample) -> None:
    _line("looked into", f" {sample.key}, {sample.rows:,} rows")
    _line("FOCUS      ", f"{sample.focus_version}, {len(sample.columns)} columns: {', '.join(sample.columns)}")
    if sample.missing:
        _line("missing    ", f"mandatory in {sample.focus_version}: {', '.join(sample.missing)}")
    if sample.first_charge:
        _line("charges    ", f"{sample.first_charge:%Y-%m-%d} to {sample.last_charge:%Y-%m-%d} in this file")
    _line("tags       ", ", ".join(f"{name}: {how}" for name, how in sample.tag_encodings) or "no tag column")
    if sample.tag_keys:
        keys = ", ".join(f"{key} ({rows:,})" for key, rows in sample.tag_keys[:SHOWN_KEYS])
        more = len(sample.tag_keys) - SHOWN_KEYS
        _line("tag keys   ", keys + (f" … and {more} more" if more > 0 else ""))


def _line(mark: str, text: str) -> None:
    out.print(mark + text, highlight=False, soft_wrap=True)
