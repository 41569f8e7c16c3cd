"""The estate's resources: one table per source, built in SQL from the catalogue and the seed.

Everything later (rows, files, truth) refers to a resource by its number ``rid``. Numbers below the resource
count are ordinary resources; after them come the commitments and last one line item without a resource id
(tax, credits). All randomness is DuckDB's ``hash`` over the seed, so a table is the same on every run.

Money is counted in units of 1e-10 of the billing currency: a whole number of them with at most 15 digits is
printed by every shortest-double writer as exactly that decimal.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from finops_assets.demo.catalog import DEPARTMENTS, ENVIRONMENTS, REGIONS, SERVICES, SLOPPY_ACCOUNTS
from finops_assets.demo.spec import ROW_SHARE, SOURCES, EstateSpec
from finops_assets.demo.tags import dialect_sql, tag_list_sql
from finops_assets.demo.waste import planted_of

UNITS_PER_CURRENCY = 10**10

# Unit prices are whole multiples of this, so that a restatement by a factor of two decimals stays exact.
# Google's money has nine decimals, the others' has ten here.
PRICE_GRAIN: dict[str, int] = {"aws": 100, "azure": 100, "gcp": 1000}
MONEY_GRAIN: dict[str, int] = {"aws": 1, "azure": 1, "gcp": 10}

# Typical cost of one usage row, by the resource's number modulo ten, in units. Spreading the sizes in this
# fixed pattern keeps a day of a few dozen rows from resting on one resource; number 3 is the untagged one.
# The tiny one gives costs below a millionth, as real bills do.
_COST_PATTERN: tuple[int, ...] = tuple(
    round(weight * UNITS_PER_CURRENCY) for weight in (6, 0.8, 2, 1.2, 3, 0.5, 1.2, 1e-6, 2.5, 1.1)
)
MEAN_ROW_COST = sum(_COST_PATTERN) // len(_COST_PATTERN)

UNTAGGED_POSITION = 3


@dataclass(frozen=True)
class SourceSize:
    """How many of each there are in one source."""

    rows: int
    resources: int
    tag_identities: int
    commitments: int

    @property
    def line_item(self) -> int:
        """The ``rid`` of the line item without a resource id."""
        return self.resources + self.commitments


def source_size(spec: EstateSpec, source: str) -> SourceSize:
    """The sizes of ``source`` in an estate of ``spec``."""
    rows = spec.rows - sum(round(spec.rows * ROW_SHARE[other]) for other in SOURCES if other != source)
    resources = max(40, rows // 60)
    identities = resources
    if spec.tag_sets is not None:
        # Whole tens: the untagged one of each ten must stay the same resource position.
        identities = max(10, round(spec.tag_sets / len(SOURCES) / 10) * 10)
        resources = max(resources, identities)
    commitments = min(12, max(1, rows * 30 // spec.days // 2000))
    return SourceSize(rows, resources, identities, commitments)


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Session settings and the macro that draws a number from a hash. Needed once per connection."""
    con.execute("SET TimeZone = 'UTC'")
    # Row order is part of the contract (the first row of a day is never the incomplete one): joins must probe
    # with the rows and build on the resources, whatever the estimates say.
    con.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    con.execute("CREATE OR REPLACE TEMP MACRO draw(bits, shift, n) AS CAST((bits >> shift) % n AS BIGINT)")


def _account_id(source: str, seed: int, name: str) -> str:
    if source == "aws":
        return str(random.Random(f"account:{seed}:{name}").randrange(10**11, 10**12))
    if source == "azure":
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"account:{seed}:{name}"))
    return f"{name}-{random.Random(f'account:{seed}:{name}').randrange(16**4):04x}"


def _accounts(source: str, seed: int) -> pa.Table:
    names = [(d, e, f"{d}-{e}") for d in DEPARTMENTS for e in ENVIRONMENTS]
    names += [("", str(position), name) for position, name in enumerate(SLOPPY_ACCOUNTS)]
    return pa.table(
        {
            "account_department": [n[0] for n in names],
            "account_environment": [n[1] for n in names],
            "account_id": [_account_id(source, seed, n[2]) for n in names],
            "account_name": [n[2] for n in names],
        }
    )


def _owners() -> pa.Table:
    rows = []
    for department, (cost_center, teams) in DEPARTMENTS.items():
        for position, team in enumerate(teams):
            rows.append((department, cost_center, team, teams[(position + 1) % len(teams)]))
    # Seven places on is another department for certain: none has more than six teams.
    decoys = [rows[(slot + 7) % len(rows)] for slot in range(len(rows))]
    return pa.table(
        {
            "owner_slot": pa.array(range(len(rows)), pa.int64()),
            "department": [r[0] for r in rows],
            "cost_center": [r[1] for r in rows],
            "team": [r[2] for r in rows],
            "next_team": [r[3] for r in rows],
            "decoy_department": [d[0] for d in decoys],
            "decoy_team": [d[2] for d in decoys],
        }
    )


