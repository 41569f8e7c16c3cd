"""What a row costs, as SQL over its FOCUS columns: the one place that says so."""

EFFECTIVE = "coalesce(EffectiveCost, BilledCost, 0)"
"""A row's effective cost, whatever the provider leaves out."""

POSITIVE = f"greatest({EFFECTIVE}, 0)"
"""Its effective cost where that is a cost and no credit: what shares of a day are shares of."""
