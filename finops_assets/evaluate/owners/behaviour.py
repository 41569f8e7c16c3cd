"""Cost behaviour over time: which resources of an account move alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST_DAYS = 10
ALIKE = 0.8
NEIGHBOURS = 5
COMPARED = 500
ROWS_AT_ONCE = 4_000


def moves_with(
    daily: npt.NDArray[np.float32], account: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs (resource, one that it moves with): within an account, the most alike of those whose owner is known.

    Alike is a correlation of the days' costs of at least ALIKE, after what the whole account does together
    (weekends, a month's growth) is taken out. Fewer than LEAST_DAYS days tell nothing. In an account of more
    than COMPARED known resources, as many are compared, evenly spread over it.
    """
    empty = np.zeros(0, dtype=np.int64)
    if daily.shape[1] < LEAST_DAYS or not known.any():
        return empty, empty
    order = np.argsort(account, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(account[order]) != 0])
    watching: list[npt.NDArray[np.int64]] = []
    watched: list[npt.NDArray[np.int64]] = []
    for members in np.split(order, starts[1:]):
        if len(members) < 4:
            continue
        shape = _unit(daily[members])
        moving = np.any(shape, axis=1)
        if not moving.any():
            continue
        shape[moving] = _unit(shape[moving] - shape[moving].mean(axis=0))
        members, shape = members[moving], shape[moving]
        others = np.flatnonzero(known[members])
        if len(others) > COMPARED:
            others = others[np.linspace(0, len(others) - 1, COMPARED).astype(np.int64)]
        for start in range(0, len(members) if len(others) else 0, ROWS_AT_ONCE):
            alike = shape[start : start + ROWS_AT_ONCE] @ shape[others].T
            row, column = np.nonzero(alike >= ALIKE)
            other = others[column]
            value = alike[row, column]
            row = row + start
            apart = row != other
            row, other, value = row[apart], other[apart], value[apart]
            nearest = np.lexsort((other, -value, row))
            row, other = row[nearest], other[nearest]
            rank = np.arange(len(row)) - np.searchsorted(row, row)
            watching.append(members[row[rank < NEIGHBOURS]])
            watched.append(members[other[rank < NEIGHBOURS]])
    if not watching:
        return empty, empty
    return np.concatenate(watching), np.concatenate(watched)


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows without their mean, of length one; a row that does not move is zero."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    still = length[:, 0] <= 1e-3 * np.linalg.norm(rows, axis=1) + 1e-12
    result: npt.NDArray[np.float32] = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    result[still] = 0
    return result
