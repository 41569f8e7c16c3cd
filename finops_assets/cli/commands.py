"""Every command and group of commands, and the module that has it: imported when the command is used, not before.

`finops --help` and a report need not wait for what another command imports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

# Name -> module of this folder, what it has there (a function, or a group's app), and the first sentences of its help.
COMMANDS = {
    "init": (
        "init",
        "init",
        "Look at the places of the bills and write a project's files: finops.yaml, dagster.yaml, workspace.yaml, budgets.csv.",
    ),
    "ui": (
        "ui",
        "ui",
        "Dagster's UI, with its daemon and sensors, on the project of this folder, until it is stopped.",
    ),
    "demo": (
        "run",
        "demo",
        "A synthetic three-cloud estate through the whole graph for its last 62 days, and the three answers.",
    ),
    "run": ("run", "run", "Materialise raw, facts, rollup and reports for the days FROM up to but not including TO."),
    "backfill": (
        "run",
        "backfill",
        "As run, but only the days that are not what a run would make of them, and those that a gate holds.",
    ),
    "publish": (
        "run",
        "publish",
        "Make evaluations, reports and the published copy anew from the days that are built.",
    ),
    "status": (
        "status",
        "status",
        "Where does every source stand: newest day built, days awaited and since when, days held and why?",
    ),
    "prune": (
        "run",
        "prune",
        "Delete runs from Dagster's history that are old and superseded; the daemon does the same once a day.",
    ),
    "restatements": (
        "restatements",
        "restatements",
        "Per day, source, team and currency: what was reported, what replaced it when, and how it moved.",
    ),
    "repairs": (
        "repairs",
        "repairs",
        "Per delivery, file, rule and column: rows, the first value as written, and how far rounding moved it.",
    ),
    "conformance": ("conformance", "conformance", "Judge a data set by the rules of FOCUS that its rows can tell."),
    "forecast": (
        "forecast",
        "forecast",
        "What will the period have cost at its end? With 80 % and 95 % intervals; accrued cost, per currency.",
    ),
    "health": (
        "health",
        "health",
        "Is the platform well? Five figures, the last four weeks beside the four before, a bar a week.",
    ),
    "deliveries": (
        "deliveries",
        "deliveries_app",
        "What was delivered: source, period, generation, state, days changed.",
    ),
    "explore": (
        "explore",
        "explore",
        "The published copy as pages in a browser: who spent what, since when, and what it is made of.",
    ),
    "mcp": (
        "mcp",
        "mcp",
        "The published copy's questions for an assistant, by the Model Context Protocol on standard input and output.",
    ),
    "report": ("report", "report_app", "The answers. Ends are exclusive, days are UTC."),
    "reconcile": (
        "reconcile",
        "reconcile_app",
        "Does the cost agree with an invoice, a native bill, another source? Exit code 1 where it does not.",
    ),
    "export": ("export", "export_app", "Facts and tables, for other tools and for one group alone."),
    "rates": ("rates", "rates_app", "Exchange rates of the reporting currency."),
    "config": ("config", "config_app", "The configuration, finops.yaml."),
    "alerts": ("alerts", "alerts_app", "Alerts: what was told, and whether the channels work."),
    "budgets": ("budgets", "budgets_app", "Budgets of departments, teams and other dimensions: docs/guides/budgets.md"),
    "owners": ("owners", "owners_app", "Owner suggestions for untagged resources, and decisions on them."),
    "anomalies": ("anomalies", "anomalies_app", "Anomalies: found, explained, judged."),
    "rules": ("rules", "rules_app", "Attribution rules: a dry run, their versions, and what gave what."),
    "tags": ("tags", "tags_app", "Tag governance: coverage, values and keys, and who owes what."),
    "sources": ("sources", "sources_app", "Billing exports: what lies at a URI, and whether it can be used."),
}


class Commands(TyperGroup):
    """The group `finops`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast(Any, _WhenUsed())

    def list_commands(self, ctx: Any) -> list[str]:
        """Without importing one."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """A list of names with what is told of each needs none of them."""
        loading, self.commands = self.commands, {n: TyperCommand(n, help=told) for n, (*_, told) in COMMANDS.items()}
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = loading


class _WhenUsed(Mapping[str, Any]):
    """Name -> command, imported when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module, attribute, _ = COMMANDS[name]
            self._loaded[name] = _command(name, getattr(import_module(f"finops_assets.cli.{module}"), attribute))
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _command(name: str, made: Any) -> Any:
    if not isinstance(made, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(made)
        return typer.main.get_command(alone)
    group = typer.main.get_group(made)
    group.name = name
    return group
