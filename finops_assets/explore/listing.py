"""A table on a page: exact rows, which of their columns are shown and how, and where a click on one leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import pandas as pd
from markupsafe import Markup

from finops_assets.base.text import visible
from finops_assets.cost.rollup import TOO_MANY, UNKNOWN, UNTAGGED
from finops_assets.cost.sparse import SPARSE
from finops_assets.evaluate.page.render import rounded
from finops_assets.explore.asking import Made, add
from finops_assets.tables.declarations import COLUMNS, COUNT, DAY, MONEY, NUMBER, TIME, column

SHOWN_ROWS = 100
LONGEST = 1_200
# What a page calls a column besides its name.
HEADINGS = {
    "ServiceCategory": "category", "ServiceName": "service", "SubAccountName": "account", "RegionName": "region",
    "ChargeCategory": "charge category", "ChargeDescription": "charge", "ResourceId": "resource id",
    "ResourceName": "resource", "BillingCurrency": "currency", "CommitmentDiscountId": "commitment",
    "charge_date": "day", "row_count": "rows", "positive_effective_cost": "positive effective",
    "source_file": "file", "source_row": "row in it", "cost": "cost", "compared": "on like days",
}  # fmt: skip
NO_NAME = "(none)"
SPECIAL = {UNTAGGED: "untagged", UNKNOWN: "unknown", TOO_MANY: "other values", SPARSE: "sparse"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Listing:
    """`rows` are all of them, as they are exported; the page shows the first ones, and may have no others (`count`)."""

    name: str
    title: str
    rows: pd.DataFrame
    shown: Sequence[str]
    made: Made | None = None
    note: str = ""
    links: Mapping[str, Callable[[Row], str | None]] = field(default_factory=dict)
    bar: str = ""
    """The column whose amounts are drawn as bars beside the rows."""
    total: bool = False
    """Is there a line with the sums of amounts?"""
    empty: str = "Nothing."
    form: str = ""
    """The macro that draws a form in each row, to decide in place."""
    headings: Mapping[str, str] = field(default_factory=dict)
    unnamed: bool = False
    """Is an empty text told of?"""

    amounts: Sequence[str] = ()
    """Columns of amounts that are declared as something else, or not at all."""
    most: int = SHOWN_ROWS
    count: int | None = None
    """How many rows the files have, where these are not all of them."""
    export: pd.DataFrame | None = None
    """The rows under the names that a report gives their columns, where the page has others."""

    @property
    def exported(self) -> pd.DataFrame:
        return self.rows if self.export is None else self.export

    @property
    def records(self) -> list[Row]:
        """The rows that are shown."""
        return [
            {str(name): plain(value) for name, value in row.items()}
            for row in self.rows.head(self.most).to_dict("records")
        ]

    @property
    def more(self) -> int:
        return max(0, (len(self.rows) if self.count is None else self.count) - self.most)

    def heading(self, name: str) -> str:
        return self.headings.get(name) or heading(name)

    def meaning(self, name: str) -> str:
        said = column(name)
        return said.meaning if said.meaning != f"{name}, as given" else ""

    def kind(
        self, name: str
    ) -> Literal["amount", "unit", "quantity", "number", "share", "count", "day", "time", "text"]:
        """How a column is shown: by its type, else by what stands in it."""
        if name.endswith("_per_unit"):
            return "unit"
        if name == "tokens":
            return "quantity"
        if name in self.amounts:
            return "amount"
        if name == "confidence":
            return "share"
        found = column(name).kind
        first = plain(self.rows[name].iloc[0]) if len(self.rows) and name not in COLUMNS else None
        if isinstance(first, int) and not isinstance(first, bool):
            return "count"
        if found == MONEY:
            return "amount"
        if found == NUMBER:
            return "number"
        return {COUNT: "count", DAY: "day", TIME: "time"}.get(found, "text")  # type: ignore[return-value]

    def link(self, name: str, row: Row) -> str | None:
        return self.links[name](row) if name in self.links else None

    def sum_of(self, name: str) -> Decimal | None:
        """The exact total of a column of amounts; None where a row is not known, or it has no total."""
        if not self.total or self.kind(name) != "amount":
            return None
        values = [plain(value) for value in self.rows[name].tolist()]
        return None if not values or any(value is None for value in values) else add(values)

    def width(self, row: Row) -> float:
        """Of the bar beside a row, in percent of the longest."""
        longest = max((abs(v) for v in map(plain, self.rows[self.bar].tolist()) if v is not None), default=Decimal(0))
        value = row[self.bar]
        return float(abs(value) / longest * 100) if value is not None and longest else 0.0


def plain(value: Any) -> Any:
    """A value out of a data frame; what is not known is None."""
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime(warn=False)
    return value.item() if hasattr(value, "item") else value


def heading(name: str) -> str:
    """
    >>> heading("change_percent"), heading("ServiceName"), heading("days_before")
    ('change %', 'service', 'days before')
    """
    return HEADINGS.get(name) or name.removesuffix("_cost").replace("_percent", " %").replace("_", " ")


def named(value: object) -> Markup:
    """A name as it was written, whatever stands in it; what stands for no name in italics."""
    text = "" if value is None else str(value)
    if not text:
        return Markup('<em class="none">{}</em>').format(NO_NAME)
    if text in SPECIAL:
        return Markup('<em class="none">{}</em>').format(SPECIAL[text])
    text = visible(text).replace("\n", "↵")
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return Markup("<bdi>{}</bdi>").format(cut)


def label(value: object) -> str:
    """The same as plain text, for a chart."""
    text = "" if value is None else str(value)
    return SPECIAL.get(text) or visible(text or NO_NAME).replace("\n", "↵")[:80]


def amount(value: Decimal | None, signed: bool = False) -> Markup:
    """An amount to two places, and every digit of it behind that."""
    if value is None:
        return Markup('<span class="none" title="not known">–</span>')
    return Markup('<data value="{0}" title="{0}">{1}</data>').format(f"{value:f}", rounded(value, signed))


def cell(value: Any, kind: str, unnamed: bool = False) -> Markup:
    """A value of a table; `unnamed`: an empty text is told of."""
    if value is None:
        return Markup('<span class="none" title="not known">–</span>')
    match kind:
        case "amount":
            return amount(value)
        case "unit":
            return Markup('<data value="{0}" title="{0}">{1}</data>').format(f"{value:f}", f"{value:,.6f}")
        case "quantity":
            return Markup('<data value="{0}">{1}</data>').format(f"{value:f}", f"{value.normalize():,f}")
        case "number":
            return Markup("{}").format(f"{value:,.1f}".replace("-", "−"))
        case "share":
            return Markup("{} %").format(round(value * 100))
        case "count":
            return Markup("{}").format(f"{value:,}")
        case "day":
            return Markup("{}").format(value.date() if isinstance(value, datetime) else value)
        case "time":
            return Markup('<time datetime="{}Z">{}</time>').format(value.isoformat(), f"{value:%Y-%m-%d %H:%M}")
        case _:
            if isinstance(value, bool):
                return Markup("yes" if value else "no")
            text = value.isoformat() if isinstance(value, date) else str(value)
            return named(text) if text or unnamed else Markup("")
