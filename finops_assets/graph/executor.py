"""How a run is executed: all steps in one process, which says so in the history, and which waits in its turn.

It is Dagster's in-process executor but for four things. The run says who works on it (`dead_runs`). Whoever waits, for
a slot of a pool or for another run over the same days, ends the runs whose process is gone, says for whom it waits, and
gives up after `wait_minutes`. It sleeps while it waits, where Dagster 1.13.27 keeps a core busy. And the slot of the
warehouse is handed from step to step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.base import Executor
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._utils.interrupts import pop_captured_interrupt

from finops_assets.base.interrupts import interrupted_by, noting_interrupts
from finops_assets.base.waiting import Wait, tell, teller, telling
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.dead_runs import describe, end_dead_runs, worked_on
from finops_assets.graph.failures import why
from finops_assets.graph.turns import take_turn
from finops_assets.storage.duck import lending
from finops_assets.storage.warehouse import kept_open

TRY_SECONDS, LOOK_SECONDS = 0.25, 1.0
KEPT_SECONDS = 2.0


def one_process(wait_minutes: float) -> dg.ExecutorDefinition:
    """The executor of all jobs; a run waits at most `wait_minutes` for a slot or for its turn."""

    @dg.executor(name="one_process", config_schema=IN_PROC_CONFIG)
    def executor(init_context: dg.InitExecutorContext) -> Executor:
        config = init_context.executor_config
        return _OneProcess(
            wait_minutes * 60,
            RetryMode.from_config(config["retries"]),  # type: ignore[arg-type]
            StepDependencyConfig.from_config(config.get("step_dependency_config")),  # type: ignore[arg-type]
        )

    return executor


class _OneProcess(Executor):
    def __init__(self, patience: float, retries: RetryMode, dependencies: StepDependencyConfig) -> None:
        self._patience = patience
        self._retries = retries
        self._dependencies = dependencies

    @property
    def retries(self) -> RetryMode:
        return self._retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._dependencies

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        instance, run, outer = plan_context.instance, plan_context.dagster_run, teller()

        def told(text: str) -> None:
            instance.report_engine_event(text, run)
            outer(text)

        yield DagsterEvent.engine_event(
            plan_context,
            f"Executing steps in process (pid: {os.getpid()})",
            EngineEventData.in_process(os.getpid(), execution_plan.step_keys_to_execute),
        )
        try:
            with telling(told), noting_interrupts(), worked_on(instance, run) as work:
                take_turn(work, run, execution_plan, self._patience)
                for event in ExecuteRunWithPlanIterable(
                    execution_plan=execution_plan,
                    iterator=self._steps,
                    execution_context_manager=PlanExecutionContextManager(
                        job=plan_context.job,
                        retry_mode=self._retries,
                        execution_plan=execution_plan,
                        run_config=plan_context.run_config,
                        dagster_run=run,
                        instance=instance,
                        raise_on_error=plan_context.raise_on_error,
                        output_capture=plan_context.output_capture,
                        step_dependency_config=self._dependencies,
                    ),
                ):
                    yield event
                    if event.is_step_up_for_retry:
                        retry = event.step_retry_data
                        tell(f"{event.step_key}: {why(retry.error)}; tried again in {retry.seconds_to_wait or 0:.0f} s")
                    if (event.is_step_failure or event.is_step_up_for_retry) and interrupted_by():
                        # The step failed of the signal, and nothing is to begin after it.
                        raise DagsterExecutionInterruptedError
        except (KeyboardInterrupt, DagsterExecutionInterruptedError):
            # A run of the command line that a person stops is canceled. Dagster calls that a failure.
            if run.remote_job_origin is None and (now := instance.get_run_by_id(run.run_id)) and not now.is_finished:
                instance.report_run_canceling(now, "Interrupted.")
            raise

    def _steps(self, job_context: PlanExecutionContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        # All steps of a run that need it, one after the other, and most of them for a moment.
        with (
            lending(),
            kept_open() as let_go,
            _Slots(job_context.instance, job_context.dagster_run, self._patience, let_go) as slots,
        ):
            yield from inner_plan_execution_iterator(job_context, execution_plan, slots)


class _Slots(InstanceConcurrencyContext):
    """Slots of pools, waited for with words and an end.

    The warehouse's is handed from step to step, which are short where days are few: to claim and free it takes as long as
    such a step's own queries. After KEPT_SECONDS whoever waits has his turn between two steps.
    """

    def __init__(
        self, instance: dg.DagsterInstance, run: dg.DagsterRun, patience: float, let_go: Callable[[], None]
    ) -> None:
        super().__init__(instance, run)
        self._let_go = let_go
        self._patience = patience
        self._waits: dict[str, Wait] = {}
        self._next_look: dict[str, float] = {}
        self._kept_by: str | None = None
        """The step in whose name the warehouse's slot was claimed, at `_kept_since` of `time.monotonic`."""
        self._kept_since = 0.0

    def __exit__(self, *raised: Any) -> None:
        self._free_kept()
        super().__exit__(*raised)

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        if concurrency_key != POOL:
            self._free_kept()
            self._let_go()
        elif self._kept_by is not None:
            return True
        if super().claim(concurrency_key, step_key, step_priority):
            self._waits.pop(step_key, None)
            if concurrency_key == POOL and step_key in self._claims:
                self._kept_by, self._kept_since = step_key, time.monotonic()
            return True
        # Who has the slot may be waiting for the warehouse.
        self._let_go()
        if pop_captured_interrupt():
            raise DagsterExecutionInterruptedError
        now = time.time()
        self._pending_timeouts[step_key] = min(self._pending_timeouts[step_key], now + TRY_SECONDS)
        if now >= self._next_look.get(step_key, 0.0):
            self._next_look[step_key] = now + LOOK_SECONDS
            wait = self._waits.setdefault(step_key, Wait(self._patience))
            before = self._before(concurrency_key)
            wait.goes_on(lambda: f"a slot of the pool {concurrency_key}: {self._holding(before)}", quiet=not before)
        return False

    def free_step(self, step_key: str) -> None:
        if self._kept_by is None or step_key in self._claims - {self._kept_by}:
            super().free_step(step_key)
        elif time.monotonic() > self._kept_since + KEPT_SECONDS:
            self._free_kept()

    def _free_kept(self) -> None:
        if self._kept_by is not None:
            super().free_step(self._kept_by)
            self._kept_by = None

    def interval_to_next_pending_claim_check(self) -> float:
        """Dagster's own answer is never above zero."""
        if not self._pending_claims:
            return 0.0
        ready = min(self._pending_timeouts.values(), default=0.0)
        return min(TRY_SECONDS, max(0.0, ready - time.time()))

    def _before(self, pool: str) -> list[str]:
        """The runs that have the pool's slots, or are to have them next, after the dead ones were ended."""
        storage = self._instance.event_log_storage
        info = storage.get_concurrency_info(pool)
        assigned = [step.run_id for step in info.pending_steps if step.assigned_timestamp is not None]
        before = {*(slot.run_id for slot in info.claimed_slots), *assigned} - {self._run_id}
        ended = end_dead_runs(self._instance, before)
        for line in ended:
            tell(line)
        if not info.claimed_slots and not assigned and isinstance(storage, SqlEventLogStorage):
            # Freed between somebody's look and their place in the queue: Dagster then gives the slot to nobody.
            storage.assign_pending_steps([pool])
        return sorted(before)

    def _holding(self, run_ids: list[str]) -> str:
        records = self._instance.get_run_records(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
        return f"it is held by {' and '.join(describe(record.dagster_run) for record in records) or 'nobody'}"
