"""finops config: finops.yaml."""

from __future__ import annotations

import typer

from finops_assets.cli.common import ConfigOption, explained, out
from finops_assets.cost.currency.rates import read_rates
from finops_assets.cost.engines.choose import require_extra
from finops_assets.evaluate.allocation.metric import read_quantities
from finops_assets.evaluate.budgets.plan import read_budgets
from finops_assets.evaluate.governance.policy import read_policy
from finops_assets.platform import Platform
from finops_assets.settings.load import config_path, load_settings

config_app = typer.Typer(no_args_is_help=True, help="The configuration, finops.yaml.")


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Read finops.yaml and the files that it names; report every mistake, with its place, what was found, what is allowed."""
    with explained():
        settings = load_settings(config)
        require_extra(settings.engine)
        if settings.currency:
            # Runs go on without it, with the converted figures held; whoever checks wants to know now.
            read_rates(settings.currency.rates)
        read_policy(settings)
        if settings.budgets:
            rules = Platform(settings).rules
            read_budgets(settings.budgets.file, rules.values, rules.dimensions)
        for rule in settings.shared_cost:
            if rule.metric and rule.metric.file:
                read_quantities(rule.metric.file)
        out.print(
            f"{config_path(config)}: fine. {len(settings.sources)} sources, dimensions"
            f" {', '.join(settings.dimensions)}, from {settings.first_day}.",
            highlight=False,
        )