def _service_slots(source: str) -> pa.Table:
    slots = [service for service in SERVICES[source] for _ in range(service.weight)]
    return pa.table(
        {
            "service_slot": pa.array(range(len(slots)), pa.int64()),
            "service_name": [s.name for s in slots],
            "service_category": [s.category for s in slots],
            "service_subcategory": [s.subcategory for s in slots],
            "resource_type": [s.resource_type for s in slots],
            "id_pattern": [s.pattern for s in slots],
            "unit": [s.unit for s in slots],
            "committed": [s.committed for s in slots],
        }
    )


def _planted(spec: EstateSpec, source: str, first: int, identities: int) -> pa.Table:
    """The planted resources, numbered from ``first``: those of a group are owned like the same ordinary resource."""
    planted = planted_of(spec, source)
    texts = {
        "name": [p.name for p in planted],
        "type": [p.kind for p in planted],
        "pattern": [p.pattern for p in planted],
        "service": [p.service[0] for p in planted],
        "category": [p.service[1] for p in planted],
        "subcategory": [p.service[2] for p in planted],
    }
    # Whole tens and the group: the ones of group UNTAGGED_POSITION have lost their tags.
    return pa.table(
        {
            "rid": pa.array(range(first, first + len(planted)), pa.int64()),
            "planted_identity": pa.array([(70 + 10 * p.group + p.group) % identities for p in planted], pa.int64()),
            **{f"planted_{name}": pa.array(values, pa.string()) for name, values in texts.items()},
        }
    )


def _regions(source: str) -> pa.Table:
    regions = REGIONS[source]
    return pa.table(
        {
            "region_slot": pa.array(range(len(regions)), pa.int64()),
            "region_id": [r[0] for r in regions],
            "region_name": [r[1] for r in regions],
        }
    )


def _commitment_id(source: str) -> str:
    """SQL of a commitment's id, which is also its resource id."""
    name = "format('{:08x}', draw(bits, 0, 4294967296))"
    if source == "aws":
        return f"'arn:aws:savingsplans::' || account_id || ':savingsplan/' || {name}"
    if source == "azure":
        return f"'/providers/microsoft.capacity/reservationorders/' || {name} || '/reservations/' || {name}"
    return f"'//compute.googleapis.com/projects/' || account_id || '/commitments/' || {name}"


def resource_table(source: str) -> str:
    """Name of the table of a source's resources."""
    return f"resources_{source}"


