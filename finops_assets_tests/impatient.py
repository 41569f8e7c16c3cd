"""The definitions as they are shipped, but alerts and dead runs are looked for every few seconds: what a test waits for comes
sooner. What follows a delivery keeps its pace, on which it depends what one run takes together.
"""

from finops_assets.graph.sensors import alerts, dead_runs

alerts.INTERVAL_SECONDS = 5
dead_runs.SECONDS = 5

from finops_assets.definitions import defs  # noqa: E402

__all__ = ["defs"]
