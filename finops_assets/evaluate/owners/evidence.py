"""Evidence: which things a resource has in common with others, as numbered features of a few kinds.

A feature is one such thing: an account, a name token, a token within an account. Each kind backs off to a
coarser one (a token within an account to the account), so that what two resources say of it is weighed by what
the account's hundred say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finops_assets.evaluate.owners.behaviour import moves_with
from finops_assets.evaluate.owners.names import (
    PARENT_TAGS,
    id_parents,
    masked,
    names_parents,
    own_part,
    pattern,
    tokens,
)
from finops_assets.evaluate.owners.resources import Resources
from finops_assets.focus.normal import normal_key, normal_value

Ints = npt.NDArray[np.int64]
Small = npt.NDArray[np.int32]

KINDS: dict[str, str] = {
    "account": "in {account}",
    "account_service": "in {account} of the service {1}",
    "account_region": "in {account} in the region {1}",
    "account_sku": "in {account} of the SKU {1}",
    "account_first_seen": "in {account} that were first seen on {1}, as this one,",
    "account_name_token": "in {account} with the name token `{1}`",
    "behaviour": "in {account} whose daily cost moves most like this one's",
    "account_token": "in accounts with `{0}` in their name",
    "service": "of the service {0}",
    "region": "in the region {0}",
    "sku": "of the SKU {0}",
    "name_token": "with the name token `{0}`",
    "name_pattern": "named like `{0}`",
    "id_parent": "in the {0}",
    "tag_parent": "in the {0}",
    "tag": "with the tag {0}",
    "tag_name_token": "with `{0}` in their tag Name",
}
"""Kind -> how its resources are called in a sentence; {account}, {0} and {1} are filled in. A kind's parent stands before it."""

KIND_NUMBER = {name: number for number, name in enumerate(KINDS)}
FROM_TAGS = frozenset({"tag", "tag_parent", "tag_name_token"})
WIDE = frozenset({"service", "region", "sku"})
"""Kinds that most resources share with too many owners to name one by themselves."""
NONE = -1


@dataclass(frozen=True)
class Evidence:
    """The features of all resources.

    `of_resource`, `feature`: pairs, sorted by resource. `counted_resource`, `counted_feature`: pairs by which a
    feature's owners are counted; they differ for behaviour alone, where a resource's own feature counts those
    that it moves with. By feature: `kind` (a number of KIND_NUMBER), `parent` (the feature that it backs off to,
    or NONE), `tag_key` (number in `tag_keys` of the tag that it comes from, or NONE).
    """

    resources: Resources
    of_resource: Small
    feature: Small
    counted_resource: Small
    counted_feature: Small
    kind: npt.NDArray[np.int8]
    parent: Ints
    tag_key: Ints
    tag_keys: tuple[str, ...]
    texts: Callable[[int], tuple[str, ...]]

    def sentence(self, feature: int) -> str:
        """How the resources with this feature are called."""
        texts = self.texts(feature)
        called = tuple(KINDS.values())[int(self.kind[feature])]
        return called.format(*texts, account=texts[0] if texts else "")

    def tells(self, dimension: str) -> npt.NDArray[np.bool_]:
        """By feature: may it speak of this dimension? Not if it comes from a tag that carries the dimension itself."""
        aliases = self.resources.aliases[dimension]
        carries = np.array([normal_key(key) in aliases for key in self.tag_keys] + [False])
        return ~carries[self.tag_key]


class _Features:
    """Collects features by kind; a feature is a text, or a pair of a parent feature and a text."""

    def __init__(self) -> None:
        self.count = 0
        self.pairs: list[tuple[Small, Small]] = []
        self.kinds: list[npt.NDArray[np.int8]] = []
        self.parents: list[Ints] = []
        self.tag_keys: list[Ints] = []
        self.first: list[int] = []
        self.texts: list[Callable[[int], tuple[str, ...]]] = []

    def add(
        self,
        kind: str,
        resource: Ints,
        code: Ints,
        text: Callable[[int], tuple[str, ...]],
        parent: Ints | None = None,
        tag_key: Ints | None = None,
        least: int = 2,
    ) -> Ints:
        """Enter pairs of resource and code (NONE: no such feature); returns the feature of each, NONE where left out.

        A feature of fewer than `least` resources is left out: it ties its resource to no other. `parent` and
        `tag_key` are by pair and the same for equal codes.
        """
        found, first, where, size = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
        kept = (size >= least) & (found != NONE)
        number = np.full(len(found), NONE, dtype=np.int64)
        number[kept] = self.count + np.arange(kept.sum())
        result: Ints = number[where]
        used = result != NONE
        self.pairs.append((resource[used].astype(np.int32), result[used].astype(np.int32)))
        self.kinds.append(np.full(kept.sum(), KIND_NUMBER[kind], dtype=np.int8))
        for column, by_pair in ((self.parents, parent), (self.tag_keys, tag_key)):
            column.append(by_pair[first[kept]] if by_pair is not None else np.full(kept.sum(), NONE))
        codes = found[kept]
        self.first.append(self.count)
        self.texts.append(lambda offset: text(int(codes[offset])))
        self.count += int(kept.sum())
        return result

    def text_of(self, feature: int) -> tuple[str, ...]:
        block = int(np.searchsorted(self.first, feature, side="right")) - 1
        # Blocks without features begin where the next one does.
        return self.texts[block](feature - self.first[block])


