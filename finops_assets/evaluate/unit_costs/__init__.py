"""What a unit costs: quantities, and cost of a selection by each."""
