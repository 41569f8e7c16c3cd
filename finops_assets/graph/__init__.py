"""Everything that knows Dagster: assets, checks, sensors, runs and their history."""
