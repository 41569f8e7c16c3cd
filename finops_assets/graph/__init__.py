"""Everything that knows Dagster: assets, checks, sensors, runs and their history."""

from finops_assets.graph.alembic_later import load_storage

load_storage()
