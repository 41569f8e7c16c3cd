"""How a report becomes a table of the warehouse: made anew each time, with the types that `tables` declares."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
from dagster import OutputContext
from dagster._core.storage.db_io_manager import DbIOManager, DbTypeHandler, TableSlice
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient
from dagster_duckdb_pandas import DuckDBPandasTypeHandler

from finops_assets.base.content import version_of
from finops_assets.base.waiting import PATIENCE_MINUTES
from finops_assets.graph.assets.describe import schema_of
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.settings.model import Settings
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables import ddl, declarations, values
from finops_assets.tables.rows import Rows

IO_MANAGER = "warehouse_io"
# One writer at a time has the warehouse: DuckDB lets one process open it.
POOL = "warehouse"


def warehouse_table(
    key: str | Sequence[str] | dg.AssetKey,
    *,
    deps: Iterable[Any],
    group: str,
    owner: str,
    description: str,
    kinds: Iterable[str] = ("pandas", "duckdb"),
    check_specs: Sequence[dg.AssetCheckSpec] = (),
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """An asset whose DataFrame becomes a table of the warehouse, and that follows what it depends on.

    The key's first part is the schema; a key of one part stands in `main`. Its version is a hash of its rows: one that
    is made anew and comes out the same asks for nothing after it.
    """
    asset_key = dg.AssetKey(key) if not isinstance(key, dg.AssetKey) else key
    made = dg.asset(
        key=asset_key,
        deps=deps,
        group_name=group,
        kinds=set(kinds),
        owners=[owner],
        pool=POOL,
        io_manager_key=IO_MANAGER,
        metadata=in_schema(asset_key),
        description=description,
        check_specs=check_specs,
    )
    return lambda make: made(_versioned(asset_key, make))


def _versioned(key: dg.AssetKey, make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, which notes its inputs before, and the version of its table after it was made."""

    def noted(context: dg.AssetExecutionContext, table: object) -> object:
        value = table.value if isinstance(table, dg.Output) else table
        if isinstance(value, pd.DataFrame):
            context.set_data_version(key, dg.DataVersion(version_of(value)))
        return table

    @functools.wraps(make)
    def one(context: dg.AssetExecutionContext, *args: Any, **kwargs: Any) -> object:
        note_inputs(context)
        return noted(context, make(context, *args, **kwargs))

    @functools.wraps(make)
    def many(context: dg.AssetExecutionContext, *args: Any, **kwargs: Any) -> Iterator[object]:
        note_inputs(context)
        for made in make(context, *args, **kwargs):
            yield noted(context, made)

    return many if inspect.isgeneratorfunction(make) else one


def in_schema(key: dg.AssetKey) -> dict[str, str]:
    """What tells the I/O manager the schema of a key without one."""
    return {"schema": "main"} if len(key.path) == 1 else {}


class _Declared(DuckDBPandasTypeHandler):
    """The library makes up types by a table's first figures (DECIMAL(19, 18) for 9.99), and none where it is empty."""

    def __init__(self, dimensions: Iterable[str]) -> None:
        self._dimensions = tuple(dimensions)

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: pd.DataFrame,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        declared = declarations.table(table_slice.table, table_slice.schema, self._dimensions)
        ddl.replace_all(connection, declared, values.arrow(Rows.of(obj), declared))
        context.add_output_metadata(
            {
                "dagster/row_count": len(obj),
                "dagster/storage_kind": "duckdb",
                "dagster/column_schema": schema_of(declared),
            }
        )


class _Client(DuckDbClient):
    """Opens the warehouse as everything else does. The library's own way waits 102 s without a word, then fails."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    @contextmanager
    def connect(  # type: ignore[override]  # static there, and called on the object
        self, context: OutputContext, _: TableSlice
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._warehouse.writing() as connection:
            yield connection


class ReportTables(DuckDBIOManager):
    """The DuckDB pandas I/O manager for small tables that are written whole."""

    published: str = "the published copy"
    """What people who have the warehouse open are told to open instead."""
    wait_minutes: float = PATIENCE_MINUTES
    dimensions: list[str] = []  # noqa: RUF012  # a field of pydantic's
    """Those of finops.yaml."""

    def create_io_manager(self, context: dg.InitResourceContext) -> DbIOManager:
        warehouse = Warehouse(Path(self.database), Path(self.published), self.wait_minutes)
        return DbIOManager(
            db_client=_Client(warehouse),
            database=self.database,
            schema=self.schema_,
            type_handlers=[_Declared(self.dimensions)],
            default_load_type=self.default_load_type(),
            io_manager_name="ReportTables",
        )

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[pd.DataFrame]]:
        return [_Declared(())]

    @staticmethod
    def default_load_type() -> type | None:
        return pd.DataFrame


def report_tables(settings: Settings) -> ReportTables:
    """The resource of a configuration."""
    return ReportTables(
        database=str(settings.warehouse),
        published=str(settings.published),
        wait_minutes=settings.wait_minutes,
        dimensions=list(settings.dimensions),
    )