def build_resources(con: duckdb.DuckDBPyConnection, spec: EstateSpec, source: str) -> None:
    """Create the table of one source's resources.

    Beside what the files show, it holds the truth: ``owner_department`` and ``owner_team`` are who owned the
    resource first, whatever its tags came to; ``known_department``, ``known_team``, ``known_team_later``
    and ``known_environment`` are what a right reading of the tags yields (NULL: lost), decided here and only
    then spelled as tags. ``tags`` and ``tags_later`` are in the source's own encoding. The later ones count
    from the day ``moves_on`` (inclusive) on which the resource moved to another team; NULL: it never moved.
    """
    size = source_size(spec, source)
    for name, table in (
        ("estate_accounts", _accounts(source, spec.seed)),
        ("estate_owners", _owners()),
        ("estate_services", _service_slots(source)),
        ("estate_regions", _regions(source)),
        ("estate_planted", _planted(spec, source, size.line_item + 1, size.tag_identities)),
    ):
        con.register(f"{name}_view", table)
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM {name}_view")
        con.unregister(f"{name}_view")
    owners = sum(len(teams) for _, teams in DEPARTMENTS.values())
    patterns = ", ".join(str(units) for units in _COST_PATTERN)
    periods = spec.periods()
    moving_days = ", ".join(f"DATE '{period}-15'" for period in periods)
    salt = f"'{spec.seed}:{source}'"
    con.execute(
        f"""
CREATE OR REPLACE TABLE {resource_table(source)} AS
WITH numbered AS (
  SELECT rid, coalesce(planted_identity, rid % {size.tag_identities}) AS tag_identity, hash(rid, {salt}) AS bits,
    COLUMNS('^planted_'), rid >= {size.resources} AND rid < {size.line_item} AS is_commitment,
    rid = {size.line_item} AS is_line_item
  FROM range({size.line_item + 1 + len(planted_of(spec, source))}::BIGINT) AS numbers(rid) LEFT JOIN estate_planted USING (rid)
), identified AS (
  SELECT *, {salt} AS tag_salt, hash(tag_identity, {salt}, 'owner') AS owner_bits,
    tag_identity % 10 = {UNTAGGED_POSITION} AND NOT is_commitment AS sloppy
  FROM numbered
), facts AS (
  SELECT *,
    CASE WHEN is_commitment THEN 0
      -- Some teams own far more than others.
      ELSE least({owners - 1},
        CAST(floor({owners} * pow(draw(owner_bits, 0, 10000) / 10000.0, 1.5)) AS BIGINT))
    END AS owner_slot,
    CASE WHEN is_commitment OR draw(owner_bits, 14, 100) < 55 THEN 'prod'
      WHEN draw(owner_bits, 14, 100) < 70 THEN 'staging'
      WHEN draw(owner_bits, 14, 100) < 90 THEN 'dev' ELSE 'test' END AS environment,
    CASE WHEN is_line_item THEN false ELSE NOT sloppy END AS team_known,
    CASE WHEN is_line_item THEN false ELSE NOT sloppy OR tag_identity % 50 = 43 END AS department_known,
    CASE WHEN is_line_item THEN false WHEN is_commitment THEN true
      ELSE NOT (tag_identity % 20 = {UNTAGGED_POSITION}) AND draw(owner_bits, 22, 40) <> 0
    END AS environment_known,
    CASE WHEN is_line_item THEN false ELSE NOT sloppy AND draw(owner_bits, 28, 8) <> 0
    END AS cost_center_known,
    is_line_item OR (sloppy AND tag_identity % 20 = {UNTAGGED_POSITION} AND tag_identity % 50 <> 43
      AND draw(owner_bits, 32, 2) = 0) AS bare,
    CASE WHEN NOT is_line_item AND NOT is_commitment AND NOT sloppy AND draw(owner_bits, 36, 16) = 0
      THEN [{moving_days}][1 + draw(owner_bits, 40, {len(periods)})] END AS moves_on,
    draw(bits, 0, 100) AS service_slot, CASE WHEN planted_name IS NULL THEN draw(bits, 8, 3) ELSE 0 END AS region_slot
  FROM identified
), placed AS (
  SELECT *,
    CASE WHEN sloppy AND draw(owner_bits, 44, 5) < 4 THEN '' ELSE department END AS account_department,
    CASE WHEN sloppy AND draw(owner_bits, 44, 5) < 4
      THEN CAST(draw(owner_bits, 48, {len(SLOPPY_ACCOUNTS)}) AS VARCHAR)
      ELSE environment END AS account_environment
  FROM facts JOIN estate_owners USING (owner_slot)
), tagged AS (
  SELECT *, {tag_list_sql(source, "team")} AS tag_list,
    CASE WHEN moves_on IS NOT NULL THEN {tag_list_sql(source, "next_team")} END AS tag_list_later
  FROM placed
)
SELECT rid, is_commitment, is_line_item,
  CASE WHEN is_line_item THEN NULL WHEN is_commitment THEN {_commitment_id(source)}
    ELSE replace(replace(replace(coalesce(planted_pattern, id_pattern), '{{account}}', account_id), '{{region}}', region_id), '{{name}}',
      format('{{:x}}{{:08x}}', rid, draw(bits, 16, 4294967296))) END AS resource_id,
  CASE WHEN is_line_item THEN NULL WHEN is_commitment THEN 'commitment-' || (rid - {size.resources})
    ELSE coalesce(planted_name, lower(replace(resource_type, ' ', '-')) || '-' || rid) END AS resource_name,
  CASE WHEN is_line_item THEN NULL WHEN is_commitment THEN 'Commitment'
    ELSE coalesce(planted_type, resource_type) END AS resource_type,
  CASE WHEN is_line_item THEN 'Other' WHEN is_commitment THEN 'Compute'
    ELSE coalesce(planted_category, service_category) END AS service_category,
  CASE WHEN is_line_item THEN 'Other (Other)' WHEN is_commitment THEN 'Virtual Machines'
    ELSE coalesce(planted_subcategory, service_subcategory) END AS service_subcategory,
  CASE WHEN is_line_item THEN 'Account charges' WHEN is_commitment THEN '{SERVICES[source][0].name}'
    ELSE coalesce(planted_service, service_name) END AS service_name,
  unit, account_id, account_name,
  CASE WHEN NOT is_line_item THEN region_id END AS region_id,
  CASE WHEN NOT is_line_item THEN region_name END AS region_name,
  CASE WHEN committed AND planted_name IS NULL AND NOT is_commitment AND NOT is_line_item
    THEN {size.resources} + draw(bits, 48, {size.commitments}) END AS commitment,
  -- Typical cost of one usage row, in units; one resource in a thousand is a giant, always a tagged one.
  [{patterns}][1 + rid % 10] * (600 + draw(bits, 52, 1001)) // 1000
    * CASE WHEN rid % 1000 = 500 THEN 15 ELSE 1 END AS row_cost,
  department AS owner_department, team AS owner_team,
  CASE WHEN department_known THEN department END AS known_department,
  CASE WHEN team_known THEN team END AS known_team,
  CASE WHEN team_known AND moves_on IS NOT NULL THEN next_team
    WHEN team_known THEN team END AS known_team_later,
  CASE WHEN environment_known THEN environment END AS known_environment,
  moves_on, bare,
  {dialect_sql(source, "tag_list")} AS tags,
  CASE WHEN moves_on IS NOT NULL THEN {dialect_sql(source, "tag_list_later")} END AS tags_later
FROM tagged
JOIN estate_services USING (service_slot)
JOIN estate_regions USING (region_slot)
JOIN estate_accounts USING (account_department, account_environment)
ORDER BY rid
"""
    )
