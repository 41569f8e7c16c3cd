"""Versions of the rules: what each of them was, which facts carry it, and which value it gave to how much cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from finops_assets.base.errors import LakeError
from finops_assets.base.sql import identifier, literal
from finops_assets.cost.attribution.row_rules import OWNER, RULE
from finops_assets.cost.attribution.rules import Rules
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect, file_list
from finops_assets.storage.lake import Lake
from finops_assets.tables.rows import Rows

AUDIT = ("rules_version", "dimension", "value", "given_by", "key", "currency", "effective_cost", "row_count")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Version:
    """Rules that facts were attributed with. `body`: what decided, as `kept` wrote it."""

    version: str
    first_used: datetime
    body: dict[str, Any]


def keep_version(lake: Lake, rules: Rules) -> None:
    """Write down what these rules are, unless it stands there: facts carry their version only."""
    file = _file(lake, rules.version)
    if lake.holds(file):
        return
    row_rules, owners = rules.described()
    body = {
        "version": rules.version,
        "first_used": datetime.now(UTC).isoformat(),
        "dimensions": {
            d: {"keys": list(rules.aliases[d]), "values": dict(sorted(rules.values[d].items()))}
            for d in rules.dimensions
        },
        "placeholders": sorted(rules.placeholders),
        "attribution_rules": row_rules,
        "accepted_owners": owners,
        **({"clusters": clusters} if (clusters := rules.described_clusters()) else {}),
    }
    with lake.replacing(file, blind=True) as temporary:
        temporary.write_text(json.dumps(body, indent=1, ensure_ascii=False), encoding="utf-8")


def versions(lake: Lake) -> list[Version]:
    """Every version that was used, the oldest first."""
    found = []
    for file in lake.files(lake.root / "tag_sets", "rules=*/rules.json"):
        try:
            body = json.loads(file.read_text(encoding="utf-8"))
            found.append(Version(body.pop("version"), datetime.fromisoformat(body.pop("first_used")), body))
        except (ValueError, KeyError) as error:
            raise LakeError(
                f"lake {lake.name}: {file.relative_to(lake.root)} is damaged ({error}); restore it from a backup, or"
                " delete it: what that version of the rules was is then not known, facts are not touched"
            ) from error
    return sorted(found, key=lambda v: (v.first_used, v.version))


def difference(before: Version, after: Version) -> list[str]:
    """What changed between two versions, in words."""
    said: list[str] = []
    old, new = before.body["dimensions"], after.body["dimensions"]
    for dimension in dict.fromkeys([*old, *new]):
        if dimension not in new or dimension not in old:
            said.append(f"dimension {dimension} {'removed' if dimension not in new else 'added'}")
            continue
        for key in new[dimension]["keys"]:
            if key not in old[dimension]["keys"]:
                said.append(f"{dimension}: key {key} added")
        for key in old[dimension]["keys"]:
            if key not in new[dimension]["keys"]:
                said.append(f"{dimension}: key {key} removed")
        same_keys = set(old[dimension]["keys"]) == set(new[dimension]["keys"])
        if same_keys and old[dimension]["keys"] != new[dimension]["keys"]:
            said.append(f"{dimension}: keys in another order")
        values = old[dimension]["values"], new[dimension]["values"]
        for value in sorted({*values[0], *values[1]}):
            if values[0].get(value) != values[1].get(value):
                said.append(f"{dimension}: {value} becomes {values[1].get(value, value)}")
    if before.body["placeholders"] != after.body["placeholders"]:
        said.append("placeholders changed")
    rules = [{rule["name"]: rule for rule in v.body["attribution_rules"]} for v in (before, after)]
    for name in dict.fromkeys([*rules[0], *rules[1]]):
        if rules[0].get(name) != rules[1].get(name):
            what = "removed" if name not in rules[1] else "added" if name not in rules[0] else "changed"
            said.append(f"rule {name} {what}")
    kept = [[name for name in each if name in rules[1 - i]] for i, each in enumerate(rules)]
    if kept[0] != kept[1]:
        said.append("rules in another order")
    if before.body.get("clusters", []) != after.body.get("clusters", []):
        said.append("clusters, or who bears what is idle on them, changed")
    owners = [{json.dumps(o, sort_keys=True) for o in v.body["accepted_owners"]} for v in (before, after)]
    for count, what in ((len(owners[1] - owners[0]), "accepted"), (len(owners[0] - owners[1]), "withdrawn or changed")):
        if count:
            said.append(f"{count} owner{'s' if count > 1 else ''} {what}")
    return said or ["how rules are applied"]


def versions_table(lake: Lake, facts_rules: Mapping[tuple[str, date], str | None]) -> Rows:
    """Every version: first_used, the facts that carry it now (days, first_day, last_day), and what changed in it.

    `facts_rules`: (source, day) -> the version that its facts carry.
    """
    known = versions(lake)
    days: dict[str, set[date]] = {v.version: set() for v in known}
    for (_, day), carries in facts_rules.items():
        days.setdefault(carries or UNKNOWN, set()).add(day)
    rows: list[tuple[object, ...]] = []
    before: Version | None = None
    for version in known:
        carried = days.pop(version.version)
        changed = "; ".join(difference(before, version)) if before else "the first that was written down"
        rows.append(
            (
                version.version,
                version.first_used,
                len(carried),
                min(carried, default=None),
                max(carried, default=None),
                changed,
            )
        )
        before = version
    for name, carried in days.items():
        rows.append((name, None, len(carried), min(carried), max(carried), "was not written down"))
    return Rows(["rules_version", "first_used", "days", "first_day", "last_day", "changed"], rows)


def audit(
    lake: Lake, engine: EngineSettings, dimensions: Sequence[str], files: Iterable[tuple[Path, str | None]]
) -> Rows:
    """Which version of the rules gave which value: AUDIT, by version, dimension, value, and what gave it.

    `files`: facts files with the version that they carry. given_by is tag, rule, owner or nothing; of tags the key is
    as written, effective_cost is Decimal by currency.
    """
    by_version: dict[str, list[Path]] = {}
    for file, version in files:
        by_version.setdefault(version or UNKNOWN, []).append(file)
    rows: list[tuple[object, ...]] = []
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        for version, of_version in sorted(by_version.items()):
            relation = f"read_parquet({file_list(of_version)}, union_by_name = true, hive_partitioning = false)"
            there = {name for name, *_ in connection.execute(f"DESCRIBE FROM {relation}").fetchall()}
            for dimension in dimensions:
                if dimension not in there:
                    continue
                value, key = identifier(dimension), identifier(f"{dimension}_key")
                rows += connection.execute(
                    f"""
                    SELECT {literal(version)}, {literal(dimension)}, {value}, CASE
                        WHEN {key} IS NULL THEN 'nothing' WHEN {key} LIKE '{RULE}%' THEN 'rule'
                        WHEN {key} LIKE '{OWNER}%' THEN 'owner' ELSE 'tag' END, {key},
                        coalesce(BillingCurrency, '') AS currency,
                        coalesce(sum({EFFECTIVE}), 0) AS cost, count(*)
                    FROM {relation} GROUP BY 3, 5, 6 ORDER BY currency, cost DESC, 3, 5
                    """
                ).fetchall()
    return Rows(AUDIT, rows)


def _file(lake: Lake, version: str) -> Path:
    return lake.root / "tag_sets" / f"rules={version}" / "rules.json"
