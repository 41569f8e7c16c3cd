"""Owner suggestions for untagged resources: ranked values with evidence and a calibrated confidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd

from finops_assets.cost.attribution.owner_decisions import Settled
from finops_assets.evaluate.owners.evidence import NONE, Evidence, gather
from finops_assets.evaluate.owners.model import (
    FIRST_KIND,
    FIRST_SAYS,
    SAYS,
    Fitted,
    Ints,
    Judged,
    Labels,
    best_of,
    fit,
    judge,
    labels_of,
    sureness,
)
from finops_assets.evaluate.owners.resources import Resources

MIN_CONFIDENCE = 0.7
"""Below this no suggestion is made: a wrong owner costs more trust than a missing one."""
UNDECIDED = Settled()
RANKS = 3
SENTENCES = 3
WHOSE = {"name_says": "its name", "account_says": "the name of its account", "parent_says": "its parent"}

SUGGESTION_COLUMNS = (
    "source",
    "ResourceId",
    "dimension",
    "rank",
    "value",
    "confidence",
    "evidence",
    "name",
    "account",
    "account_name",
    "service",
    "region",
    "first_seen",
    "BillingCurrency",
    "effective_cost",
)


@dataclass(frozen=True)
class Coverage:
    """What suggesting a dimension came to. Amounts are positive effective cost by currency."""

    dimension: str
    tagged: int
    untagged: int
    suggested: int
    expected_precision: float
    """The suggestions' mean confidence; NaN without any."""
    cost: Mapping[str, Decimal]
    cost_suggested: Mapping[str, Decimal]
    note: str = ""


@dataclass(frozen=True)
class Suggested:
    """`table` has SUGGESTION_COLUMNS: for each resource and dimension the suggestion (rank 1) and what else it may be.

    Confidence: how often such a suggestion proved right on tagged resources whose tags were hidden. The
    evidence of rank 1 are sentences with their counts, joined by "; ".
    """

    table: pd.DataFrame
    coverage: tuple[Coverage, ...]


def suggest(
    resources: Resources,
    dimensions: Iterable[str],
    settled: Settled = UNDECIDED,
    min_confidence: float = MIN_CONFIDENCE,
) -> Suggested:
    """Suggest a value of each dimension for the resources without one; abstain below `min_confidence`.

    Raises:
        ValueError: a dimension that the resources do not know.
    """
    wanted = list(dimensions)
    unknown = [d for d in wanted if d not in resources.aliases]
    if unknown:
        raise ValueError(f"found {', '.join(unknown)}; allowed: {', '.join(resources.dimensions)}")
    evidence = gather(resources)
    tables, coverage = [], []
    for dimension in wanted:
        table, covered = _suggest_one(evidence, dimension, settled, min_confidence)
        tables.append(table)
        coverage.append(covered)
    joined = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(SUGGESTION_COLUMNS))
    return Suggested(joined, tuple(coverage))


def _suggest_one(
    evidence: Evidence, dimension: str, settled: Settled, min_confidence: float
) -> tuple[pd.DataFrame, Coverage]:
    resources = evidence.resources
    table = resources.table
    labels = labels_of(evidence, dimension)
    open_rows = np.flatnonzero(labels.of == NONE)
    if dimension in resources.ruled:
        open_rows = open_rows[~resources.ruled[dimension][open_rows]]
    if settled.accepted:
        keys = zip(table["source"].to_numpy()[open_rows], table["ResourceId"].to_numpy()[open_rows])
        open_rows = open_rows[[(source, ident, dimension) not in settled.accepted for source, ident in keys]]
    fitted = fit(evidence, dimension, labels, open_rows)
    rows: dict[str, list[object]] = {name: [] for name in ("row", "rank", "value", "confidence", "evidence")}
    if fitted is not None:
        excluded = _excluded(resources, dimension, settled, labels)
        for judged in judge(fitted, open_rows):
            for entry in _entries(fitted, judged, excluded, min_confidence):
                for column, value in zip(rows.values(), entry):
                    column.append(value)
    at = np.array(rows.pop("row"), dtype=np.int64)
    result = pd.DataFrame(rows).astype({"rank": "int32", "confidence": "float64"})
    result.insert(0, "dimension", dimension)
    for name in SUGGESTION_COLUMNS:
        if name not in result.columns:
            result[name] = table[name].to_numpy(dtype=object)[at]
    # The costliest first, whatever their currency; as floats for the order alone.
    dear = -result["effective_cost"].astype(float).to_numpy()
    order = np.lexsort((result["rank"].to_numpy(), at, dear))
    result = result.iloc[order][list(SUGGESTION_COLUMNS)].reset_index(drop=True)
    first = result[result["rank"] == 1]
    few = f"only {int((labels.of != NONE).sum())} resources are tagged: too few to learn from" if fitted is None else ""
    return result, Coverage(
        dimension,
        int((labels.of != NONE).sum()),
        len(open_rows),
        len(first),
        float(first["confidence"].mean()) if len(first) else float("nan"),
        _sums(table["BillingCurrency"].to_numpy()[open_rows], table["effective_cost"].to_numpy()[open_rows]),
        _sums(first["BillingCurrency"], first["effective_cost"]),
        few,
    )


