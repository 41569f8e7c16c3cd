"""A signal that arrives while the engine works is an interruption, whatever error the engine makes of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.interrupts import noting_interrupts, stopped_by_signals
from finops_assets.base.waiting import telling
from finops_assets.cli.working import working
from finops_assets.graph.executor import one_process
from finops_assets.graph.run_range import open_instance, run_owners
from finops_assets.ingest import landing
from finops_assets.storage.ledger import Ledger
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.places import PROJECT


@pytest.fixture
def handlers() -> Iterator[None]:
    """SIGTERM as commands have it; the handlers are as before in the end."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def interrupted_query() -> None:
    """A query of minutes in which SIGTERM arrives; by itself the engine often heeds it when all is done."""
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with nullcontext():  # what the handler raises comes as something is left, as it does in a run
        stopped_by_signals(duckdb.connect()).execute("SELECT max(md5(CAST(range AS VARCHAR))) FROM range(1000000000)")


def test_a_query_that_is_interrupted_outside_a_run_ends_the_command_as_interrupted(handlers: None) -> None:
    with pytest.raises(typer.Exit) as ended, working("Run it again."):
        interrupted_query()
    assert ended.value.exit_code == 128 + signal.SIGTERM


def test_a_step_that_fails_of_the_signal_ends_its_run_as_canceled_and_nothing_is_tried_again(
    handlers: None,
) -> None:
    tried = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def long_query() -> None:
        tried.append(1)
        interrupted_query()

    defs = dg.Definitions([long_query], jobs=[dg.define_asset_job("owners")], executor=one_process(60))
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(typer.Exit) as ended, working("Run it again."):
            run_owners(defs, instance)
        [run] = instance.get_runs()
    assert ended.value.exit_code == 128 + signal.SIGTERM
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert tried == [1]


def swallowed() -> None:
    """A signal to end whose exception is lost, as within a callback of the engine's, and comes out as an error of the query."""
    with suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)
    raise duckdb.InvalidInputException("counting the rows failed")


def test_what_the_engine_says_of_a_signal_is_no_verdict_on_a_delivery(
    site: Site, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_csv("bill.csv", focus_row())
    with monkeypatch.context() as patch, noting_interrupts():
        patch.setattr(landing, "write_slices", lambda *_: swallowed())
        with pytest.raises(KeyboardInterrupt):
            site.land()
    assert list(Ledger(site.platform.lake, site.source.name).all_live()) == []
    [landed] = site.land()
    assert landed.state == "live"


def test_a_run_that_nobody_at_a_terminal_started_notes_its_signals_too(handlers: None) -> None:
    tried = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def long_query() -> None:
        tried.append(1)
        with noting_interrupts():  # one within another takes nothing from it
            swallowed()

    defs = dg.Definitions([long_query], jobs=[dg.define_asset_job("owners")], executor=one_process(60))
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(KeyboardInterrupt):
            run_owners(defs, instance)
        [run] = instance.get_runs()
    assert tried == [1]
    assert run.status is dg.DagsterRunStatus.CANCELED


def test_a_step_that_is_tried_again_says_why_and_when() -> None:
    tried, said = [], list[str]()

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=1, delay=0))
    def flaky() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise FinopsError("the store is away")

    defs = dg.Definitions([flaky], jobs=[dg.define_asset_job("owners")], executor=one_process(60))
    with dg.DagsterInstance.ephemeral() as instance, telling(said.append):
        assert run_owners(defs, instance) == []
    assert said == ["flaky: the store is away; tried again in 0 s"]


def test_an_error_without_a_signal_stays_an_error() -> None:
    with pytest.raises(ValueError, match="of its own"), working("Run it again."):
        raise ValueError("of its own")


def test_what_a_step_of_a_command_prints_goes_to_the_runs_log_without_helpers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Dagster's helpers tell of an interrupt from the terminal in tracebacks of theirs.
    def started(*arguments: object, **_: object) -> None:
        raise AssertionError(f"a process was started: {arguments}")

    monkeypatch.setattr("dagster._core.execution.compute_logs.subprocess.Popen", started)

    @dg.asset
    def talking() -> None:
        print("said by the step")

    shipped = (PROJECT / "dagster.yaml").read_text(encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text(shipped, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    defs = dg.Definitions([talking], jobs=[dg.define_asset_job("owners")], executor=one_process(60))
    with open_instance() as instance:
        assert run_owners(defs, instance) == []
        [run] = instance.get_runs()
    [out] = (tmp_path / ".dagster" / "logs" / run.run_id).rglob("*.out")
    assert "said by the step" in out.read_text(encoding="utf-8")
    assert "said by the step" not in capfd.readouterr().out
