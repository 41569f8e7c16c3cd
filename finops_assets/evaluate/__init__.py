"""What the published days mean: reports, forecast, budgets, anomalies, shared cost, owners, pages. Knows nothing of Dagster."""
