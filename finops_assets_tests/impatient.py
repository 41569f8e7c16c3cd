"""The definitions as they are shipped, but what a test waits for comes sooner: alerts and dead runs are looked for every few
seconds, and a run's process is forked from one that has imported everything, instead of doing so itself for two seconds.
What follows a delivery keeps its pace, on which it depends what one run takes together.
"""

import multiprocessing
from multiprocessing.context import ForkServerProcess, SpawnProcess

from finops_assets.graph.sensors import alerts, dead_runs

alerts.INTERVAL_SECONDS = 5
dead_runs.SECONDS = 5
multiprocessing.set_forkserver_preload(["dagster._grpc.server", "finops_assets.definitions"])
SpawnProcess._Popen = staticmethod(ForkServerProcess._Popen)  # type: ignore[assignment, method-assign]

from finops_assets.definitions import defs  # noqa: E402

__all__ = ["defs"]
