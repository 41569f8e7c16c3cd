"""How a report becomes a table of the warehouse: made anew each time, with the types of its figures now."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pandas as pd
from dagster import OutputContext
from dagster._core.storage.db_io_manager import DbTypeHandler, TableSlice
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb_pandas import DuckDBPandasTypeHandler

from finops_assets.engine import identifier


class _Anew(DuckDBPandasTypeHandler):
    """The library keeps the types of a table's first figures (DECIMAL(19, 18) for 9.99); a larger one would not fit."""

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: pd.DataFrame,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        connection.execute(f"DROP TABLE IF EXISTS {identifier(table_slice.schema)}.{identifier(table_slice.table)}")
        # The engine types a column of decimals by a sample of its rows; one beyond it may not fit.
        connection.execute(f"SET pandas_analyze_sample = {len(obj) + 1}")
        if obj.empty:
            # The library would leave no table at all; a table without rows says that there is nothing.
            connection.execute(
                f"CREATE TABLE {identifier(table_slice.schema)}.{identifier(table_slice.table)} AS FROM obj"
            )
        super().handle_output(context, table_slice, obj, connection)


class ReportTables(DuckDBIOManager):
    """The DuckDB pandas I/O manager for small tables that are written whole."""

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[pd.DataFrame]]:
        return [_Anew()]

    @staticmethod
    def default_load_type() -> type | None:
        return pd.DataFrame
