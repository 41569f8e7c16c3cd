"""deliveries/<source>: what a provider delivered, landed once; and the ledger of all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import pandas as pd

from finops_assets.base.errors import FinopsError, LakeError
from finops_assets.base.secrets import without_secrets
from finops_assets.base.text import markdown
from finops_assets.cost.engines.choose import spread_of
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.keys import DATA_VERSION
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.repairs import repairs_table
from finops_assets.ingest.vendors.asking import FetchRefused
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings
from finops_assets.settings.sources import Source
from finops_assets.storage.lake import LakeChanged
from finops_assets.storage.ledger import Generation, ledger_table, remark
from finops_assets.storage.stores.store import StoreRefused

# Reading exports is the one thing worth trying again: the network, the provider's store, a file just replaced.
INGESTION_RETRY = dg.RetryPolicy(max_retries=3, delay=20, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
SHOWN = 60
BY_DAY = "by day"
"""What Dagster is told as the version: which days a delivery changes is told by raw, day by day, not all of them at once."""


@contextmanager
def tried_once() -> Iterator[None]:
    """What no retry can heal fails the step at once: a lake without space, a place that refuses, a uri that is none, a
    vendor that does not take the key."""
    try:
        yield
    except LakeChanged:
        raise  # another machine was first: the next try begins with what it wrote
    except LakeError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except FinopsError as error:
        if isinstance(error, FetchRefused) or isinstance(error.__cause__, StoreRefused | PermissionError | ValueError):
            raise dg.Failure(str(error), allow_retries=False) from error
        raise


def deliveries_key(source: str) -> dg.AssetKey:
    return dg.AssetKey(["deliveries", source])


def landing_pool(source: str) -> str:
    """One at a time may land a source."""
    return f"landing_{source}"


def deliveries_asset(source: Source, owner: str) -> dg.AssetsDefinition:
    """Land what is new of a source. Its days follow: the sensor asks for those that changed."""

    @dg.asset(
        key=deliveries_key(source.name),
        group_name="deliveries",
        kinds={"parquet", "focus"},
        owners=[owner],
        pool=landing_pool(source.name),
        retry_policy=INGESTION_RETRY,
        description=(
            f"The newest delivery of every billing period of {markdown(source.provider or source.name)}: read once when it is"
            " complete, split by charge day, fingerprinted and entered in the ledger in one commit. A delivery that"
            " is not whole waits; one that lost days, rows or cost is refused until it is accepted."
        ),
        metadata={"uri": without_secrets(source.uri), "layout": source.layout},
    )
    def deliveries(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        settings = platform.settings
        with tried_once():
            entries = land(platform, source, context.log.info)
        for entry in entries:
            if entry.state in ("waiting", "refused"):
                context.log.warning(f"{source.name} {entry.scope} is {entry.state}: {entry.reason}")
            elif early := remark(entry, settings.first_day):
                context.log.warning(f"{source.name} {entry.scope}: {early}")
        return dg.MaterializeResult(metadata=_figures(platform, source), data_version=dg.DataVersion(BY_DAY))

    return deliveries


def land(platform: Platform, source: Source, log: Callable[[str], None]) -> list[Generation]:
    """Land what is new of a source, large deliveries by the workers of the engine that finops.yaml names, if it has some."""
    settings, spread = platform.settings, spread_of(platform.settings.engine)
    return land_source(platform.lake, settings.engine, source, settings.first_day, log, settings.plausibility, spread)


def landed(platform: Platform, source: Source) -> dg.AssetMaterialization:
    """deliveries/<source> as it is now, for whoever else lands: a run of raw days begins with it."""
    return dg.AssetMaterialization(
        deliveries_key(source.name), metadata=_figures(platform, source), tags={DATA_VERSION: BY_DAY}
    )


def _figures(platform: Platform, source: Source) -> dict[str, dg.MetadataValue | int]:
    table = ledger_table(platform.lake, [source.name], first_day=platform.settings.first_day).frame()
    live = table[table["state"].isin(["complete", "final"])]
    return {
        "ledger": shown(table.drop(columns="source"), SHOWN),
        "rows": int(live["rows"].sum()),
        **{str(state): int(count) for state, count in table["state"].value_counts().items()},
    }


def ledger_asset(settings: Settings) -> dg.AssetsDefinition:
    """The ledger of all sources as a table that people can query."""

    @warehouse_table(
        ["reports", "delivery_ledger"],
        deps=[deliveries_key(source.name) for source in settings.sources],
        group="deliveries",
        owner=settings.owner,
        description=(
            "Every delivery of every source and billing period: generation, time, files, rows, days changed, and its"
            " state: waiting, complete, superseded, refused or final."
        ),
    )
    def delivery_ledger(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        table = ledger_table(platform.lake, platform.landed_names, first_day=settings.first_day).frame()
        context.add_output_metadata(
            {
                "dagster/row_count": len(table),
                "ledger": shown(table, SHOWN),
            }
        )
        return table

    return delivery_ledger


def repairs_asset(settings: Settings) -> dg.AssetsDefinition:
    """What was repaired in the bills of all sources, as a table that people can query."""

    @warehouse_table(
        ["reports", "repairs"],
        deps=[deliveries_key(source.name) for source in settings.sources],
        group="deliveries",
        owner=settings.owner,
        description=(
            "What was repaired on the way in, by delivery, file, rule and column: how many rows, what the first of them"
            " said, and for rounding the furthest that a value and a sum were moved. The delivery's own text stays in"
            " the row's `repairs`."
        ),
    )
    def repairs(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        table = repairs_table(platform.lake, platform.landed_names).frame()
        context.add_output_metadata(
            {
                "dagster/row_count": len(table),
                "most rows": shown(table.nlargest(SHOWN, "rows").drop(columns="generation")),
            }
        )
        return table

    return repairs
