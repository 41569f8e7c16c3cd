"""budgets and budget_evaluations: what people plan, in versions, and night by night what is spent and expected of it."""

from collections import Counter
from datetime import UTC, datetime

import dagster as dg

from finops_assets.base.content import version_of
from finops_assets.evaluate.budgets.evaluate import BUDGET_EVALUATIONS, Evaluation, evaluate, evaluations, keep
from finops_assets.evaluate.budgets.plan import BudgetsError, read_budgets
from finops_assets.evaluate.budgets.versions import BUDGETS_TABLE, changes, enter, in_force, version_in_force
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.assets.reports import NOT_YET, require_rolled_up
from finops_assets.graph.keys import ROLLUP
from finops_assets.platform import Platform
from finops_assets.settings.budgets import BudgetFile

GROUP = "evaluation"
SOUND, KNOWN = "file_is_sound", "owners_are_known"
SHOWN = ["budget", "period_start", "amount", "spent", "forecast", "low95", "high95", "severity", "reason", "problem"]


def budget_assets(file: BudgetFile, owner: str) -> list[dg.AssetsDefinition]:
    """The two assets, where budgets are configured."""

    @dg.asset(
        key=BUDGETS_TABLE,
        deps=[ROLLUP],
        group_name=GROUP,
        kinds={"duckdb"},
        owners=[owner],
        pool=POOL,
        check_specs=[
            dg.AssetCheckSpec(
                SOUND,
                asset=BUDGETS_TABLE,
                description="The file of budgets has no mistake. With one, the version before it stays in force.",
            )
        ],
        description=(
            "The budgets of the file, in versions: budget_changes says what changed when, and by which version an"
            " evaluation was made. docs/guides/budgets.md"
        ),
        metadata={"dagster/table_name": BUDGETS_TABLE, "file": str(file.file)},
    )
    def budgets(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads it
        note_inputs(context)
        now = datetime.now(UTC)
        mistakes = ""
        with platform.warehouse.writing() as connection:
            try:
                wanted = read_budgets(file.file, platform.rules.values, platform.rules.dimensions)
            except BudgetsError as error:
                mistakes = str(error)
                if not version_in_force(connection):
                    raise dg.Failure(f"{mistakes}\nNo version was entered before it.", allow_retries=False) from error
                loaded = None
            else:
                with platform.warehouse.transaction(connection):
                    loaded = enter(connection, wanted, now)
            version, held = version_in_force(connection), in_force(connection)
            last = changes(connection).frame().head(20)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(str(version)),
            metadata={
                "version": version,
                "dagster/row_count": len(held),
                "added, changed, removed": "not read"
                if loaded is None
                else f"{loaded.added}, {loaded.changed}, {loaded.removed}",
                "last changes": shown(last),
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=not mistakes,
                    check_name=SOUND,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"{mistakes}\nVersion {version} stays in force. Next: mend the file"
                    " (`finops budgets check`)."
                    if mistakes
                    else f"{len(held)} budgets, version {version}",
                )
            ],
        )

    @dg.asset(
        key=BUDGET_EVALUATIONS,
        deps=[ROLLUP, budgets],
        group_name=GROUP,
        kinds={"numpy", "duckdb"},
        owners=[owner],
        pool=POOL,
        check_specs=[
            dg.AssetCheckSpec(
                KNOWN,
                asset=BUDGET_EVALUATIONS,
                description="Every budget is for an owner that has cost, in a currency that it is billed in.",
            )
        ],
        description=(
            "Every budget by night: spent, expected at the period's end with 80 % and 95 % intervals, and how serious"
            " that is (INFO, WARNING, CRITICAL). Held days are gaps, not falls. The last night: the view budget_status."
            " docs/guides/budgets.md"
        ),
        metadata={"dagster/table_name": BUDGET_EVALUATIONS},
    )
    def budget_evaluations(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        note_inputs(context)
        now = datetime.now(UTC)
        with platform.warehouse.writing() as connection:
            require_rolled_up(connection)
            made = evaluate(connection, in_force(connection), version_in_force(connection))
            if made is None:
                raise dg.Failure(NOT_YET, allow_retries=False)
            through, judged = made
            with platform.warehouse.transaction(connection):
                keep(connection, through, judged, now)
            table = evaluations(connection).frame()
        serious = Counter(e.severity or "fine" for e in judged if e.problem is None)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version_of(through, judged)),
            metadata={
                "through": str(through),
                "budgets": len(judged),
                **{f"{name}": serious.get(name, 0) for name in ("CRITICAL", "WARNING", "INFO", "fine")},
                "table": shown(table[SHOWN]),
            },
            check_results=[_known(judged)],
        )

    return [budgets, budget_evaluations]


def _known(judged: list[Evaluation]) -> dg.AssetCheckResult:
    problems = list(dict.fromkeys(f"{e.budget.name}: {e.problem}" for e in judged if e.problem))
    return dg.AssetCheckResult(
        passed=not problems,
        check_name=KNOWN,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(problems) + ". Next: mend the file, or wait for the first cost."
        if problems
        else "all are",
    )
