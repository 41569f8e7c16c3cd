"""A seeded cut of the fault table: `make faults` tries all of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from finops_assets.base.errors import FinopsError
from finops_assets_tests.faults import files, hostile, kills, proxied
from finops_assets_tests.faults.bill import truth_of
from finops_assets_tests.faults.project import Done, Fault, Project, agreeing, compared, told
from finops_assets_tests.faults.table import Row, as_markdown, write_docs, write_json
from finops_assets_tests.faults.without_dagster import work

pytestmark = pytest.mark.slow  # by its time, not by what it needs

SEED = 11


def without_faults(rows: list[Row]) -> None:
    """Nothing was found, and something was tried; skipped where it cannot be tried here."""
    if all(row.skipped for row in rows):
        pytest.skip(rows[0].skipped)
    assert all(row.tried for row in rows if not row.skipped)
    assert [f"{trial}: {fault.kind}: {fault.what}" for row in rows for trial, fault in row.faults] == []


def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[Project], Done]:
    """One run of the work in this process: a process of its own takes seconds to begin."""

    def run(project: Project) -> Done:
        for name, value in project.environment.items():
            monkeypatch.setenv(name, value)
        days = sorted({key[0] for key in truth_of(project.exports)})
        began = time.monotonic()
        try:
            work(project.folder / "finops.yaml", days)
        except FinopsError as error:
            return Done(1, time.monotonic() - began, 0, f"error {error}")
        except Exception:
            return Done(2, time.monotonic() - began, 0, traceback.format_exc())
        return Done(0, time.monotonic() - began, 0, "")

    return run


@pytest.mark.long
def test_after_kills_one_after_another_the_next_run_ends_at_the_truth_and_nothing_is_left(tmp_path: Path) -> None:
    without_faults([kills.chain(tmp_path, SEED)])


@pytest.mark.long
def test_hostile_text_is_text_wherever_it_comes_out(tmp_path: Path) -> None:
    without_faults([hostile.texts(tmp_path, SEED, few=True)])


@pytest.mark.long
def test_mutated_files_and_manifests_land_exactly_or_are_refused_with_a_sentence(tmp_path: Path) -> None:
    without_faults(files.files(tmp_path, SEED, 40, first=100))


@pytest.mark.long
def test_a_store_that_hinders_gives_exact_figures_or_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, faults = ("S3",), ("drop", "truncate", "503", "etag", "late")
    without_faults(proxied.stores(tmp_path, SEED, kinds=kinds, faults=faults, work=in_process(monkeypatch)))


# ---- the harness finds what it is there to find ----

DAY = date(2026, 9, 1)


@pytest.mark.parametrize(
    ("rows", "kind"), [(1, "lost"), (3, "doubled"), (2, "silent")], ids=["fewer rows", "more rows", "another cost"]
)
def test_a_wrong_figure_is_found(rows: int, kind: str) -> None:
    old, new = ({(DAY, "core", "USD"): (2, cost, cost)} for cost in (Decimal(1), Decimal(2)))
    assert compared(old, [old, new], [DAY], "x") == []
    [fault] = compared({(DAY, "core", "USD"): (rows, Decimal(9), Decimal(9))}, [old, new], [DAY], "x")
    assert fault.kind == kind
    assert [f.kind for f in agreeing(old, new, [DAY])] == ["silent"]


@pytest.mark.parametrize(
    ("done", "kinds"),
    [
        (Done(0, 1, 1, "4 days built"), []),
        (Done(None, 120, 1, ""), ["hung"]),
        (Done(134, 1, 1, "terminate called after throwing"), ["unclear", "unclear"]),
        (Done(0, 1, 1, "Traceback (most recent call last):"), ["unclear"]),
    ],
)
def test_how_a_process_ends_is_judged(done: Done, kinds: list[str]) -> None:
    assert [fault.kind for fault in told(done, (0, 3))] == kinds


def test_the_table_keeps_what_was_not_tried_again(tmp_path: Path) -> None:
    one, two = Row("one"), Row("two")
    one.add("a", [Fault("lost", "x")], 2.0, 1.2)
    two.add("a", [])
    write_json(tmp_path / "faults.json", [one, two], {"seed": 1})
    two.add("b", [])
    result = write_json(tmp_path / "faults.json", [two], {"seed": 2})
    assert [(r["name"], r["tried"], r["lost"], r["of"]["seed"]) for r in result["rows"]] == [
        ("one", 1, 1, 1),
        ("two", 2, 0, 2),
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- faults: begin -->\nold\n<!-- faults: end -->\nafter\n", encoding="utf-8")
    write_docs(page, result)
    text = page.read_text(encoding="utf-8")
    assert as_markdown(result["rows"]) in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
