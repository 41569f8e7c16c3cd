"""From `engine.run_on` in finops.yaml to the engine that it names. Imports no engine before one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finops_assets.base.errors import FinopsError, install
from finops_assets.storage.lake import Lake

if TYPE_CHECKING:
    from finops_assets.cost.engines.transformation import Engine


def engine_on(run_on: str, lake: Lake) -> Engine:
    """The engine at a place such as `spark://host:7077`, for this lake.

    Raises:
        FinopsError: its extra is not installed, or it cannot be reached.
    """
    # Whatever settings.RUN_ON lets through is a master of Spark.
    try:
        from finops_assets.cost.engines.spark import Spark, session_on
    except ImportError as error:
        raise FinopsError(
            f"engine.run_on in finops.yaml is {run_on!r}, which needs the extra spark ({error}): {install('spark')};"
            " or take the line out, and DuckDB on this machine does the work"
        ) from error
    return Spark(session_on(run_on), lake)