def _sums(currencies: Iterable[str], amounts: Iterable[Decimal]) -> dict[str, Decimal]:
    result: dict[str, Decimal] = {}
    for currency, amount in zip(currencies, amounts):
        result[currency] = result.get(currency, Decimal(0)) + amount
    return dict(sorted(result.items()))


def _excluded(resources: Resources, dimension: str, settled: Settled, labels: Labels) -> Ints:
    """Resource and value, as one number, of what was rejected."""
    mine = {(s, r): values for (s, r, d), values in settled.rejected.items() if d == dimension}
    if not mine:
        return np.zeros(0, dtype=np.int64)
    number = {value: i for i, value in enumerate(labels.values)}
    keys = zip(resources.table["source"], resources.table["ResourceId"])
    found = [
        row * len(labels.values) + number[value]
        for row, key in enumerate(keys)
        for value in mine.get(key, ())
        if value in number
    ]
    return np.array(sorted(found), dtype=np.int64)


def _entries(
    fitted: Fitted, judged: Judged, excluded: Ints, min_confidence: float
) -> Iterator[tuple[int, int, str, float, str]]:
    """(row, rank, value, confidence, evidence) of the resources that are sure enough."""
    found, labels = judged.found, fitted.labels
    probability = judged.probability
    best, confidence = judged.best, judged.confidence
    if len(excluded):
        barred = np.isin(found.resource * len(labels.values) + found.label, excluded)
        if barred.any():
            lost = np.bincount(found.resource[barred], probability[barred], minlength=int(found.resource.max()) + 1)
            probability = np.where(barred, 0, probability / np.maximum(1 - lost[found.resource], 1e-9))
            best, top = best_of(found, probability)
            confidence = sureness(found, judged.regime, best, top)
            confidence = np.where(barred[best], 0, confidence)
    sure = confidence >= min_confidence
    ends = np.r_[found.starts[1:], len(found.resource)]
    told = sentences(fitted, judged, best[sure])
    for row, end, value, why in zip(best[sure], ends[sure], confidence[sure], told):
        resource, start = int(found.resource[row]), int(np.searchsorted(found.resource, found.resource[row]))
        yield resource, 1, labels.values[found.label[row]], float(value), "; ".join(why)
        others = [i for i in range(start, int(end)) if i != row and probability[i] > 0.005]
        others.sort(key=lambda i: -probability[i])
        rest = max(1 - float(probability[row]), 1e-9)
        for rank, i in enumerate(others[: RANKS - 1], start=2):
            # What the first leaves over, in the proportion of the others.
            share = min(float(value), (1 - float(value)) * float(probability[i]) / rest)
            yield resource, rank, labels.values[found.label[i]], share, ""


def sentences(fitted: Fitted, judged: Judged, rows: Ints) -> Iterator[list[str]]:
    """What speaks for candidates (rows of `judged.found`), for each the strongest first, with the counts behind it."""
    found, evidence, shares = judged.found, fitted.evidence, fitted.shares
    worth = found.x[rows] * judged.regime.weights
    strongest = np.argsort(-worth, axis=1, kind="stable")[:, : 2 * SENTENCES]
    speaks = np.take_along_axis(worth, strongest, axis=1) > 0
    kind = np.clip(strongest - FIRST_KIND, 0, found.best.shape[1] - 1)
    feature = np.take_along_axis(found.best[rows], kind, axis=1).astype(np.int64)
    named = speaks & (strongest >= FIRST_KIND) & (strongest < FIRST_SAYS) & (feature != NONE)
    label = np.broadcast_to(found.label[rows][:, None], feature.shape)
    count = np.zeros(feature.shape, dtype=np.int64)
    count[named] = shares.count(feature[named], label[named])
    called = {int(f): (int(shares.size[f]), evidence.sentence(int(f))) for f in np.unique(feature[named & (count > 0)])}
    tagged = fitted.labels.of[fitted.labels.of != NONE]
    for i, row in enumerate(rows):
        value = fitted.labels.values[found.label[row]]
        result: list[str] = []
        for column, positive, counted, of in zip(strongest[i], speaks[i], count[i], feature[i]):
            if not positive or len(result) == SENTENCES:
                break
            if column >= FIRST_SAYS:
                result.append(f"{WHOSE[SAYS[column - FIRST_SAYS]]} says `{value}`")
            elif counted:
                size, these = called[int(of)]
                some = "the only tagged resource" if size == 1 else f"{counted} of {size} tagged resources"
                result.append(f"{some} {these} {'belongs' if counted == 1 else 'belong'} to {value}")
        if not result:
            owned = int((tagged == found.label[row]).sum())
            result.append(f"{owned} of all {len(tagged)} tagged resources belong to {value}")
        yield result
