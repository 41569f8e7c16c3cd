"""What names say: tokens, the pattern of a name, and the parents that ids and tags name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from finops_assets.focus.normal import normal_key

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SPLIT = re.compile(r"[^0-9A-Za-z]+")
_HEX = re.compile(r"(?=[a-f]*\d)[0-9a-f]{5,}")
_RANDOM = re.compile(r"(?=(?:\D*\d){2})[0-9a-z]{8,}")
_COUNTED = re.compile(r"\d+")
_LETTERS = re.compile(r"[a-z]{3,}")

# Tags that a platform sets on what it makes, or people by convention: they name what the resource is a part of.
PARENT_TAGS: Mapping[str, str] = {
    normal_key(key): kind
    for key, kind in {
        "aws:cloudformation:stack-name": "stack",
        "aws:autoscaling:groupName": "group",
        "aws:elasticbeanstalk:environment-name": "environment",
        "aws:eks:cluster-name": "cluster",
        "aws:ecs:clusterName": "cluster",
        "eks:cluster-name": "cluster",
        "alpha.eksctl.io/cluster-name": "cluster",
        "goog-k8s-cluster-name": "cluster",
        "goog-k8s-namespace": "namespace",
        "k8s-namespace": "namespace",
        "kubernetes_namespace": "namespace",
        "kubernetes.io/namespace": "namespace",
        "kubernetes.io/created-for/pvc/namespace": "namespace",
        "namespace": "namespace",
        "cm-resource-parent": "parent",
        "hidden-managedby": "parent",
        "terraform-workspace": "workspace",
        "pulumi:stack": "stack",
        "pulumi:project": "stack",
    }.items()
}

_ID_PARENTS = (
    ("resource group", re.compile(r"/resourcegroups/([^/]+)/", re.IGNORECASE)),
    ("project", re.compile(r"/projects/([^/]+)/", re.IGNORECASE)),
    ("namespace", re.compile(r"/namespaces/([^/]+)(?:/|$)", re.IGNORECASE)),
    ("cluster", re.compile(r"(?::task/|:service/|:cluster/|/clusters/|/managedclusters/)([^/]+)/", re.IGNORECASE)),
)


_MARKS = (
    "/resourcegroups/",
    "/projects/",
    "/namespaces/",
    ":task/",
    ":service/",
    ":cluster/",
    "/clusters/",
    "/managedclusters/",
)


def masked(texts: Sequence[str | None] | npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Texts with their long hashes and their numbers as 0, at once: what differs in nothing else is the same."""
    column = pa.array(texts, type=pa.string(), from_pandas=True)
    for expression in (r"\b[0-9a-f]{8,}\b", r"[0-9]+"):
        column = pc.replace_substring_regex(column, expression, "0")
    result: npt.NDArray[np.object_] = column.to_pandas().to_numpy(dtype=object)
    return result


def names_parents(ids: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """By id: may it name a parent? A quick look at all of them, so that few need a close one."""
    found = pc.match_substring_regex(pa.array(ids, type=pa.string()), "(?i)" + "|".join(_MARKS))
    result: npt.NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return result


@lru_cache(65_536)
def tokens(text: str) -> tuple[str, ...]:
    """The words of a name: split at punctuation and in camelCase, without numbers, hashes and random ids.

    >>> tokens("Checkout-apiWorker-07_i-0ae9198e3f12fa3e")
    ('checkout', 'api', 'worker')
    """
    found: dict[str, None] = {}
    for part in _SPLIT.split(_CAMEL.sub("-", text)):
        word = part.lower()
        if _HEX.fullmatch(word) or _RANDOM.fullmatch(word):
            continue
        word = word.strip("0123456789")
        if len(word) > 1 and not word.isdigit():
            found[word] = None
    return tuple(found)


def pattern(name: str) -> str | None:
    """A name with its numbers, hashes and random parts as #; None where too little of it is left to tell anything.

    >>> pattern("checkout-api-0ae9198e3f-12")
    'checkout-api-#-#'
    """
    parts = [
        "#" if _HEX.fullmatch(part) or _RANDOM.fullmatch(part) else _COUNTED.sub("#", part)
        for part in re.split(r"([^0-9a-z]+)", name.lower())
    ]
    text = "".join(parts)
    return text if "#" in text and sum(map(len, _LETTERS.findall(text))) >= 5 else None


def own_part(resource_id: str) -> str:
    """The part of an id that names the resource itself: after account and region in an ARN, the end of a path.

    >>> own_part("arn:aws:lambda:eu-west-1:123456789012:function:checkout-refund")
    'function:checkout-refund'
    >>> own_part("/subscriptions/1/resourcegroups/rg/providers/microsoft.compute/virtualmachines/vm-7")
    'vm-7'
    """
    if resource_id.startswith("arn:"):
        return resource_id.split(":", 5)[-1]
    return resource_id.rstrip("/").rpartition("/")[2] or resource_id


def id_parents(resource_id: str) -> Iterator[tuple[str, str]]:
    """(what, name) of the parents that an id names: an Azure resource group, a project, a cluster, a namespace."""
    for what, expression in _ID_PARENTS:
        match = expression.search(resource_id)
        if match:
            yield what, match[1].lower()
