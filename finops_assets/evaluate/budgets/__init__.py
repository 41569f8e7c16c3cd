"""Budgets: what people plan, in versions; what is spent and expected of each; who is told. No Dagster here."""
