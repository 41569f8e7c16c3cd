"""What owner suggestions are measured against: the account's majority, and naive Bayes on account, service, region, name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finops_assets.evaluate.owners.evidence import NONE
from finops_assets.evaluate.owners.model import Bools, Labels
from finops_assets.evaluate.owners.names import own_part, tokens
from finops_assets.evaluate.owners.resources import Resources


def account_majority(resources: Resources, labels: Labels, hidden: Bools) -> pd.DataFrame:
    """The value that most tagged resources of the account have, as sure as their share; nothing in an untagged account."""
    accounts = pd.factorize(resources.table["source"] + "\x1f" + resources.table["account"].fillna(""))[0]
    counts = np.zeros((accounts.max() + 1, len(labels.values)))
    seen = labels.without(hidden).of
    np.add.at(counts, (accounts[seen != NONE], seen[seen != NONE]), 1)
    rows = np.flatnonzero(hidden)
    of = counts[accounts[rows]]
    total, best = of.sum(axis=1), of.argmax(axis=1)
    # Shrunk by one resource: a single tagged one is not surer than fifty of sixty.
    confidence = np.where(total > 0, of.max(axis=1) / (total + 1), 0)
    return _judged(resources, labels, rows, best, confidence, total > 0)


def naive_bayes(resources: Resources, labels: Labels, hidden: Bools) -> pd.DataFrame:
    """Multinomial, add-one smoothed, over account, service, region and name tokens."""
    table = resources.table
    words: dict[str, int] = {}
    bags: list[list[int]] = []
    for account, service, region, ident, name in zip(
        *(table[c] for c in ("account", "service", "region", "ResourceId", "name"))
    ):
        said = [f"a:{account}", f"s:{service}", f"r:{region}"]
        said += [f"n:{t}" for t in {*tokens(own_part(ident)), *tokens(name or "")}]
        bags.append([words.setdefault(w, len(words)) for w in said])
    seen = labels.without(hidden).of
    counts = np.ones((len(labels.values), len(words)))
    for row in np.flatnonzero(seen != NONE):
        counts[seen[row], bags[row]] += 1
    log = np.log(counts) - np.log(counts.sum(axis=1, keepdims=True))
    sizes = np.bincount(seen[seen != NONE], minlength=len(labels.values))
    prior = np.where(sizes > 0, np.log(np.maximum(sizes, 1)), -np.inf)
    rows = np.flatnonzero(hidden)
    best, confidence = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows))
    for i, row in enumerate(rows):
        score = prior + log[:, bags[row]].sum(axis=1)
        power = np.exp(score - score.max())
        best[i], confidence[i] = power.argmax(), power.max() / power.sum()
    return _judged(resources, labels, rows, best, confidence, np.ones(len(rows), dtype=bool))


def _judged(
    resources: Resources,
    labels: Labels,
    rows: np.ndarray,
    best: np.ndarray,
    confidence: np.ndarray,
    made: np.ndarray,
) -> pd.DataFrame:
    cost = resources.table["effective_cost"].to_numpy()[rows].astype(float)
    right = (labels.of[rows] == best) & made
    return pd.DataFrame({"row": rows, "confidence": confidence, "right": right, "cost": cost})
