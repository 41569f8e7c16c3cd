"""The five figures that say whether the platform is well, by week. No Dagster."""
