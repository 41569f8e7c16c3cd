"""From evidence to a ranked, calibrated suggestion: one dimension of one set of resources.

1. What a feature says of a value is its share among the feature's tagged resources, shrunk to what the coarser
   feature says (a token within an account to the account, the account to all), as log-odds beyond it.
2. A small conditional logit learns how much each kind of evidence is worth, with "somebody else" as a choice.
3. The best value's probability is calibrated by what came of it on tagged resources that were held out.

2 and 3 learn by cross-fitting: a tagged resource is judged as if it and its fold had no tags. Half of the folds
are drawn by resource, half by account, so that accounts where nothing is tagged are learned from as well; and
with and without the other tags, so that a resource without any is judged by what such resources taught.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from finops_assets.evaluate.owners.evidence import FROM_TAGS, KIND_NUMBER, KINDS, NONE, WIDE, Evidence
from finops_assets.evaluate.owners.names import tokens
from finops_assets.focus.normal import normal_value

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SHRINK = 1.0
"""How many resources' worth the coarser evidence counts for beside a feature's own."""
FOLDS = 4
LEARN_FROM = 6_000
"""Tagged resources that the calibration is learned from, at the most; shares are counted over all."""
WEIGH = 3_000
"""Cases that the weights are learned from, at the most: there are two dozen of them."""
LEAST_TAGGED = 30
"""Fewer tagged resources than this teach nothing that could be relied on."""
CANDIDATES_A_FEATURE = 3
RESOURCES_AT_ONCE = 10_000
BIN = 50
"""Held-out resources behind each point of the calibration curve, at the least."""
BINS = 40
AN_ACCOUNT = 5.0
PROVEN_BY = 3
UNPROVEN = 2 / 3
RIDGE = 1.0
STEPS = 25

SAYS = ("name_says", "account_says", "parent_says")
"""The resource's own name, its account's, or its parent's holds every word of the value."""
COLUMNS = ("bias", "unseen_account", "common", *KINDS, *SAYS)
BIAS, UNSEEN, COMMON = range(3)
_NOBODY: Ints = np.zeros(0, dtype=np.int64)
FIRST_KIND = 3
FIRST_SAYS = FIRST_KIND + len(KINDS)


@dataclass(frozen=True)
class Labels:
    """A dimension's value by resource, as a number in `values`; NONE where it has none."""

    values: tuple[str, ...]
    of: Ints

    def without(self, hidden: Bools) -> Labels:
        return Labels(self.values, np.where(hidden, NONE, self.of))


@dataclass(frozen=True)
class Candidates:
    """Values that may be right, by resource: rows sorted by resource; `x` by COLUMNS; `best` the feature behind each kind."""

    resource: Ints
    label: Ints
    x: npt.NDArray[np.float32]
    best: npt.NDArray[np.int32]
    unseen: Bools
    """By row: no resource of its account is tagged."""
    proven: Bools
    """By row: some feature has at least PROVEN_BY resources of the value, and they are most of it."""

    @property
    def starts(self) -> Ints:
        return np.flatnonzero(np.r_[True, np.diff(self.resource) != 0]) if len(self.resource) else np.zeros(0, np.int64)


