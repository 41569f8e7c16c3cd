"""Raw tags as messy as in real life, as SQL over the columns of the resource model.

The model decides who owns a resource and which facts about it were lost. This module only spells it: aliases,
upper and lower case, separators, placeholders, contradicting second aliases, and noise keys beside them. The
first alias with a usable value is the one that counts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """How one ownership fact is spelled. ``aliases``: spellings per alias, in the order of precedence.

    ``conflicts``: out of 1,000 resources, this many carry two aliases of which only one may count.
    """

    name: str
    aliases: tuple[tuple[str, ...], ...]
    conflicts: int


DIMENSIONS: tuple[Dimension, ...] = (
    Dimension(
        "department",
        (
            ("department", "Department", "DEPARTMENT"),
            ("dept", "Dept", "DEPT"),
            ("business_unit", "business-unit", "Business Unit", "BusinessUnit", "business.unit"),
        ),
        6,
    ),
    Dimension(
        "team",
        (
            ("team", "Team", "TEAM"),
            ("squad", "Squad", "SQUAD"),
            ("owner_team", "owner-team", "Owner Team", "owner.team"),
        ),
        20,
    ),
    Dimension(
        "environment",
        (("environment", "Environment", "ENVIRONMENT"), ("env", "Env", "ENV"), ("stage", "Stage", "STAGE")),
        4,
    ),
    Dimension(
        "cost_center",
        (
            ("cost_center", "cost-center", "Cost Center", "cost.center", "Cost_Center"),
            ("costcenter", "CostCenter", "COSTCENTER"),
            ("cc", "CC"),
        ),
        0,
    ),
)

PLACEHOLDERS: tuple[str, ...] = ("", "none", "N/A", "unknown", "null")

_ENVIRONMENT_SPELLINGS: dict[str, tuple[str, ...]] = {
    "prod": ("prod", "production", "prd", "PROD", "Production", " prod "),
    "staging": ("staging", "stg", "Staging", "STAGING"),
    "dev": ("dev", "development", "DEV", "Development", "dev "),
    "test": ("test", "Test", "TEST"),
}


def _choice(options: tuple[str, ...], hash_sql: str, shift: int) -> str:
    listed = ", ".join("'" + option.replace("'", "''") + "'" for option in options)
    return f"[{listed}][1 + draw({hash_sql}, {shift}, {len(options)})]"


def _key(source: str, dimension: Dimension, rank: int, hash_sql: str) -> str:
    key = _choice(dimension.aliases[rank], hash_sql, 20)
    if source == "aws":  # Cost allocation tags that users defined arrive with this prefix in some payers.
        return f"CASE WHEN draw({hash_sql}, 30, 10) < 4 THEN 'user:' ELSE '' END || {key}"
    return key


def _spelled(dimension: Dimension, value: str, hash_sql: str) -> str:
    if dimension.name == "environment":
        arms = " ".join(
            f"WHEN '{canonical}' THEN {_choice(spellings, hash_sql, 34)}"
            for canonical, spellings in _ENVIRONMENT_SPELLINGS.items()
        )
        return f"CASE {value} {arms} END"
    return (
        f"CASE draw({hash_sql}, 34, 10) WHEN 0 THEN upper({value}) "
        f"WHEN 1 THEN upper({value}[1]) || {value}[2:] WHEN 2 THEN ' ' || {value} "
        f"WHEN 3 THEN {value} || '  ' "
        f"ELSE {value} END"
    )


def _entry(key: str, value: str) -> str:
    return f"{{'key': {key}, 'value': {value}}}"


def _dimension_entries(source: str, dimension: Dimension, number: int, value: str, decoy: str) -> list[str]:
    """Two list elements (each may be NULL): what is written for one ownership fact of one resource."""
    bits = f"hash(tag_identity, tag_salt, {number})"
    mode = f"draw({bits}, 0, 1000)"
    known = f"{dimension.name}_known"
    keys = [_key(source, dimension, rank, bits) for rank in range(3)]
    placeholder = _choice(PLACEHOLDERS, bits, 44)
    spelled = _spelled(dimension, value, bits)
    plain = 1000 - dimension.conflicts
    # From here on two aliases are present: in the first half both hold a value and the first alias counts, in
    # the second half the first is a placeholder and so the second counts.
    both_filled = 1000 - dimension.conflicts // 2
    first = (
        f"CASE WHEN NOT {known} THEN CASE WHEN {mode} < 600 THEN NULL "
        f"ELSE {_entry(keys[0], placeholder)} END "
        f"WHEN {mode} < 700 THEN {_entry(keys[0], spelled)} "
        f"WHEN {mode} < 850 THEN {_entry(keys[1], spelled)} "
        f"WHEN {mode} < {plain} THEN {_entry(keys[2], spelled)} "
        f"WHEN {mode} < {both_filled} THEN {_entry(keys[0], spelled)} "
        f"ELSE {_entry(keys[0], placeholder)} END"
    )
    second = (
        f"CASE WHEN NOT {known} THEN CASE WHEN {mode} < 900 THEN NULL "
        f"ELSE {_entry(keys[1], placeholder)} END "
        f"WHEN {mode} < {plain} THEN NULL "
        f"WHEN {mode} < {both_filled} THEN {_entry(keys[1], decoy)} "
        f"ELSE {_entry(keys[1], spelled)} END"
    )
    return [first, second]


def tag_list_sql(source: str, team: str) -> str:
    """A LIST<STRUCT(key, value)> of one resource's tags; ``team`` is the SQL of the owning team at that time.

    Reads tag_identity, tag_salt, department, environment, cost_center, the ``*_known`` flags, the ``decoy_*``
    values and ``bare``. Keys are unique within one list.
    """
    values = {
        "department": "department",
        "team": team,
        "environment": "environment",
        "cost_center": "cost_center",
    }
    decoys = {
        "department": "decoy_department",
        "team": "decoy_team",
        "environment": "CASE environment WHEN 'dev' THEN 'test' ELSE 'dev' END",
        "cost_center": "cost_center",
    }
    noise = "hash(tag_identity, tag_salt, 99)"

    def sometimes(shift: int, out_of: int, below: int, key: str, value: str) -> str:
        return f"CASE WHEN draw({noise}, {shift}, {out_of}) < {below} THEN {_entry(key, value)} END"

    entries = [
        # Nearly every resource has a name of its own: this alone makes as many tag sets as resources.
        _entry("'Name'", f"'svc-' || tag_identity || '-' || format('{{:04x}}', draw({noise}, 0, 65536))"),
        sometimes(16, 10, 6, "'application'", f"'app-' || draw({noise}, 20, 240)"),
        sometimes(30, 10, 2, "'ticket'", f"'OPS-' || draw({noise}, 33, 9000)"),
        sometimes(46, 10, 3, "'k8s.io/app'", f"'workload-' || draw({noise}, 50, 60)"),
        # Looks like an alias and is none.
        sometimes(56, 20, 1, "'team-contact'", "'ops@example.com'"),
    ]
    if source == "aws":
        entries.append(sometimes(58, 8, 1, "'aws:createdBy'", "'Root'"))
    for number, dimension in enumerate(DIMENSIONS):
        entries += _dimension_entries(source, dimension, number, values[dimension.name], decoys[dimension.name])
    listed = ",\n  ".join(entries)
    return f"CASE WHEN bare THEN NULL ELSE list_filter([\n  {listed}\n], lambda tag: tag IS NOT NULL) END"


def dialect_sql(source: str, tag_list: str) -> str:
    """``tag_list`` (SQL of a list of tags, or NULL) in the encoding of the source's files."""
    if source == "aws":
        return f"map_from_entries({tag_list})"
    if source == "azure":
        pairs = f"list_transform({tag_list}, lambda tag: '\"' || tag.key || '\": \"' || tag.value || '\"')"
        return f"'{{' || array_to_string({pairs}, ', ') || '}}'"
    return tag_list
