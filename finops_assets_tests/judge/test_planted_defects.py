"""Defects planted at known money: nothing is held that need not be, nothing is published that should be held."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gates import DEFECTS, NOBODY, judged

pytestmark = pytest.mark.slow
BY_NAME = {defect.name: defect for defect in DEFECTS}


@pytest.mark.long
def test_money_is_held_where_it_must_be_and_nowhere_else(tmp_path: Path) -> None:
    draw = random.Random(12)
    cut = [d for right, count in (("built", 1), ("day held", 2)) for d in draw.sample(
        [d for d in DEFECTS if d.right == right], count)]  # fmt: skip
    # Two that go wrong on purpose, so that the sums are seen to tell: of limits that hold all, and that hold nothing.
    strict = replace(BY_NAME["clean"], name="strict", settings={"team": {"warn_above": 0, "block_above": 0}})
    lenient = replace(BY_NAME["untagged"], name="lenient", settings={"department": NOBODY, "team": NOBODY})
    *found, held, published = judged(tmp_path, [*cut, strict, lenient], rows=700)
    assert [(o.defect.name, o.held_in_vain, o.published_in_vain) for o in found] == [(d.name, 0, 0) for d in cut]
    assert min(o.at_stake for o in found) > 0
    assert (held.held_in_vain, held.published_in_vain) == (held.cost, 0)
    assert (published.held_in_vain, published.published_in_vain) == (0, published.at_stake)