class Shares:
    """How often each feature goes with each value, over the resources whose labels are seen."""

    def __init__(self, evidence: Evidence, labels: Labels, allowed: Bools) -> None:
        self._parent = evidence.parent
        self._width = len(labels.values)
        label = labels.of[evidence.counted_resource]
        used = (label != NONE) & allowed[evidence.counted_feature]
        key = evidence.counted_feature[used].astype(np.int64) * self._width + label[used]
        self._key, self._count = np.unique(key, return_counts=True)
        self.size = np.bincount(evidence.counted_feature[used], minlength=len(evidence.kind))
        seen = labels.of[labels.of != NONE]
        owned = np.bincount(seen, minlength=self._width).astype(np.float64)
        self.common: Floats = (owned + 0.5) / (len(seen) + 0.5 * self._width + 1)
        # The values that a feature goes with most, for the candidates.
        feature = self._key // self._width
        # The keys are sorted: a stable order by what is left of the count keeps features together, values in order.
        most = int(self._count.max(initial=0))
        order = np.argsort(feature * (most + 1) + (most - self._count), kind="stable")
        first = np.flatnonzero(np.r_[True, np.diff(feature) != 0]) if len(feature) else _NOBODY
        rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
        top = order[rank < CANDIDATES_A_FEATURE]
        self._top_start = np.searchsorted(feature[top], np.arange(len(evidence.kind) + 1))
        self._top_label = self._key[top] % self._width

    def count(self, feature: Ints, label: Ints) -> Ints:
        """Resources that have both."""
        if not len(self._key):
            return np.zeros(len(feature), dtype=np.int64)
        key = feature * self._width + label
        at = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        return np.where(self._key[at] == key, self._count[at], 0)

    def share(self, feature: Ints, label: Ints) -> tuple[Ints, Floats, Floats]:
        """How many have a value, its shrunk share, and that of the coarser feature which it is shrunk to."""
        coarser: Floats = self.common[label].copy()
        parent = self._parent[feature]
        deeper = parent != NONE
        if deeper.any():
            coarser[deeper] = self.share(parent[deeper], label[deeper])[1]
        count = self.count(feature, label)
        share: Floats = (count + SHRINK * coarser) / (self.size[feature] + SHRINK)
        return count, share, coarser

    def top(self, feature: Ints) -> tuple[Ints, Ints]:
        """(position in `feature`, value) of the values that each feature goes with most."""
        start, end = self._top_start[feature], self._top_start[feature + 1]
        size = end - start
        position = np.repeat(np.arange(len(feature)), size)
        offset = np.arange(len(position)) - np.repeat(np.cumsum(size) - size, size)
        return position, self._top_label[start[position] + offset]


@dataclass(frozen=True)
class OwnWords:
    """Values that a resource's own words name, by resource and value: which of SAYS."""

    width: int
    key: Ints
    which: npt.NDArray[np.bool_]

    def of(self, resource: Ints, label: Ints) -> npt.NDArray[np.bool_]:
        if not len(self.key):
            return np.zeros((len(resource), len(SAYS)), dtype=bool)
        key = resource * self.width + label
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        result: Bools = self.which[at] & (self.key[at] == key)[:, None]
        return result


def _both(few: Ints, many: Ints) -> Ints:
    """What stands in two sorted arrays."""
    at = np.minimum(np.searchsorted(many, few), max(len(many) - 1, 0))
    return few[many[at] == few] if len(many) else many


def said(evidence: Evidence, values: tuple[str, ...]) -> OwnWords:
    """Which values stand in full, word for word, in a resource's name, its account's name or its parent's."""
    kinds = {"name_token": 0, "account_token": 1, "id_parent": 2}
    keys: list[Ints] = []
    which: list[int] = []
    for kind, says in kinds.items():
        of_kind = evidence.kind[evidence.feature] == KIND_NUMBER[kind]
        features, resources = evidence.feature[of_kind], evidence.of_resource[of_kind]
        words: dict[str, list[Ints]] = {}
        order = np.argsort(features, kind="stable")
        found, starts = np.unique(features[order], return_index=True)
        for feature, members in zip(found, np.split(resources[order], starts[1:])):
            for word in tokens(evidence.texts(int(feature))[0]):
                words.setdefault(word, []).append(members)
        having = {
            word: members[0] if len(members) == 1 else np.unique(np.concatenate(members))
            for word, members in words.items()
        }
        for number, value in enumerate(values):
            spoken = sorted((having.get(word, _NOBODY) for word in tokens(value)), key=len)
            if spoken and len(everyone := reduce(_both, spoken)):
                keys.append(everyone * len(values) + number)
                which.append(says)
    if not keys:
        return OwnWords(len(values), np.zeros(0, dtype=np.int64), np.zeros((0, len(SAYS)), dtype=bool))
    key, where = np.unique(np.concatenate(keys), return_inverse=True)
    table = np.zeros((len(key), len(SAYS)), dtype=bool)
    table[where, np.repeat(which, [len(k) for k in keys])] = True
    return OwnWords(len(values), key, table)


