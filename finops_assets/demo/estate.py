"""The estate itself: delivers billing periods, and knows the truth about what it has delivered."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from finops_assets.demo.deliver import write_delivery
from finops_assets.demo.model import build_resources, prepare, resource_table
from finops_assets.demo.plan import Delivery, check_delivery
from finops_assets.demo.spec import SOURCES, EstateSpec
from finops_assets.demo.truth import add_truth, read_truth, start_truth


class Estate:
    """A synthetic estate of three clouds below the folder ``root``.

    ``base_uri`` stands for ``root`` in the file URIs of the AWS manifests. ``memory_limit`` is DuckDB's; what
    does not fit spills to a temporary folder that goes with the estate.
    """

    def __init__(
        self, spec: EstateSpec, root: Path, *, base_uri: str = "s3://estate", memory_limit: str = "1GB"
    ) -> None:
        self.spec = spec
        self.root = Path(root)
        self._base_uri = base_uri
        self._memory_limit = memory_limit
        self._latest: dict[tuple[str, str], Delivery] = {}
        self._con: duckdb.DuckDBPyConnection | None = None
        self._forget_spill: weakref.finalize[[str, bool], Estate] | None = None
        self._resident: set[str] = set()

    def __enter__(self) -> Estate:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory. The estate can still be used: it builds anew what it needs."""
        if self._con is not None:
            self._con.close()
        if self._forget_spill is not None:
            self._forget_spill()
        self._con = None
        self._forget_spill = None
        self._resident.clear()

    def _connection(self, source: str | None = None) -> duckdb.DuckDBPyConnection:
        """The connection; with the resources of ``source`` in it, if one is given."""
        if self._con is None:
            spill = tempfile.mkdtemp(prefix="estate-")
            # Also where nobody closes the estate.
            self._forget_spill = weakref.finalize(self, shutil.rmtree, spill, True)
            self._con = duckdb.connect(config={"memory_limit": self._memory_limit, "temp_directory": spill})
            prepare(self._con)
        if source is not None and source not in self._resident:
            build_resources(self._con, self.spec, source)
            self._resident.add(source)
        return self._con

    def deliver_all(self, on_progress: Callable[[str], None] | None = None) -> None:
        """Deliver every billing period of every source in full, as its first generation."""
        for source in SOURCES:
            for period in self.spec.periods():
                self.deliver(source, period)
                if on_progress is not None:
                    on_progress(f"{source} {period}")

    def deliver(
        self,
        source: str,
        period: str,
        *,
        through: date | None = None,
        generation: int = 1,
        restate: Mapping[date, Decimal] | None = None,
        create_new: bool = False,
    ) -> None:
        """Write one delivery of one billing period (``YYYY-MM``).

        ``through``: the last charge day (inclusive) that exists yet; None: the whole period. ``generation``:
        counts the executions from 1. ``restate``: charge day of this period to the factor its usage costs are
        multiplied with; exact for two decimals, else rounded to the smallest money unit per price.
        ``create_new``: a folder of its own for AWS and Azure, instead of writing over the last delivery;
        Google always gets a new folder.
        """
        factors = tuple(sorted((restate or {}).items()))
        delivery = Delivery(source, period, through, generation, factors)
        check_delivery(self.spec, delivery)
        con = self._connection(source)
        write_delivery(con, self.spec, self.root, delivery, create_new=create_new, base_uri=self._base_uri)
        self._latest[source, period] = delivery

    def truth(self) -> pa.Table:
        """What is true after the latest delivery of each source and billing period.

        One row per source, charge_date, department, team, environment, ServiceCategory and BillingCurrency,
        with billed_cost and effective_cost (DECIMAL(38,18), exact), row_count, resource_count (distinct
        ResourceId) and untagged_rows (rows that bear no tag at all). Each of department, team and environment
        is null where a right reading of the tags does not yield it.
        """
        start_truth(self._connection())
        for source in SOURCES:
            latest = [delivery for (of, _), delivery in self._latest.items() if of == source]
            if latest:
                add_truth(self._connection(source), self.spec, source, latest)
        return read_truth(self._connection())

    def owners(self) -> pa.Table:
        """Who owns each resource, also where no tag of the bills tells: source, ResourceId, department, team.

        Nothing that is delivered says it of the untagged; it is there to judge guesses. Of a resource that moved,
        the first owner.
        """
        tables = [
            self._connection(source)
            .sql(
                f"SELECT '{source}' AS source, resource_id AS ResourceId, owner_department AS department,"
                f" owner_team AS team FROM {resource_table(source)} WHERE NOT is_line_item AND NOT is_commitment ORDER BY rid"
            )
            .to_arrow_table()
            for source in SOURCES
        ]
        return pa.concat_tables(tables)

    def totals(self) -> dict[str, tuple[int, Decimal, Decimal]]:
        """Per source: rows, billed cost and effective cost (its currency) after the latest deliveries."""
        truth = self.truth()
        result = {}
        for source in SOURCES:
            part = truth.filter(pc.equal(truth["source"], source))
            zero = Decimal(0)
            rows = pc.sum(part["row_count"]).as_py() or 0
            billed, effective = (pc.sum(part[name]).as_py() or zero for name in ("billed_cost", "effective_cost"))
            result[source] = (int(rows), billed, effective)
        return result
