"""Two sources of the lake over the same days, or over the same billing periods.

The first is how an old pipeline is turned off: both are landed for thirty days, one as the shadow of the other,
and every day is judged. The second sets a provider's native bill against its FOCUS export: the two may book a
charge on different days, but not in different billing periods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from finops_assets.base.errors import FinopsError
from finops_assets.ingest.landing import land_source
from finops_assets.judge.reconciliation.rows import BILLING_PERIOD, delivered, raw_days
from finops_assets.judge.reconciliation.same_cost import AGREES, Basis, Comparison, Side, Unit, compare_cost
from finops_assets.judge.reconciliation.tolerance import Tolerance
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source
from finops_assets.storage.duck import connect
from finops_assets.storage.lake import Lake

LONG_AGO = date(2000, 1, 1)
BOTH: tuple[Basis, ...] = ("billed", "effective")


def compare_sources(
    platform: Platform,
    a: str,
    b: str,
    days: Iterable[date],
    *,
    bases: Sequence[Basis] = BOTH,
    tolerance: Tolerance | None = None,
    most_rows: int = 100,
) -> Comparison:
    """The raw days of two sources, day by day, by service and account.

    A day that one of them lacks does not agree; a day that is known to cost nothing on both sides does.
    """
    wanted = sorted(days)
    lake = platform.lake
    missing: dict[Unit, str] = {}
    for day in wanted:
        absent = [name for name in (a, b) if not lake.holds(lake.day_file("raw", name, day))]
        if absent:
            missing[day] = f"no raw day of {' and '.join(absent)}: run the day"
    with lake.workspace() as workspace, connect(platform.settings.engine, workspace) as connection:

        def side(name: str) -> Side:
            return Side(name, f"SELECT charge_date AS unit, * FROM ({raw_days(lake, name, wanted)})")

        return compare_cost(
            connection,
            side(a),
            side(b),
            wanted,
            missing=missing,
            without_rows=AGREES,
            bases=bases,
            tolerance=tolerance,
            most_rows=most_rows,
        )


def compare_bills(
    platform: Platform,
    source: str,
    native: str | Source,
    periods: Sequence[str] = (),
    *,
    grain: Sequence[str] = ("ServiceName", "SubAccountId", "ChargeCategory"),
    bases: Sequence[Basis] = BOTH,
    tolerance: Tolerance | None = None,
    most_rows: int = 100,
) -> Comparison:
    """What two sources were delivered for the same billing periods, by service, account and charge category.

    `native` is the name of a source of the lake, or a source that is not in finops.yaml: that one is read into a
    scratch lake which goes when the comparison is made. Without periods, those that the native bill holds.

    Raises:
        FinopsError: the native bill cannot be read, or holds nothing.
    """
    settings = platform.settings
    with platform.lake.workspace() as workspace, connect(settings.engine, workspace / "spill") as connection:
        lake, name = platform.lake, native if isinstance(native, str) else native.name
        if isinstance(native, Source):
            lake = Lake(workspace / "native")
            refused = [
                g for g in land_source(lake, settings.engine, native, LONG_AGO) if g.state in ("waiting", "refused")
            ]
            if refused:
                raise FinopsError("\n".join(f"{g.scope} is {g.state}: {g.reason}" for g in refused))
        rows = f"SELECT {BILLING_PERIOD} AS unit, * FROM ({delivered(lake, [name])})"
        wanted = list(periods) or [
            unit
            for (unit,) in connection.execute(
                f"SELECT DISTINCT unit FROM ({rows}) WHERE unit IS NOT NULL ORDER BY 1"
            ).fetchall()
        ]
        if not wanted:
            raise FinopsError(f"{name} holds no billing period; land it first (`finops run FROM TO`)")
        ours = f"SELECT {BILLING_PERIOD} AS unit, * FROM ({delivered(platform.lake, [source])})"
        return compare_cost(
            connection,
            Side(source, ours),
            Side(name, rows),
            wanted,
            grain=grain,
            bases=bases,
            tolerance=tolerance,
            most_rows=most_rows,
        )
