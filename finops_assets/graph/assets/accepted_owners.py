"""accepted_owners: the owners that people accepted, as Dagster sees them: an input of the facts with a version.

People accept at the command line and by the asset `owner_decisions`, which follows the facts; so the facts cannot
depend on it. They depend on this external asset, whose version is reported: by a sensor, and by whoever builds facts.
"""

import dagster as dg

from finops_assets.cost.attribution.rules import Rules
from finops_assets.graph.keys import ACCEPTED, DATA_VERSION

NONE_YET = "INITIAL"
"""What Dagster takes as the version of an external asset of which nothing was reported."""


def accepted_spec(owner: str) -> dg.AssetSpec:
    """The external asset."""
    return dg.AssetSpec(
        ACCEPTED,
        group_name="given",
        owners=[owner],
        kinds={"sqlite"},
        description=(
            "Owners that people accepted: rules of the lowest rank. With them facts are out of date until they are"
            " attributed anew. docs/guides/owners.md"
        ),
    )


def accepted_input(rules: Rules) -> dict[str, str]:
    """Tags of a materialisation of the facts: which accepted owners they were built with."""
    name = ACCEPTED.to_user_string()
    return {
        f"dagster/input_data_version/{name}": rules.owners_version or NONE_YET,
        f"dagster/input_event_pointer/{name}": "NULL",
    }


def accepted_anew(instance: dg.DagsterInstance, rules: Rules) -> dg.AssetMaterialization | None:
    """The accepted owners as they are now, unless Dagster knows them."""
    version = rules.owners_version or NONE_YET
    records = instance.fetch_materializations(ACCEPTED, limit=1).records
    known = records[0].asset_materialization if records else None
    if version == ((known.tags or {}).get(DATA_VERSION, NONE_YET) if known else NONE_YET):
        return None
    return dg.AssetMaterialization(
        ACCEPTED, tags={DATA_VERSION: version}, metadata={"accepted": len(rules.owners), "rules_version": rules.version}
    )
