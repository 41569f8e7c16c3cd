"""finops conformance: does a file, or a source's days, keep to FOCUS?"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.cli.common import ConfigOption, FromOption, OutputOption, ToOption, explained, out, say, write_table
from finops_assets.judge.conformance.judge import Finding
from finops_assets.judge.conformance.report import (
    breaks,
    findings_table,
    judge_files,
    judge_source,
    over_days,
    summary,
    write_junit,
)
from finops_assets.platform import Platform
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.load import config_path, load_settings
from finops_assets.settings.model import Settings
from finops_assets.tables.rows import Rows

SHOWN = {"failed": 0, "known_gap": 1, "passed": 2, "not_judged": 3}


def conformance(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="FILE|SOURCE…", help="A source of finops.yaml, or files, folders, globs, URIs"),
    ],
    version: Annotated[
        str | None, typer.Option(help="Judge by this FOCUS version, 1.0 to 1.4; by default the data's own")
    ] = None,
    first: FromOption = None,
    end: ToOption = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML for a CI system")] = None,
    fail_on: Annotated[Literal["error", "warning", "never"], typer.Option(help="What makes the exit code 1")] = "error",
    examples: Annotated[int, typer.Option(min=1, max=100, help="How many rows to sample for each broken rule")] = 3,
    everything: Annotated[bool, typer.Option("--all", help="Show kept and unjudged rules, too")] = False,
    format: Annotated[
        Literal["table", "csv", "json"],
        typer.Option("--format", "-f", help="csv and json go to standard output or --output"),
    ] = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """Judge a data set by the rules of FOCUS that its rows can tell.

    Files are judged as written, before anything is repaired. A source is judged from the lake's raw days.
    Exits with 1 if a rule of severity error is broken; known gaps of the provider do not count.
    """
    with explained():
        settings = _settings(config)
        name = targets[0]
        if settings and len(targets) == 1 and name in [s.name for s in settings.sources]:
            platform = Platform(settings)
            held = platform.lake.days("raw", name)
            days = [d for d in held if not (first and d < first.date()) and not (end and d >= end.date())]
            if not days:
                span = f"; it holds {held[0]} to {held[-1]}" if held else ""
                raise FinopsError(f"source {name!r}: the lake holds no raw day in that range{span}; run days first")
            findings = judge_source(platform, settings.source(name), days, version, examples)
        else:
            if first or end:
                raise FinopsError("--from and --to choose days of a source; a file is judged whole")
            # One word that is no path is meant as a source's name.
            if len(targets) == 1 and settings and not Path(name).exists() and re.fullmatch(r"[\w-]+", name):
                known = ", ".join(s.name for s in settings.sources)
                raise FinopsError(
                    f"{name!r} is no source of finops.yaml (allowed: {known}), and no file or folder here"
                )
            with tempfile.TemporaryDirectory(prefix="finops-") as scratch:
                engine = settings.engine if settings else EngineSettings()
                findings = judge_files(targets, engine, Path(scratch), version, examples)
            name = "conformance" if len(targets) > 1 else targets[0]
        if junit:
            write_junit(findings, name, junit)
        if format == "table" and not output:
            _show(findings, everything)
        else:
            table = Rows.of(findings_table(findings))
            write_table(table, "csv" if format == "table" else format, output)
        if fail_on != "never" and breaks(findings, fail_on):
            raise typer.Exit(1)


def _settings(config: Path | None) -> Settings | None:
    """finops.yaml, if there is one: a file can be judged without."""
    if config is None and not config_path().is_file():
        return None
    return load_settings(config)


def _show(findings: list[Finding], everything: bool) -> None:
    """Broken rules first: what is wrong, in how many rows, and where."""
    marks = {"known_gap": "gap", "passed": "kept", "not_judged": "-"}
    for f in sorted(over_days(findings), key=lambda f: (SHOWN[f.state], f.rule.severity != "error")):
        if f.state in ("passed", "not_judged") and not everything:
            continue
        mark = marks.get(f.state, f.rule.severity)
        rows = "columns" if f.rule.kind in ("columns", "presence") else "rows"
        figures = f.reason if f.state == "not_judged" else f"{f.failing:,} of {f.judged:,} {rows}"
        say(mark, f"{f.rule.id} ({f.rule.version})  {figures}", out, width=8)
        if f.failing:
            out.print(f"          {f.rule.says}", highlight=False, soft_wrap=True)
            for example in f.examples:
                out.print(f"          {example!s}", highlight=False, soft_wrap=True, style="dim")
    days = {f.day for f in findings if f.day}
    span = f", {len(days)} days {min(days)} to {max(days)}" if days else ""
    out.print(f"{summary(findings)}{span}", highlight=False, soft_wrap=True)
