"""The same charges in every dialect of FOCUS that comes in the field: versions, file formats, ways to write a value.

What differs between two of these files is how they say it, never what: reading them must give the same facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from finops_assets.focus.specification import columns

Sql = Callable[[str], str]
"""SQL of a typed value -> SQL of the same value as a dialect writes it."""


def as_it_is(value: str) -> str:
    return value


def as_text(value: str) -> str:
    return f"CAST({value} AS VARCHAR)"


def plain_text(value: str) -> str:
    """A decimal without trailing zeros: 12.5, 0.0000000001, -3."""
    return f"regexp_replace(CAST({value} AS VARCHAR), '\\.?0+$', '')"


def double(value: str) -> str:
    """Through the text: the engine's own cast of a decimal may miss the nearest double."""
    return f"CAST(CAST({value} AS VARCHAR) AS DOUBLE)"


def dollars(value: str) -> str:
    """$1,234.50, with the minus before the sign."""
    whole = f"split_part({plain_text(f'abs({value})')}, '.', 1)"
    digits = f"regexp_replace({plain_text(f'abs({value})')}, '^[0-9]+', '')"
    grouped = f"format('{{:,}}', CAST({whole} AS BIGINT))"
    return f"CASE WHEN {value} < 0 THEN '-' ELSE '' END || '$' || {grouped} || CASE {digits} WHEN '' THEN '.00' ELSE {digits} END"


def written(form: str) -> Sql:
    """A time as a text of that form (strftime)."""
    return lambda value: f"strftime({value}, '{form}')"


def json_object(tags: str) -> str:
    return f"CAST(to_json({tags}) AS VARCHAR)"


def without_braces(tags: str) -> str:
    text = json_object(tags)
    return f"nullif({text}[2:length({text}) - 1], '')"


def entries(tags: str) -> str:
    return f"map_entries({tags})"


@dataclass(frozen=True)
class Dialect:
    """How one export writes charges. `suffix` tells the file format: .parquet, .csv or .csv.gz."""

    name: str
    version: str
    suffix: str
    money: Sql = as_it_is
    time: Sql = as_it_is
    tags: Sql = as_it_is
    renamed: Mapping[str, str] = field(default_factory=dict)
    """FOCUS column -> its name in the file."""
    left_out: tuple[str, ...] = ()
    added: Mapping[str, str] = field(default_factory=dict)
    """Column of the file -> SQL over the charges."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Column -> value of its closed list -> how the file spells it."""
    lower_values: bool = False
    """Closed lists in lower case."""
    header: Callable[[str], str] = str
    null: str = ""
    byte_order_mark: bool = False

    @property
    def focus_columns(self) -> list[str]:
        """The FOCUS columns that a file of this dialect says something of."""
        return [n for n, column in columns().items() if self.version in column.level and n not in self.left_out]


_ISO = written("%Y-%m-%dT%H:%M:%SZ")
_PREVIEW = {
    "ProviderName": "Provider", "PublisherName": "Publisher", "InvoiceIssuerName": "InvoiceIssuer", "RegionId": "Region",
    "ConsumedQuantity": "UsageQuantity", "ConsumedUnit": "UsageUnit",
}  # fmt: skip
_LABELS = {"x_Labels": entries("Tags"), "x_Tags": "[]::STRUCT(key VARCHAR, value VARCHAR)[]"}

