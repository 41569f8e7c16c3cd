"""The gates at Dagster's edge: verdicts recorded day by day, and read back before anything is built."""
