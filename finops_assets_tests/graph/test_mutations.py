"""Hostile deliveries land with exactly what other readers find in them, or are refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from finops_assets_tests.faults.mutations import fault, land, mutants

pytestmark = pytest.mark.slow  # by its time, not by what it needs


@pytest.mark.long
@pytest.mark.parametrize("part", range(6))
def test_hostile_deliveries_land_exactly_or_are_refused(part: int, tmp_path: Path) -> None:
    found = []
    for number, mutant in enumerate(mutants(seed=part, count=20)):
        said = fault(mutant, land(mutant, tmp_path / str(number)))
        if said:
            found.append(f"{mutant.name}: {said}")
    assert not found, "\n".join(found)
