"""From `engine` in finops.yaml to what does the work. Imports no other engine before one is asked for."""

from __future__ import annotations

from finops_assets.base.errors import FinopsError, install
from finops_assets.cost.engines.duckdb_here import DuckDBHere
from finops_assets.cost.engines.engine import Engine
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.lake import Lake


def engine_of(bounds: EngineSettings, lake: Lake) -> Engine:
    """DuckDB in this process, or what `engine.run_on` names, such as `spark://host:7077`, for this lake.

    Raises:
        FinopsError: its extra is not installed, or it cannot be reached.
    """
    if not bounds.run_on:
        return DuckDBHere(lake, bounds)
    # Whatever settings.RUN_ON lets through is a master of Spark.
    try:
        from finops_assets.cost.engines.elsewhere import Elsewhere
        from finops_assets.cost.engines.spark import Spark, session_on
    except ImportError as error:
        raise FinopsError(
            f"engine.run_on in finops.yaml is {bounds.run_on!r}, which needs the extra spark ({error}): {install('spark')};"
            " or take the line out, and DuckDB on this machine does the work"
        ) from error
    return Elsewhere(Spark(session_on(bounds.run_on), lake), lake)
