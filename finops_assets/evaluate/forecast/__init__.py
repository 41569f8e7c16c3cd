"""What a period will have cost at its end, with intervals: plain functions over daily series, no Dagster."""
