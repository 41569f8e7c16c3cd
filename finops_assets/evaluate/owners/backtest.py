"""How good are the suggestions? Hide tags that are known, suggest, and compare. Nothing is learned from what is hidden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from finops_assets.evaluate.owners.evidence import FROM_TAGS, KIND_NUMBER, NONE, Evidence
from finops_assets.evaluate.owners.model import Bools, Labels, fit, judge, labels_of
from finops_assets.evaluate.owners.resources import Resources

Split = Literal["random", "accounts", "newest"]
SPLITS: dict[Split, str] = {
    "random": "30 % of the tagged resources, drawn at random",
    "accounts": "whole accounts, until 30 % of the tagged resources are hidden",
    "newest": "the 30 % that were first seen last",
}
HIDDEN_SHARE = 0.3
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
BINS = tuple(i / 10 for i in range(11))


def hidden(resources: Resources, labels: Labels, split: Split, seed: int = 0) -> Bools:
    """Which tagged resources a split hides, by resource."""
    tagged = np.flatnonzero(labels.of != NONE)
    random = np.random.default_rng(seed)
    size = int(HIDDEN_SHARE * len(tagged))
    result = np.zeros(len(resources), dtype=bool)
    match split:
        case "random":
            result[random.choice(tagged, size, replace=False)] = True
        case "newest":
            seen = pd.to_datetime(resources.table["first_seen"]).to_numpy()[tagged]
            # Equal days are drawn, or the alphabet would decide.
            result[tagged[np.lexsort((random.permutation(len(tagged)), seen))[len(tagged) - size :]]] = True
        case "accounts":
            accounts = pd.factorize(resources.table["source"] + "\x1f" + resources.table["account"].fillna(""))[0]
            for account in random.permutation(np.unique(accounts[tagged])):
                members = tagged[accounts[tagged] == account]
                # An account that would hide far more than wanted stays.
                if result.sum() + len(members) <= size * 1.2:
                    result[members] = True
                if result.sum() >= size:
                    break
    return result


def without_tags(evidence: Evidence, hidden: Bools) -> Evidence:
    """The evidence as if the hidden resources had no tags whatever."""
    from_tags = np.isin(evidence.kind, [KIND_NUMBER[kind] for kind in FROM_TAGS])
    kept = ~(from_tags[evidence.feature] & hidden[evidence.of_resource])
    counted = ~(from_tags[evidence.counted_feature] & hidden[evidence.counted_resource])
    return replace(
        evidence,
        of_resource=evidence.of_resource[kept],
        feature=evidence.feature[kept],
        counted_resource=evidence.counted_resource[counted],
        counted_feature=evidence.counted_feature[counted],
    )


def judged_hidden(evidence: Evidence, dimension: str, labels: Labels, hidden: Bools, bare: bool) -> pd.DataFrame:
    """Suggest for the hidden resources. Columns: row, confidence (0 where nothing was found), right, cost.

    `bare`: the hidden resources have lost all their tags, not only this dimension's.
    """
    seen = without_tags(evidence, hidden) if bare else evidence
    visible = labels.without(hidden)
    rows = np.flatnonzero(hidden)
    confidence, right = np.zeros(len(hidden)), np.zeros(len(hidden), dtype=bool)
    fitted = fit(seen, dimension, visible, rows)
    for judged in judge(fitted, rows) if fitted else ():
        at = judged.found.resource[judged.best]
        # Equal confidences are told apart by the probability behind them.
        confidence[at] = judged.confidence + 1e-9 * judged.probability[judged.best]
        right[at] = labels.of[at] == judged.found.label[judged.best]
    # A weight, not an amount: shares of money are all that comes of it.
    cost = evidence.resources.table["effective_cost"].to_numpy()[rows].astype(float)
    return pd.DataFrame({"row": rows, "confidence": confidence[rows], "right": right[rows], "cost": cost})


def precision_at(judged: pd.DataFrame, coverage: float, by_money: bool = False) -> float:
    """Of the most confident suggestions that cover so much of the hidden rows (or of their money), the share that is right.

    NaN where nothing is hidden, or where nothing but abstentions would fill the coverage.
    """
    order = judged.sort_values("confidence", ascending=False, kind="stable")
    weight = order["cost"] if by_money else pd.Series(1.0, index=order.index)
    within = weight.cumsum() <= coverage * weight.sum() * (1 + 1e-9)
    total = float(weight[within].sum())
    return float(weight[within & order["right"]].sum()) / total if total > 0 else float("nan")


def at_threshold(judged: pd.DataFrame, least: float) -> dict[str, float]:
    """Coverage and precision of the suggestions of at least this confidence, by rows and by money."""
    made = judged[judged["confidence"] >= least]
    cost = float(judged["cost"].sum())
    return {
        "coverage": len(made) / len(judged) if len(judged) else float("nan"),
        "precision": float(made["right"].mean()) if len(made) else float("nan"),
        "expected": float(made["confidence"].mean()) if len(made) else float("nan"),
        "coverage_money": float(made["cost"].sum()) / cost if cost else float("nan"),
        "precision_money": (
            float(made.loc[made["right"], "cost"].sum() / made["cost"].sum()) if made["cost"].sum() else float("nan")
        ),
    }


def reliability(judged: pd.DataFrame) -> list[dict[str, float]]:
    """By tenth of confidence: how many, what was said, what came true."""
    result = []
    for low, high in pairwise(BINS):
        part = judged[(judged["confidence"] >= low) & ((judged["confidence"] < high) | (high == 1.0))]
        if len(part):
            result.append(
                {
                    "from": low,
                    "to": high,
                    "resources": float(len(part)),
                    "confidence": float(part["confidence"].mean()),
                    "right": float(part["right"].mean()),
                }
            )
    return result


def calibration_error(curve: Iterable[dict[str, float]]) -> float:
    """The mean distance of confidence and truth over the bins, weighed by their resources."""
    bins = list(curve)
    total = sum(b["resources"] for b in bins)
    return sum(b["resources"] * abs(b["confidence"] - b["right"]) for b in bins) / total if total else float("nan")


def rounds(
    evidence: Evidence, dimension: str, labels: Labels, split: Split, bare: bool, seeds: int
) -> Iterator[pd.DataFrame]:
    """The judged hidden resources of a split, once for each seed."""
    for seed in range(seeds):
        hide = hidden(evidence.resources, labels, split, seed)
        if hide.any():
            yield judged_hidden(evidence, dimension, labels, hide, bare)


def backtest(evidence: Evidence, dimensions: Iterable[str], least: float, seeds: int = 3) -> pd.DataFrame:
    """How suggestions of at least this confidence would have done, for each dimension and way to hide tags.

    The hidden resources lose all their tags. Shares are means over the seeds; `expected` is the precision that the
    confidences promised. Dimensions with nothing to hide are left out.
    """
    rows = []
    for dimension in dimensions:
        labels = labels_of(evidence, dimension)
        for split, what in SPLITS.items():
            made = [at_threshold(judged, least) for judged in rounds(evidence, dimension, labels, split, True, seeds)]
            if made:
                means = pd.DataFrame(made).mean()
                rows.append({"dimension": dimension, "hidden": what, **{name: means[name] for name in made[0]}})
    return pd.DataFrame(rows)
