"""How a node is called: by its cluster's exporter, and by the bills. One form for both, by which they are matched.

Kubernetes calls a node by a name and by a provider id (Node.spec.providerID):
    aws:///eu-west-1a/i-0abc…                                          the instance
    azure:///subscriptions/…/virtualMachineScaleSets/<set>/virtualMachines/0, or …/virtualMachines/<vm>
    gce://<project>/<zone>/<name>
OpenCost shortens those of AWS and Google to their last part. Bills write the instance's id or its ARN (AWS), the path of the
machine or of its scale set as a whole (Azure), a path with the number or the name of the instance (Google).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_INSTANCE = re.compile(r"(?:^|[/:])(i-[0-9a-f]{8,17})$")
# Names by the instance's id, as clusters of AWS have with resource-based names.
_NAMED_BY_ID = re.compile(r"^(i-[0-9a-f]{8,17})(?:\.|$)")
_SCALE_SET = re.compile(r"^(.*/virtualmachinescalesets/[^/]+)/virtualmachines/[^/]+$")
_GOOGLE = re.compile(r"(?:^|/)zones/([^/]+)/instances/([^/]+)$")
_GCE = re.compile(r"^gce://[^/]+/([^/]+)/([^/]+)$")

CLUSTER_TAGS = (
    "eks:cluster-name", "aws:eks:cluster-name", "alpha.eksctl.io/cluster-name", "goog-k8s-cluster-name",
    "aks-managed-cluster-name", "k8s-cluster-name", "karpenter.sh/discovery",
)  # fmt: skip
"""Tags by which a node's charge tells its cluster, beside `kubernetes.io/cluster/<name>`."""
_OWNED = "kubernetes.io/cluster/"


def keys_of_node(provider_id: str | None, node: str | None) -> list[str]:
    """How the bills may call a node, the closest first; empty where only its name can be looked for.

    >>> keys_of_node("aws:///eu-west-1a/i-0123456789abcdef0", "ip-10-0-0-1.ec2.internal")
    ['i-0123456789abcdef0']
    >>> keys_of_node("azure:///subscriptions/S/x/virtualMachineScaleSets/pool/virtualMachines/3", None)
    ['/subscriptions/s/x/virtualmachinescalesets/pool/virtualmachines/3', '/subscriptions/s/x/virtualmachinescalesets/pool']
    >>> keys_of_node("gce://acme/europe-west1-b/gke-shop-1", None)
    ['gce:europe-west1-b/gke-shop-1']
    """
    found: list[str] = []
    for text in (provider_id or "", node or ""):
        text = text.strip()
        lower = text.lower()
        if instance := _INSTANCE.search(lower) or _NAMED_BY_ID.match(lower):
            found.append(instance[1])
        elif google := _GCE.match(lower):
            found.append(f"gce:{google[1]}/{google[2]}")
        elif "/providers/microsoft.compute/" in lower or lower.startswith("azure://"):
            path = "/" + lower.removeprefix("azure://").lstrip("/")
            found.append(path)
            if part := _SCALE_SET.match(path):
                found.append(part[1])
        elif google := _GOOGLE.search(lower):
            found.append(f"gce:{google[1]}/{google[2]}")
    return list(dict.fromkeys(found))


def keys_of_charge(resource_id: str, resource_name: str | None) -> Iterator[str]:
    """What a bill's resource is called in the same form: none for what is no machine.

    >>> list(keys_of_charge("arn:aws:ec2:eu-west-1:1:instance/i-0123456789abcdef0", None))
    ['i-0123456789abcdef0']
    >>> list(keys_of_charge("//compute.googleapis.com/projects/1/zones/europe-west1-b/instances/77", "gke-shop-1"))
    ['gce:europe-west1-b/77', 'gce:europe-west1-b/gke-shop-1']
    """
    lower = resource_id.strip().lower()
    if instance := _INSTANCE.search(lower):
        yield instance[1]
    elif google := _GOOGLE.search(lower):
        yield f"gce:{google[1]}/{google[2]}"
        if resource_name and resource_name.lower() != google[2]:
            yield f"gce:{google[1]}/{resource_name.strip().lower()}"
    elif "/providers/microsoft.compute/virtualmachine" in lower:
        yield "/" + lower.lstrip("/")


def cluster_of_tags(tags: Mapping[str, object]) -> str | None:
    """The cluster that the tags of a charge name, if they name one.

    >>> cluster_of_tags({"kubernetes.io/cluster/shop": "owned", "team": "platform"})
    'shop'
    """
    for key in sorted(tags):
        if key.lower().removeprefix("user:").startswith(_OWNED):
            return key.lower().removeprefix("user:").removeprefix(_OWNED) or None
    by_key = {key.lower().removeprefix("user:"): value for key, value in tags.items()}
    return next((str(by_key[tag]) for tag in CLUSTER_TAGS if by_key.get(tag)), None)
