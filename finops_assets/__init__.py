"""FinOps as a Dagster asset graph: FOCUS billing exports to attributed, gated, exact cost by team."""
