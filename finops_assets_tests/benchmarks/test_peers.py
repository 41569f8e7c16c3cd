"""Other ways to the same answers: they are asked the same, and what differs is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import duckdb_script, ours, pandas_script
from benchmarks.peers.__main__ import Run, compared
from benchmarks.peers.answers import MARK
from benchmarks.platform import deliver

pytestmark = pytest.mark.slow  # by its time, not by what it needs


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A month of 2,000 rows, and its true totals."""
    folder = tmp_path_factory.mktemp("peers")
    return folder, deliver(str(folder), "2000")


def run(told: str) -> Run:
    [answers] = [json.loads(line.removeprefix(MARK)) for line in told.splitlines() if line.startswith(MARK)]
    return Run(1, 1, 1, tuple(answers["totals"]), tuple(map(tuple, answers["teams"])))


@pytest.mark.long
def test_other_ways_give_our_answers_and_what_differs_is_told(
    true: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, totals = true
    found = []
    for way in (ours, duckdb_script, pandas_script):
        way.main(str(folder))
        found.append(run(capsys.readouterr().out))
    by_us, by_script, by_pandas = found
    assert compared(by_us, by_us, totals) == compared(by_script, by_us, totals) == "to the last digit"
    # Binary money comes near.
    assert compared(by_pandas, by_us, totals).startswith("to ")
    assert len(by_us.teams) > 20
    other_count = replace(by_script, totals=(by_script.totals[0], "1", *by_script.totals[2:]))
    assert compared(other_count, by_us, totals) == "other counts: untagged_rows"
    first = by_script.teams[0]
    other_money = replace(by_script, teams=((*first[:3], "12.5", first[4]), *by_script.teams[1:]))
    assert compared(other_money, by_us, totals).startswith("off by")
    assert compared(replace(by_script, teams=by_script.teams[1:]), by_us, totals) == "other teams"
