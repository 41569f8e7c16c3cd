"""From `engine` in finops.yaml to what does the work. Imports no other engine before one is asked for."""

from __future__ import annotations

from importlib.util import find_spec

from finops_assets.base.errors import FinopsError, install
from finops_assets.base.spread import Spread
from finops_assets.base.text import bytes_of
from finops_assets.cost.engines.duckdb_here import DuckDBHere
from finops_assets.cost.engines.engine import Engine
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.lake import Lake

NEEDED = {
    "spark": ("sqlglot", "pyspark"),
    "clickhouse": ("sqlglot", "clickhouse_connect"),
    "bigquery": ("sqlglot", "google.cloud.bigquery"),
    "snowflake": ("sqlglot", "snowflake.connector"),
}
"""By kind of engine, which is the name of its extra, the packages of that extra."""


def require_extra(bounds: EngineSettings) -> None:
    """Say at once, and not when the first day is built, that the engine of finops.yaml cannot be used here.

    Raises:
        FinopsError: its extra is not installed.
    """
    missing = [package for package in NEEDED.get(bounds.kind, ()) if not _is_there(package)]
    if missing:
        raise FinopsError(
            f"engine.run_on in finops.yaml is {bounds.run_on!r}, which needs the extra {bounds.kind} ({', '.join(missing)}"
            f" is not installed): {install(bounds.kind)}; or take the line out, and DuckDB on this machine does the work"
        )


def engine_of(bounds: EngineSettings, lake: Lake) -> Engine:
    """DuckDB in this process, or what `engine.run_on` names, such as `spark://host:7077`, for this lake.

    Raises:
        FinopsError: its extra is not installed, or it cannot be reached.
    """
    if not bounds.run_on:
        return DuckDBHere(lake, bounds)
    require_extra(bounds)
    from finops_assets.cost.engines.elsewhere import Elsewhere, Remote
    from finops_assets.cost.engines.mirror import Mirror

    remote: Remote
    match bounds.kind:
        case "clickhouse":
            from finops_assets.cost.engines import clickhouse

            remote = Mirror(clickhouse.connected_to(bounds.run_on), lake)
        case "bigquery":
            from finops_assets.cost.engines import bigquery

            remote = Mirror(bigquery.connected_to(bounds.run_on, bytes_of(bounds.maximum_bytes_billed)), lake)
        case "snowflake":
            from finops_assets.cost.engines import snowflake

            remote = Mirror(snowflake.connected_to(bounds.run_on), lake)
        case _:
            from finops_assets.cost.engines.spark import Spark, session_on

            remote = Spark(session_on(bounds.run_on), lake)
    return Elsewhere(remote, lake)


def spread_of(bounds: EngineSettings) -> Spread | None:
    """Who else can land large deliveries: the workers of a Spark, else nobody.

    Raises:
        FinopsError: its extra is not installed.
    """
    if bounds.kind != "spark" or not bounds.run_on:
        return None
    require_extra(bounds)
    from finops_assets.cost.engines.spark import SparkSpread

    return SparkSpread(bounds.run_on)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package in a package that is not there
        return False