DIALECTS: tuple[Dialect, ...] = (
    Dialect("aws", "1.2", ".parquet", double, lambda t: f"CAST({t} AS TIMESTAMP_MS)"),
    Dialect("azure", "1.0", ".csv.gz", plain_text, written("%Y-%m-%dT%H:%MZ"), json_object),
    Dialect("azure_1_2", "1.2", ".csv", as_text, _ISO, json_object),
    Dialect("gcp", "1.0", ".parquet", time=lambda t: f"CAST({t} AS TIMESTAMPTZ)", tags=entries),
    Dialect(
        "gcp_labels", "1.0", ".parquet", time=lambda t: f"CAST({t} AS TIMESTAMPTZ)", left_out=("Tags",), added=_LABELS
    ),
    Dialect(
        "oci",
        "1.0",
        ".csv.gz",
        plain_text,
        written("%Y-%m-%dT%H:%M:%S.000Z"),
        json_object,
        renamed=_PREVIEW,
        left_out=("ChargeClass", "ContractedCost", "ContractedUnitPrice", "CommitmentDiscountStatus", "RegionName"),
        added={"ChargeSubCategory": "CASE ChargeCategory WHEN 'Usage' THEN 'On-Demand' END"},
        values={"PricingCategory": {"Standard": "On-Demand", "Committed": "Commitment-Based"}},
    ),
    Dialect("spaced_nulls", "1.0", ".csv", plain_text, written("%Y-%m-%d %H:%M:%S"), json_object, null="NULL"),
    Dialect("not_applicable", "1.1", ".csv", as_text, written("%Y-%m-%d %H:%M"), json_object, null="N/A"),
    Dialect("texts", "1.1", ".parquet", plain_text, written("%Y-%m-%dT%H:%M:%S+00:00"), json_object),
    Dialect(
        "spreadsheet",
        "1.2",
        ".csv",
        dollars,
        written("%-m/%-d/%y %H:%M"),
        json_object,
        null="null",
        byte_order_mark=True,
    ),
    Dialect(
        "other_zone",
        "1.2",
        ".csv",
        as_text,
        lambda t: f"strftime({t} + INTERVAL 2 HOURS, '%Y-%m-%dT%H:%M:%S+02:00')",
        without_braces,
    ),
    Dialect("folded", "1.2", ".parquet", tags=json_object, lower_values=True, header=str.lower),
    Dialect("focus_1_3", "1.3", ".parquet"),
    Dialect("focus_1_4", "1.4", ".csv", plain_text, _ISO, json_object),
)


def retell(connection: duckdb.DuckDBPyConnection, charges: str, dialect: Dialect, folder: Path) -> Path:
    """Write charges in a dialect, as one file below `folder`; returns it.

    `charges` is a relation with the columns of FOCUS 1.2 (more may be there): amounts and quantities DECIMAL(38, 18),
    times TIMESTAMP in UTC, Tags a MAP(VARCHAR, VARCHAR). What later versions add is NULL, but for the participants,
    which follow from those of 1.2.
    """
    there = {str(row[0]) for row in connection.execute(f"DESCRIBE SELECT * FROM {charges}").fetchall()}
    file = folder / f"{dialect.name}{dialect.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    query = f"SELECT {', '.join(_selected(dialect, there))} FROM {charges}"
    if dialect.suffix == ".parquet":
        connection.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
        return file
    compression = ", COMPRESSION gzip" if dialect.suffix.endswith(".gz") else ""
    connection.execute(f"COPY ({query}) TO '{file}' (FORMAT csv, HEADER true, NULLSTR '{dialect.null}'{compression})")
    if dialect.byte_order_mark:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    return file


_LATER = {
    "ServiceProviderName": "ProviderName",
    "HostProviderName": "CASE WHEN ChargeCategory <> 'Tax' THEN ProviderName END",
}


def _selected(dialect: Dialect, there: Iterable[str]) -> list[str]:
    known = {*there}
    result = []
    for name in dialect.focus_columns:
        column = columns()[name]
        sql = f'"{name}"' if name in known else _LATER.get(name, "CAST(NULL AS VARCHAR)")
        if name == "Tags":
            sql = f"CASE WHEN {sql} IS NOT NULL THEN {dialect.tags(sql)} END"
        elif name in known and column.type == "decimal":
            sql = dialect.money(sql)
        elif column.type == "datetime":
            sql = dialect.time(sql)
        elif column.type == "json" and name in known:
            sql = json_object(sql)
        elif column.allowed and dialect.lower_values:
            sql = f"lower({sql})"
        for value, spelled in dialect.values.get(name, {}).items():
            sql = f"CASE WHEN {sql} = '{value}' THEN '{spelled}' ELSE {sql} END"
        result.append(f'{sql} AS "{dialect.header(dialect.renamed.get(name, name))}"')
    return [*result, *(f'{sql} AS "{name}"' for name, sql in dialect.added.items())]
