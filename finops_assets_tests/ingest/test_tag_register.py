"""Distinct tag sets are numbered as they are met, over batches and files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from finops_assets.ingest.tag_register import _Met


def of(*texts: str) -> pa.Array:
    return pa.array([text.encode().ljust(16) for text in texts], pa.binary(16))


def test_what_was_met_before_keeps_its_number() -> None:
    known = _Met()
    numbers, first = known.number(of("b", "a", "b", "c"))
    assert (numbers.tolist(), first.tolist()) == ([0, 1, 0, 2], [0, 1, 3])
    numbers, first = known.number(of("d", "c", "d", "a"))
    assert (numbers.tolist(), first.tolist()) == ([3, 2, 3, 1], [0])
    numbers, first = known.number(of())
    assert (len(numbers), len(first)) == (0, 0)
    assert known.number(of("d"))[0].dtype == np.int32
