"""What is true of the delivered estate, from the model alone: no file and no written tag is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

import duckdb
import pyarrow as pa

from finops_assets.demo.catalog import CURRENCY
from finops_assets.demo.model import resource_table
from finops_assets.demo.plan import Charge, DayPlan, Delivery, plan_period
from finops_assets.demo.rows import MOVED, chunks, load_plan, rows_sql
from finops_assets.demo.spec import EstateSpec

_COLUMNS = """
  source VARCHAR, charge_date DATE, department VARCHAR, team VARCHAR, environment VARCHAR,
  ServiceCategory VARCHAR, BillingCurrency VARCHAR, billed_cost DECIMAL(38,18), effective_cost DECIMAL(38,18),
  row_count BIGINT, resource_count BIGINT, untagged_rows BIGINT
"""


def start_truth(con: duckdb.DuckDBPyConnection) -> None:
    """Begin with an empty table of truth."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE truth ({_COLUMNS})")


def add_truth(con: duckdb.DuckDBPyConnection, spec: EstateSpec, source: str, deliveries: Collection[Delivery]) -> None:
    """Add the truth of ``source`` after its latest delivery of each billing period."""
    days: dict[date, DayPlan] = {}
    charges: dict[date, list[Charge]] = {}
    for delivery in deliveries:
        plan = plan_period(spec, delivery)
        days.update({day.day: day for day in plan.days})
        for charge in plan.charges:
            charges.setdefault(charge.day, []).append(charge)
    # A later period can charge a day whose own period has no rows for it, or was not delivered.
    for run in chunks([days[day] for day in sorted(days)]):
        _add_days(con, spec, source, run, charges)
    _add_days(con, spec, source, [], {day: charges[day] for day in charges if day not in days})


def _add_days(
    con: duckdb.DuckDBPyConnection,
    spec: EstateSpec,
    source: str,
    run: list[DayPlan],
    charges: Mapping[date, list[Charge]],
) -> None:
    wanted = [day.day for day in run] or list(charges)
    load_plan(con, run, [charge for day in wanted for charge in charges.get(day, ())])
    con.execute(
        f"""
INSERT INTO truth
SELECT '{source}', charge_date, department, team, environment, service_category, '{CURRENCY[source]}',
  CAST(sum(billed) AS DECIMAL(28,0)) * CAST('0.0000000001' AS DECIMAL(10,10)),
  CAST(sum(effective) AS DECIMAL(28,0)) * CAST('0.0000000001' AS DECIMAL(10,10)),
  sum(row_count), count(*) FILTER (NOT is_line_item), sum(row_count) FILTER (untagged OR bare)
FROM (
  -- One group per resource and day, so that counting groups below counts distinct resources.
  SELECT c.*, r.service_category, r.is_line_item, r.bare,
    CASE WHEN NOT c.untagged THEN r.known_department END AS department,
    CASE WHEN c.untagged THEN NULL WHEN {MOVED} THEN r.known_team_later ELSE r.known_team END AS team,
    CASE WHEN NOT c.untagged THEN r.known_environment END AS environment
  FROM (
    SELECT charge_date, rid, untagged, sum(billed) AS billed, sum(effective) AS effective,
      count(*) AS row_count
    FROM ({rows_sql(spec, source)}) GROUP BY ALL
  ) AS c
  JOIN {resource_table(source)} AS r ON r.rid = c.rid
)
GROUP BY ALL"""
    )


def read_truth(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """The table of truth, in order of its dimensions."""
    return con.sql(
        "SELECT * REPLACE (coalesce(untagged_rows, 0) AS untagged_rows) FROM truth ORDER BY ALL"
    ).to_arrow_table()