def candidates(evidence: Evidence, shares: Shares, says: OwnWords, allowed: Bools, resources: Ints) -> Candidates:
    """The values that the evidence of these resources (sorted) names, with what each kind says of each value."""
    start = np.searchsorted(evidence.of_resource, resources)
    end = np.searchsorted(evidence.of_resource, resources, side="right")
    size = end - start
    owner = np.repeat(np.arange(len(resources)), size)
    feature = evidence.feature[np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size) + start[owner]]
    feature = feature.astype(np.int64)
    told = allowed[feature] & (shares.size[feature] > 0)
    owner, feature = owner[told], feature[told]
    kind = evidence.kind[feature]

    wide = np.isin(kind, [KIND_NUMBER[k] for k in WIDE])
    position, label = shares.top(feature[~wide])
    width = len(shares.common)
    named = [owner[~wide][position] * width + label]
    if len(says.key):
        spoken = np.isin(says.key // width, resources)
        named.append(np.searchsorted(resources, says.key[spoken] // width) * width + says.key[spoken] % width)
    most = np.argsort(-shares.common, kind="stable")[:CANDIDATES_A_FEATURE]
    lonely = np.setdiff1d(np.arange(len(resources)), owner[~wide])
    named.append((lonely[:, None] * width + most).ravel())
    key = np.unique(np.concatenate(named))
    row_owner, row_label = key // width, key % width

    # Every (feature, candidate) pair of a resource.
    first = np.searchsorted(row_owner, np.arange(len(resources)))
    many = np.bincount(row_owner, minlength=len(resources))
    repeat = many[owner]
    pair_feature = np.repeat(feature, repeat)
    offset = np.arange(len(pair_feature)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    row = np.repeat(first[owner], repeat) + offset
    count, share, coarser = shares.share(pair_feature, row_label[row])
    beyond = _logit(share) - _logit(coarser)

    x = np.zeros((len(key), len(COLUMNS)), dtype=np.float32)
    best = np.full((len(key), len(KINDS)), NONE, dtype=np.int32)
    # Of several features of a kind (tokens, tags) the one that speaks most for the value counts.
    cell = row * len(KINDS) + evidence.kind[pair_feature]
    most_said = np.full(best.size, -np.inf)
    np.maximum.at(most_said, cell, beyond)
    winner = np.flatnonzero(beyond == most_said[cell])
    best.ravel()[cell[winner]] = pair_feature[winner]
    proves = (count >= PROVEN_BY) & (2 * count > shares.size[pair_feature])
    proven = np.bincount(row[proves], minlength=len(key)) > 0
    x[:, FIRST_KIND:FIRST_SAYS] = np.where(best == NONE, 0, most_said.reshape(best.shape))

    account = KIND_NUMBER["account"]
    unseen = best[:, account] == NONE
    x[:, BIAS] = 1
    x[:, UNSEEN] = unseen
    x[:, COMMON] = _logit(shares.common[row_label])
    x[:, FIRST_SAYS:] = says.of(resources[row_owner], row_label)
    return Candidates(resources[row_owner], row_label, x, best, unseen, proven)


def _logit(share: Floats) -> Floats:
    bounded = np.clip(share, 1e-6, 1 - 1e-6)
    result: Floats = np.log(bounded) - np.log1p(-bounded)
    return result


def probabilities(resource: Ints, x: npt.NDArray[Any], weights: Floats) -> Floats:
    """The probability of each candidate beside the others of its resource and "somebody else", who scores zero."""
    if not len(resource):
        return np.zeros(0)
    new = np.r_[True, np.diff(resource) != 0]
    starts, group = np.flatnonzero(new), np.cumsum(new) - 1
    score = x @ weights
    top = np.maximum(np.maximum.reduceat(score, starts), 0)
    power = np.exp(score - top[group])
    total = np.add.reduceat(power, starts) + np.exp(-top)
    result: Floats = power / total[group]
    return result


def learn_weights(resource: Ints, x: npt.NDArray[Any], right: Bools) -> Floats:
    """Weights by COLUMNS that make the right candidates most probable; evidence never counts against itself.

    A conditional logit with a ridge, by Newton's method; kinds whose weight comes out negative are left out and
    the rest learned again.
    """
    used = np.any(x != 0, axis=0)
    while True:
        weights = np.zeros(x.shape[1])
        weights[used] = _newton(resource, x[:, used].astype(np.float64), right)
        against = used & (weights < 0)
        against[[BIAS, UNSEEN]] = False
        if not against.any():
            return weights
        used &= ~against


def _newton(resource: Ints, x: Floats, right: Bools) -> Floats:
    weights = np.zeros(x.shape[1])
    if not len(x):
        return weights
    starts = np.flatnonzero(np.r_[True, np.diff(resource) != 0])
    nobody_right = np.add.reduceat(right.astype(np.int64), starts) == 0

    def loss(w: Floats, p: Floats) -> float:
        nobody = 1 - np.add.reduceat(p, starts)
        missed = np.log(np.maximum(p[right], 1e-12)).sum() + np.log(np.maximum(nobody[nobody_right], 1e-12)).sum()
        return float(0.5 * RIDGE * (w * w).sum() - missed)

    p = probabilities(resource, x, weights)
    now = loss(weights, p)
    for _ in range(STEPS):
        gradient = x.T @ (right - p) - RIDGE * weights
        weighted = x * p[:, None]
        means = np.add.reduceat(weighted, starts, axis=0)
        hessian = weighted.T @ x - means.T @ means + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        before = now
        # The loss is convex: half of a step that overshoots does not, sooner or later.
        for scale in (1.0, 0.5, 0.25, 0.1, 0.01):
            p = probabilities(resource, x, weights + scale * step)
            now = loss(weights + scale * step, p)
            if now <= before:
                break
        weights = weights + scale * step
        if before - now < 1e-6 * abs(before):
            break
    return weights


@dataclass(frozen=True)
class Curve:
    """Probability -> how often it proved right on held-out resources: rising, straight between its points."""

    at: Floats
    right: Floats

    def __call__(self, probability: Floats) -> Floats:
        if not len(self.at):
            return np.zeros(len(probability))
        result: Floats = np.interp(probability, self.at, self.right)
        return result


def calibrate(probability: Floats, right: Bools, account: Ints | None = None) -> Curve:
    """An isotonic curve through bins of at least BIN cases; fewer than BIN cases teach that nothing is sure.

    With `account`, by case: an account that was hidden as a whole is one experience, not one for each of its
    resources, and counts as AN_ACCOUNT cases at the most.
    """
    if len(probability) < BIN:
        return Curve(np.zeros(0), np.zeros(0))
    weight = np.ones(len(probability))
    if account is not None:
        _, number, size = np.unique(account, return_inverse=True, return_counts=True)
        weight = np.minimum(1, AN_ACCOUNT / size[number])
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, min(BINS, len(order) // BIN))
    blocks: list[tuple[float, float, int]] = []
    for part in parts:
        blocks.append((float(weight[part][right[part]].sum()), float(weight[part].sum()), 1))
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            (a, n, i), (b, m, j) = blocks[-2:]
            blocks[-2:] = [(a + b, n + m, i + j)]
    # One more right and one more wrong than seen: fifty of fifty is no certainty.
    level = np.repeat([(hits + 1) / (cases + 2) for hits, cases, _ in blocks], [count for *_, count in blocks])
    return Curve(np.array([probability[part].mean() for part in parts]), np.maximum.accumulate(level))


@dataclass(frozen=True)
class Regime:
    """What was learned for resources with other tags, or for those without any."""

    weights: Floats
    curves: tuple[Curve, Curve]
    """For accounts with tagged resources, and for those without any."""

    def confidence(self, probability: Floats, unseen: Bools) -> Floats:
        result: Floats = np.where(unseen, self.curves[1](probability), self.curves[0](probability))
        return result


@dataclass(frozen=True)
class Fitted:
    """Everything that suggesting a dimension needs."""

    evidence: Evidence
    labels: Labels
    shares: Shares
    says: OwnWords
    allowed: Bools
    bare: Regime
    tagged: Regime | None
    """None where no resource to be judged has other tags."""


def fit(evidence: Evidence, dimension: str, labels: Labels, judged: Ints) -> Fitted | None:
    """Learn from the resources whose label is seen, for the judging of `judged`; None where too few are tagged."""
    seen = np.flatnonzero(labels.of != NONE)
    if len(seen) < LEAST_TAGGED:
        return None
    allowed = evidence.tells(dimension)
    says = said(evidence, labels.values)
    learners = seen if len(seen) <= LEARN_FROM else seen[np.linspace(0, len(seen) - 1, LEARN_FROM).astype(np.int64)]
    account = _accounts(evidence)
    tagless = allowed & ~np.isin(evidence.kind, [KIND_NUMBER[k] for k in FROM_TAGS])
    shares = Shares(evidence, labels, allowed)
    speaking = has_tag_evidence(evidence, allowed, shares)
    with_tags = bool(speaking[judged].any()) and int(speaking[learners].sum()) >= LEAST_TAGGED
    bare: list[tuple[int, Candidates]] = []
    tagged: list[tuple[int, Candidates]] = []
    for number, (hidden, members) in enumerate(_folds(account, learners)):
        judging = np.zeros(len(evidence.resources), dtype=bool)
        judging[members] = True
        asked = np.zeros(len(evidence.kind), dtype=bool)
        asked[evidence.feature[judging[evidence.of_resource]]] = True
        counted = Shares(evidence, labels.without(hidden), allowed & asked)
        bare.append((number, candidates(evidence, counted, says, tagless, members)))
        members = members[speaking[members]]
        if with_tags and len(members):
            tagged.append((number, candidates(evidence, counted, says, allowed, members)))
    return Fitted(
        evidence,
        labels,
        shares,
        says,
        allowed,
        _learn(bare, labels, account),
        _learn(tagged, labels, account) if with_tags else None,
    )


def has_tag_evidence(evidence: Evidence, allowed: Bools, shares: Shares) -> Bools:
    """By resource: does any tag of it, other than the dimension's own, stand on a tagged resource as well?"""
    from_tags = np.isin(evidence.kind, [KIND_NUMBER[k] for k in FROM_TAGS]) & allowed & (shares.size > 1)
    result = np.zeros(len(evidence.resources), dtype=bool)
    result[evidence.of_resource[from_tags[evidence.feature]]] = True
    return result


def _accounts(evidence: Evidence) -> Ints:
    """The account of each resource, by its feature."""
    account = np.zeros(len(evidence.resources), dtype=np.int64)
    is_account = evidence.kind[evidence.feature] == KIND_NUMBER["account"]
    account[evidence.of_resource[is_account]] = evidence.feature[is_account]
    return account


def _folds(account: Ints, learners: Ints) -> Iterator[tuple[Bools, Ints]]:
    """(hidden, judged) of each fold: first by resource, then by whole accounts."""
    total = len(account)
    # Neighbours in the table have neighbouring names: a shuffle that is the same each time.
    shuffled = np.random.default_rng(0).permutation(total) % FOLDS
    accounts = np.unique(account[learners])
    of_account = np.random.default_rng(1).permutation(len(accounts)) % min(FOLDS, len(accounts))
    grouped = np.full(total, NONE)
    at = np.minimum(np.searchsorted(accounts, account), len(accounts) - 1)
    known = accounts[at] == account
    grouped[known] = of_account[at[known]]
    for fold_of, many in ((shuffled, FOLDS), (grouped, min(FOLDS, len(accounts)))):
        if many < 2:
            continue
        for fold in range(many):
            judged = learners[fold_of[learners] == fold]
            if len(judged):
                yield fold_of == fold, judged


def _learn(parts: list[tuple[int, Candidates]], labels: Labels, account: Ints) -> Regime:
    def learned(some: list[Candidates]) -> Floats:
        every = max(1, -(-sum(len(c.starts) for c in some) // WEIGH))
        case, x, right, cases = [], [], [], 0
        for found in some:
            number = np.cumsum(np.r_[True, np.diff(found.resource) != 0]) - 1
            kept = number % every == 0
            # A resource is judged twice, by two foldings: each time it is a case of its own.
            case.append(number[kept] + cases)
            x.append(found.x[kept])
            right.append(labels.of[found.resource[kept]] == found.label[kept])
            cases += len(found.starts)
        return learn_weights(np.concatenate(case), np.concatenate(x), np.concatenate(right))

    probability, correct, unseen = [np.zeros(0)], [np.zeros(0, dtype=bool)], [np.zeros(0, dtype=bool)]
    where = [np.zeros(0, dtype=np.int64)]
    # Judged by weights that other folds taught.
    for odd in (0, 1):
        judged = [c for n, c in parts if n % 2 == odd]
        others = [c for n, c in parts if n % 2 != odd]
        if not judged or not others:
            continue
        weights = learned(others)
        for found in judged:
            best, top = best_of(found, probabilities(found.resource, found.x, weights))
            probability.append(top)
            correct.append(labels.of[found.resource[best]] == found.label[best])
            unseen.append(found.unseen[best])
            where.append(account[found.resource[best]])
    top, right, alone = np.concatenate(probability), np.concatenate(correct), np.concatenate(unseen)
    curves = (
        calibrate(top[~alone], right[~alone]),
        calibrate(top[alone], right[alone], np.concatenate(where)[alone]),
    )
    return Regime(learned([c for _, c in parts]), curves)


def best_of(found: Candidates, probability: Floats) -> tuple[Ints, Floats]:
    """The row of each resource's most probable candidate, and its probability."""
    order = np.lexsort((found.label, -probability, found.resource))
    first = order[np.r_[True, np.diff(found.resource[order]) != 0]]
    return first, probability[first]


def sureness(found: Candidates, regime: Regime, rows: Ints, probability: Floats) -> Floats:
    """The calibrated confidence in these rows of `found`, whose probability is given.

    What is untagged is not like what is tagged: in a tidy estate one tagged resource tells the whole account, in
    the account that everybody uses it tells nothing, and calibration has mostly seen the tidy ones. So a value that
    does not have most of at least PROVEN_BY resources of anything behind it is no surer than UNPROVEN, but where
    the resource's own words name it.
    """
    confidence = regime.confidence(probability, found.unseen[rows])
    stands = found.proven[rows] | (found.x[rows, FIRST_SAYS:] > 0).any(axis=1)
    return np.where(stands, confidence, np.minimum(confidence, UNPROVEN))


@dataclass(frozen=True)
class Judged:
    """What was found for some resources: candidates with probability, and each resource's calibrated best.

    `best`: row of `found`, by judged resource that has a candidate; `confidence` beside it.
    """

    found: Candidates
    probability: Floats
    best: Ints
    confidence: Floats
    regime: Regime


def judge(fitted: Fitted, resources: Ints) -> Iterator[Judged]:
    """Judge resources (sorted), RESOURCES_AT_ONCE at a time, those with other tags apart from those without."""
    evidence, allowed = fitted.evidence, fitted.allowed
    tagless = allowed & ~np.isin(evidence.kind, [KIND_NUMBER[k] for k in FROM_TAGS])
    speaking = has_tag_evidence(evidence, allowed, fitted.shares)[resources]
    if fitted.tagged is None:
        speaking[:] = False
    for regime, may_tell, group in (
        (fitted.bare, tagless, resources[~speaking]),
        (fitted.tagged, allowed, resources[speaking]),
    ):
        if regime is None:
            continue
        for start in range(0, len(group), RESOURCES_AT_ONCE):
            found = candidates(evidence, fitted.shares, fitted.says, may_tell, group[start : start + RESOURCES_AT_ONCE])
            probability = probabilities(found.resource, found.x, regime.weights)
            best, top = best_of(found, probability)
            confidence = sureness(found, regime, best, top)
            yield Judged(found, probability, best, confidence, regime)


def labels_of(evidence: Evidence, dimension: str) -> Labels:
    """A dimension's labels from the resources' table."""
    column = evidence.resources.table[dimension]
    values = sorted({normal_value(str(v)) for v in column.dropna().unique()})
    number = {value: i for i, value in enumerate(values)}
    of = np.array([NONE if v is None or v != v else number[normal_value(str(v))] for v in column], dtype=np.int64)
    return Labels(tuple(values), of)