def gather(resources: Resources) -> Evidence:
    """Everything that the resources have in common, but their dimensions."""
    table = resources.table
    rows = np.arange(len(table))
    features = _Features()

    account_code, account_values = _coded(
        table["source"].astype(str) + "\x1f" + table["account"].fillna("").astype(str)
    )
    names = table["account_name"].fillna("").to_numpy(dtype=object)
    shown: list[str] = [""] * len(account_values)
    for row, code in zip(rows[::-1], account_code[::-1]):
        shown[code] = f"account {names[row] or account_values[code].partition(chr(31))[2] or '(none)'}"
    # An account of one resource stays: it says where the resource is, and that nothing else is there.
    account = features.add("account", rows, account_code, lambda c: (shown[c],), least=1)

    def within(kind: str, resource: Ints, code: Ints, values: Sequence[str], least: int = 2) -> Ints:
        """Features of an account and something else, that back off to the account."""
        pair = np.where(code == NONE, NONE, account_code[resource] * max(len(values), 1) + code)
        width = max(len(values), 1)
        return features.add(
            kind,
            resource,
            pair,
            lambda c: (shown[c // width], values[c % width]),
            parent=account[resource],
            least=least,
        )

    for column in ("service", "region", "sku"):
        code, values = _coded(table[column])
        features.add(column, rows, code, lambda c, values=values: (values[c],))  # type: ignore[misc]
        within(f"account_{column}", rows, code, values)
    first_day = resources.days[0] if resources.days else date.min
    seen = pd.Series([None if d <= first_day else d.isoformat() for d in _dates(table["first_seen"])], dtype=object)
    within("account_first_seen", rows, *_coded(seen))

    owner, code, values = _listed(
        tokens(str(name or "")) for name in names[np.unique(account_code, return_index=True)[1]]
    )
    by_account = _spread(account_code, owner, code, len(account_values))
    features.add("account_token", by_account[0], by_account[1], lambda c, values=values: (values[c],))  # type: ignore[misc]

    ids = table["ResourceId"].to_numpy(dtype=object)
    # Masked, thousands of names are a few: each is read once.
    own, own_texts = _coded(masked([own_part(i) for i in ids]))
    name, name_texts = _coded(masked(table["name"].to_numpy(dtype=object)))
    owner, code, values = _listed([tokens(text) for text in (*own_texts, *name_texts)])
    by_id, by_name = (
        _spread(own, owner, code, len(own_texts)),
        _spread(name, owner - len(own_texts), code, len(name_texts)),
    )
    pairs = np.unique(np.concatenate([a * max(len(values), 1) + b for a, b in (by_id, by_name)]))
    owner, code = pairs // max(len(values), 1), pairs % max(len(values), 1)
    features.add("name_token", owner, code, lambda c, values=values: (values[c],))  # type: ignore[misc]
    within("account_name_token", owner, code, values)
    patterns = [pattern(text) for text in (*name_texts, *own_texts)]
    code, values = _coded(pd.Series(patterns, dtype=object))
    called = np.where(name != NONE, name, own + len(name_texts))
    features.add("name_pattern", rows, code[called], lambda c, values=values: (values[c],))  # type: ignore[misc]
    owner, code, values = _id_parents(ids, account_code)
    features.add("id_parent", owner, code, lambda c, values=values: (values[c],))  # type: ignore[misc]

    tag_keys = _tags(features, table["tags"])

    neighbours = moves_with(
        resources.daily, account_code, (table[list(resources.dimensions)].notna().any(axis=1)).to_numpy()
    )
    watching, watched = neighbours
    own = features.add(
        "behaviour", watching, watching, lambda c: (shown[account_code[c]],), parent=account[watching], least=1
    )
    behaviour = features.pairs.pop()
    lookups = [*features.pairs, (np.unique(behaviour[0]), np.unique(behaviour[1]))]
    of_resource = np.concatenate([p[0] for p in lookups])
    feature = np.concatenate([p[1] for p in lookups])
    order = np.argsort(of_resource, kind="stable")
    return Evidence(
        resources=resources,
        of_resource=of_resource[order],
        feature=feature[order],
        counted_resource=np.concatenate([*(p[0] for p in features.pairs), watched.astype(np.int32)]),
        counted_feature=np.concatenate([*(p[1] for p in features.pairs), own.astype(np.int32)]),
        kind=np.concatenate(features.kinds),
        parent=np.concatenate(features.parents),
        tag_key=np.concatenate(features.tag_keys),
        tag_keys=tag_keys,
        texts=features.text_of,
    )


def _id_parents(ids: npt.NDArray[np.object_], account: Ints) -> tuple[Ints, Ints, list[str]]:
    """The parents that ids name. The same resource group name in two subscriptions is two groups."""
    with_parents = np.flatnonzero(names_parents(ids))
    owner, code, values = _listed(
        [f"{what} {name}\x1f{account[row] if what == 'resource group' else ''}" for what, name in id_parents(ids[row])]
        for row in with_parents
    )
    return with_parents[owner], code, [value.partition("\x1f")[0] for value in values]


def _tags(features: _Features, column: pd.Series[Any]) -> tuple[str, ...]:
    """Enter the tags; returns their keys."""
    keys: dict[str, int] = {}
    found = {kind: _TagFeatures() for kind in sorted(FROM_TAGS)}
    of_row, texts = _coded(column)
    for row, text in enumerate(texts):
        for key, value in json.loads(text).items():
            if value is None or value == "":
                continue
            normal, said = normal_key(key), normal_value(str(value))
            number = keys.setdefault(key, len(keys))
            what = PARENT_TAGS.get(normal)
            if what:
                found["tag_parent"].enter(row, number, normal, f"{what} {said}")
            else:
                found["tag"].enter(row, number, normal, f"{key.strip()}={said}")
            if normal == "name":
                for token in tokens(str(value)):
                    found["tag_name_token"].enter(row, number, normal, token)
    for kind, of_kind in found.items():
        listed = [text.partition("\x1f")[2] for text in of_kind.values]
        owner = np.array(of_kind.row, dtype=np.int64)
        entry = np.arange(len(owner))
        resource, entry = _spread(of_row, owner, entry, len(texts))
        features.add(
            kind,
            resource,
            np.array(of_kind.code, dtype=np.int64)[entry],
            lambda c, listed=listed: (listed[c],),  # type: ignore[misc]
            tag_key=np.array(of_kind.key, dtype=np.int64)[entry],
        )
    return tuple(keys)


@dataclass
class _TagFeatures:
    """The features of one kind that come from tags, as they are met, by distinct set of tags."""

    row: list[int] = field(default_factory=list)
    code: list[int] = field(default_factory=list)
    key: list[int] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)

    def enter(self, row: int, key: int, normal: str, shown: str) -> None:
        self.row.append(row)
        self.key.append(key)
        self.code.append(self.values.setdefault(f"{normal}\x1f{shown}", len(self.values)))


def _dates(column: pd.Series[Any]) -> Iterator[date]:
    return iter(pd.to_datetime(column).dt.date)


def _coded(column: pd.Series[Any] | npt.NDArray[np.object_]) -> tuple[Ints, list[str]]:
    """A column as numbers, NONE where it has no value, and the values."""
    codes, values = pd.factorize(column, sort=True)
    return codes.astype(np.int64), [str(v) for v in values]


def _listed(lists: Iterable[Iterable[str]]) -> tuple[Ints, Ints, list[str]]:
    """Lists of texts as pairs of row and number, and the texts."""
    numbers: dict[str, int] = {}
    row: list[int] = []
    code: list[int] = []
    for i, texts in enumerate(lists):
        for text in texts:
            row.append(i)
            code.append(numbers.setdefault(text, len(numbers)))
    return np.array(row, dtype=np.int64), np.array(code, dtype=np.int64), list(numbers)


def _spread(group: Ints, owner: Ints, code: Ints, groups: int) -> tuple[Ints, Ints]:
    """Pairs by group (sorted; those outside 0 to `groups` do not count) as pairs by member of the group."""
    start = np.searchsorted(owner, np.arange(groups + 1))
    member = np.flatnonzero(group != NONE)
    size = np.diff(start)[group[member]]
    row = np.repeat(member, size)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
    return row, code[start[group[row]] + offset]
