"""Shared and untagged cost, split among the teams that bear it; the sum out is the sum in. No Dagster here."""
