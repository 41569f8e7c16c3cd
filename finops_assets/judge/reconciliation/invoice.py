"""Invoices against the sum of BilledCost of what was delivered, and what explains a difference.

FOCUS: BilledCost is what is invoiced, so its sum by InvoiceId and issuer must match the invoice; 1.4 says how
closely (`tolerance.invoice_default`). Rows whose InvoiceId is null are not invoiced yet. A source that does not
have the column at all (it came with FOCUS 1.2) is compared by period, issuer and currency: all invoices of
these together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any

import duckdb
import pandas as pd

from finops_assets.base.period import next_month
from finops_assets.base.sql import identifier, literal
from finops_assets.base.text import money
from finops_assets.focus.money import DECIMAL
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.judge.reconciliation.invoice_file import LINE_COLUMNS, InvoiceFile, InvoiceLine
from finops_assets.judge.reconciliation.rows import BILLING_PERIOD, NAMES_INVOICES, delivered
from finops_assets.judge.reconciliation.tolerance import Tolerance, invoice_default, subunit
from finops_assets.platform import Platform
from finops_assets.storage.duck import connect

ELSEWHERE = "this InvoiceId under another period or issuer"
MATCHED, DIFFERS, NOT_IN_DATA, NOT_ON_INVOICE, NOT_INVOICED = (
    "matched",
    "differs",
    "on the invoice, not in the data",
    "in the data, on no invoice",
    "not invoiced yet",
)
FINE = (MATCHED, NOT_INVOICED)

KEY = ("period", "InvoiceIssuerName", "InvoiceId", "BillingCurrency")


@dataclass(frozen=True)
class Reconciliation:
    """What reconciling came to. Amounts are Decimal; a difference is billed (the data) less invoiced.

    invoices: period, InvoiceIssuerName, InvoiceId, BillingCurrency, invoiced, billed, difference, allowed,
        row_count, status. A row per invoice, and per group of rows that no invoice of the file holds.
    parts: for what does not match, the same by account, service and charge category: InvoiceId, BillingCurrency,
        dimension, value, invoiced (None where the file does not say), billed, difference, row_count.
    reasons: what could explain a difference: InvoiceId, BillingCurrency, reason, row_count, amount (what it would
        add to the difference), left (the difference without it), explains (is what is left within what is allowed?).
    rows: rows behind the reasons, and the largest: reason, InvoiceId, what the charge is, BilledCost, where it lies.
    notes: what was left out of the comparison, in words.
    """

    invoices: pd.DataFrame
    parts: pd.DataFrame
    reasons: pd.DataFrame
    rows: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def reconciles(self) -> bool:
        """Is every invoice in the data, within its tolerance, and nothing invoiced that is on no invoice?"""
        return bool(self.invoices["status"].isin(FINE).all())


@dataclass(frozen=True)
class _Held:
    """Rows of the data that belong together; `named`: their delivery has the column InvoiceId."""

    period: str
    issuer: str | None
    invoice: str | None
    currency: str
    named: bool
    rows: int
    billed: Decimal


@dataclass
class _Match:
    """Invoice lines and the groups of rows that they were set against."""

    period: str
    issuer: str | None
    invoice: str | None
    currency: str
    status: str = ""
    lines: list[InvoiceLine] = field(default_factory=list)
    held: list[_Held] = field(default_factory=list)
    allowed: Decimal = Decimal(0)

    @property
    def invoiced(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def billed(self) -> Decimal:
        return sum((held.billed for held in self.held), Decimal(0))

    @property
    def row_count(self) -> int:
        return sum(held.rows for held in self.held)

    @property
    def difference(self) -> Decimal:
        return self.billed - self.invoiced


def reconcile_invoices(
    platform: Platform,
    file: InvoiceFile,
    sources: Sequence[str] = (),
    tolerance: Tolerance | None = None,
    most_rows: int = 10,
) -> Reconciliation:
    """Set an invoice file against what the lake's live deliveries bill in the same periods.

    `sources` are all whose cost counts, by default. Issuers that the file does not name at all are left out and
    noted. `most_rows` are shown for each reason of an invoice.
    """
    names = list(sources) or platform.source_names
    periods = sorted({line.period for line in file.lines})
    with platform.lake.workspace() as workspace, connect(platform.settings.engine, workspace / "spill") as connection:
        rows = delivered(platform.lake, names)
        first, end = date.fromisoformat(f"{periods[0]}-01"), _month_after(periods[-1])
        in_periods = f"BillingPeriodStart >= DATE '{first}' AND BillingPeriodStart < DATE '{end}'"
        _load(connection, rows, in_periods)
        held, notes = _judged_issuers(_groups(connection, periods), file)
        matches = _match(file.lines, held)
        for match in matches:
            match.allowed, match.status = _status(match, tolerance or Tolerance())
        differing = [match for match in matches if match.status not in FINE]
        if differing:
            ids = ", ".join(literal(line.invoice) for match in differing for line in match.lines) or "NULL"
            _load(connection, rows, f"InvoiceId IN ({ids}) AND NOT coalesce({in_periods}, false)")
        explained = [_Explained(connection, match, most_rows) for match in differing]
        parts = [part for e in explained for part in e.parts]
        reasons = [reason for e in explained for reason in e.reasons()]
        listed = [row for e in explained for row in e.rows()]
        undated = connection.execute(f"SELECT count(*) FROM ({rows}) WHERE BillingPeriodStart IS NULL").fetchone()
    if undated and undated[0]:
        notes.append(f"{undated[0]} rows have no BillingPeriodStart and are in no period")
    if file.voided:
        notes.append(f"{file.voided} lines of voided invoices are not counted")
    if file.of_other_periods:
        notes.append(f"{file.of_other_periods} lines of the file are of other periods")
    return Reconciliation(
        invoices=pd.DataFrame([_invoice_row(match) for match in matches], columns=INVOICE_COLUMNS),
        parts=pd.DataFrame(parts, columns=PART_COLUMNS),
        reasons=pd.DataFrame(reasons, columns=REASON_COLUMNS),
        rows=pd.DataFrame(listed, columns=ROW_COLUMNS),
        notes=tuple(notes),
    )


INVOICE_COLUMNS = [*KEY, "invoiced", "billed", "difference", "allowed", "row_count", "status"]
PART_COLUMNS = [
    "period",
    "InvoiceId",
    "BillingCurrency",
    "dimension",
    "value",
    "invoiced",
    "billed",
    "difference",
    "row_count",
]
REASON_COLUMNS = ["period", "InvoiceId", "BillingCurrency", "reason", "row_count", "amount", "left", "explains"]
_TOLD = (
    "SubAccountId", "ServiceName", "ChargeCategory", "ChargeClass", "ResourceId", "ChargeDescription",
    "ChargePeriodStart", "ChargePeriodEnd",
)  # fmt: skip
ROW_COLUMNS = ["period", "InvoiceId", "BillingCurrency", "reason", *_TOLD, "BilledCost", "found_in"]


def _month_after(period: str) -> date:
    return next_month(date.fromisoformat(f"{period}-01"))


def _load(connection: duckdb.DuckDBPyConnection, rows: str, where: str) -> None:
    """Add rows to the table `billed`; `same` is equal for rows that are equal in every column."""
    connection.execute(
        f"""
        CREATE TABLE IF NOT EXISTS billed AS SELECT {_BILLED} FROM ({rows}) LIMIT 0;
        INSERT INTO billed SELECT {_BILLED} FROM ({rows}) WHERE {where}
        """
    )


_SAME = ", ".join(column.name for column in all_columns() if column.name not in ("Tags", "AllocatedTags"))
_BILLED = f"""
    {BILLING_PERIOD} AS period, InvoiceIssuerName, InvoiceId, coalesce(BillingCurrency, '') AS BillingCurrency,
    {", ".join(_TOLD)}, BillingPeriodStart, BillingPeriodEnd, coalesce(BilledCost, 0) AS BilledCost,
    {NAMES_INVOICES}, {SOURCE_FILE}, {SOURCE_ROW}, source, hash({_SAME}) AS same
"""


def _groups(connection: duckdb.DuckDBPyConnection, periods: Sequence[str]) -> list[_Held]:
    return [
        _Held(*row)
        for row in connection.execute(
            f"""
            SELECT period, InvoiceIssuerName, InvoiceId, BillingCurrency, {NAMES_INVOICES}, count(*),
                CAST(sum(BilledCost) AS {DECIMAL})
            FROM billed WHERE list_contains($periods, period) GROUP BY ALL ORDER BY ALL
            """,
            {"periods": list(periods)},
        ).fetchall()
    ]


def _judged_issuers(held: list[_Held], file: InvoiceFile) -> tuple[list[_Held], list[str]]:
    """The groups of the file's issuers, or of invoices that it names; and a note on all others."""
    issuers, invoices = [line.issuer for line in file.lines], {line.invoice for line in file.lines}
    judged = [h for h in held if h.invoice in invoices or any(_same_issuer(h.issuer, issuer) for issuer in issuers)]
    others: dict[str, int] = {}
    for group in held:
        if group not in judged:
            others[str(group.issuer)] = others.get(str(group.issuer), 0) + group.rows
    return judged, [
        f"{rows:,} rows of issuer {issuer} are not judged: the file has no invoice of it"
        for issuer, rows in sorted(others.items())
    ]


def _same_issuer(a: str | None, b: str | None) -> bool:
    """Some exports leave the issuer out, and so may a file: then the other columns decide."""
    return a is None or b is None or a.strip().casefold() == b.strip().casefold()


def _match(lines: Iterable[InvoiceLine], held: list[_Held]) -> list[_Match]:
    """Every line and every group in exactly one match."""
    matches: list[_Match] = []
    for line in lines:
        match = next(
            (
                m
                for m in matches
                if (m.period, m.invoice, m.currency) == (line.period, line.invoice, line.currency)
                and _same_issuer(m.issuer, line.issuer)
            ),
            None,
        )
        if match is None:
            matches.append(match := _Match(line.period, line.issuer, line.invoice, line.currency))
        match.lines.append(line)
    left = []
    for group in held:
        match = next(
            (m for m in matches if group.invoice is not None and _of(m, group) and m.invoice == group.invoice), None
        )
        if match is None:
            left.append(group)
        else:
            match.held.append(group)
    for group in left:
        unmatched = [m for m in matches if _of(m, group) and m.lines and (not m.held or not m.held[0].named)]
        if not group.named and unmatched:
            # The source names no invoices: all of the period, issuer and currency are one sum.
            whole = unmatched[0]
            for other in unmatched[1:]:
                whole.lines += other.lines
                matches.remove(other)
            whole.invoice = ", ".join(dict.fromkeys(line.invoice for line in whole.lines))
            whole.held.append(group)
        else:
            matches.append(_Match(group.period, group.issuer, group.invoice, group.currency, held=[group]))
    return sorted(matches, key=lambda m: (m.period, m.issuer or "", m.invoice or "", m.currency))


def _of(match: _Match, group: _Held) -> bool:
    return (match.period, match.currency) == (group.period, group.currency) and _same_issuer(match.issuer, group.issuer)


def _status(match: _Match, tolerance: Tolerance) -> tuple[Decimal, str]:
    allowed = tolerance.allowed(match.invoiced, invoice_default(match.currency, match.row_count))
    if not match.held:
        return allowed, NOT_IN_DATA
    if not match.lines:
        [held] = match.held
        return Decimal(0), NOT_INVOICED if held.named and held.invoice is None else NOT_ON_INVOICE
    return allowed, MATCHED if abs(match.difference) <= allowed else DIFFERS


def _invoice_row(match: _Match) -> dict[str, Any]:
    return {
        "period": match.period,
        "InvoiceIssuerName": match.issuer or next((h.issuer for h in match.held if h.issuer), None),
        "InvoiceId": match.invoice,
        "BillingCurrency": match.currency,
        "invoiced": match.invoiced,
        "billed": match.billed,
        "difference": match.difference,
        "allowed": match.allowed,
        "row_count": match.row_count,
        "status": match.status,
    }


class _Explained:
    """What explains the difference of one invoice, asked of the table `billed`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, match: _Match, most_rows: int) -> None:
        self.connection = connection
        self.match = match
        self.most = most_rows
        self.name = {"period": match.period, "InvoiceId": match.invoice, "BillingCurrency": match.currency}
        self.bound: dict[str, object] = {"period": match.period, "currency": match.currency}
        issuers = [h.issuer for h in match.held]
        issuer = match.issuer or next((i for i in issuers if i), None)
        of_issuer = "true"
        if issuer is not None:
            of_issuer = "(InvoiceIssuerName IS NULL OR lower(trim(InvoiceIssuerName)) = $issuer)"
            self.bound["issuer"] = issuer.strip().lower()
        here = f"period = $period AND BillingCurrency = $currency AND {of_issuer}"
        self.not_invoiced = f"{here} AND {NAMES_INVOICES} AND InvoiceId IS NULL"
        if match.held and not match.held[0].named:
            self.mine, self.elsewhere = f"{here} AND NOT {NAMES_INVOICES}", "false"
        elif match.invoice is None:
            self.mine, self.elsewhere = self.not_invoiced, "false"
        else:
            self.mine, self.elsewhere = f"{here} AND InvoiceId = $invoice", f"InvoiceId = $invoice AND NOT ({here})"
            self.bound["invoice"] = match.invoice

    @cached_property
    def parts(self) -> list[dict[str, Any]]:
        found = []
        for dimension in LINE_COLUMNS:
            billed = self._billed_by(dimension)
            said = any(dimension in line.what for line in self.match.lines)
            invoiced: dict[str, Decimal] = {}
            for line in self.match.lines if said else ():
                value = line.what.get(dimension, "")
                invoiced[value] = invoiced.get(value, Decimal(0)) + line.amount
            for value in billed.keys() | invoiced.keys():
                rows, amount = billed.get(value, (0, Decimal(0)))
                on_invoice = invoiced.get(value, Decimal(0)) if said else None
                found.append(
                    {
                        **self.name,
                        "dimension": dimension,
                        "value": value,
                        "invoiced": on_invoice,
                        "billed": amount,
                        "difference": None if on_invoice is None else amount - on_invoice,
                        "row_count": rows,
                    }
                )
        order = {dimension: i for i, dimension in enumerate(LINE_COLUMNS)}
        return sorted(
            found,
            key=lambda p: (
                order[str(p["dimension"])],
                -abs(p["billed"] if p["difference"] is None else p["difference"]),
                str(p["value"]),
            ),
        )

    def _billed_by(self, dimension: str) -> Mapping[str, tuple[int, Decimal]]:
        return {
            value: (rows, amount)
            for value, rows, amount in self._ask(
                f"SELECT coalesce({identifier(dimension)}, ''), count(*), CAST(sum(BilledCost) AS {DECIMAL})"
                f" FROM billed WHERE {self.mine} GROUP BY 1"
            )
        }

    def reasons(self) -> list[dict[str, Any]]:
        if self.match.status == NOT_ON_INVOICE:
            return []
        found = []
        for reason, (condition, sign) in self._conditions().items():
            [(rows, amount)] = self._ask(
                f"SELECT count(*), CAST(coalesce(sum(BilledCost), 0) AS {DECIMAL}) FROM {condition}"
            )
            if rows:
                found.append(self._reason(reason, rows, sign * amount))
        for part in self.parts:
            if part["invoiced"] is None:
                found += self._whole_part(part)
                continue
            if part["difference"] == 0:
                continue
            where = "the data only" if part["invoiced"] == 0 else "the invoice only" if part["row_count"] == 0 else None
            if where:
                text = f"{part['dimension']} {part['value'] or '(none)'} is in {where}"
                found.append(self._reason(text, part["row_count"], part["difference"]))
        for currency, rows, amount in self._ask(
            f"SELECT BillingCurrency, count(*), CAST(sum(BilledCost) AS {DECIMAL}) FROM billed"
            f" WHERE {self.elsewhere} AND BillingCurrency <> $currency GROUP BY 1 ORDER BY 1"
        ):
            # An amount of another currency explains nothing of this one's, and stands in no column of this one's.
            text = f"this InvoiceId in another currency: {money(amount)} {currency}"
            found.append({**self._reason(text, rows, amount), "amount": None, "left": None, "explains": False})
        digits = -int(subunit(self.match.currency).as_tuple().exponent)
        [(rows, amount)] = self._ask(
            f"SELECT count(*), CAST(coalesce(sum(BilledCost - round(BilledCost, {digits})), 0) AS {DECIMAL})"
            f" FROM billed WHERE {self.mine} AND BilledCost <> round(BilledCost, {digits})"
        )
        if amount:
            found.append(self._reason("the invoice rounds each row", rows, amount))
        return sorted(
            found, key=lambda r: (not r["explains"], r["left"] is None, abs(r["left"] or 0), str(r["reason"]))
        )

    def _whole_part(self, part: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A whole account, service or category that is as large as the difference: tax is often on one side only."""
        near = abs(self.match.difference - part["billed"]) * 100 <= abs(self.match.difference)
        if not near or part["row_count"] == self.match.row_count:
            return []
        text = f"all of {part['dimension']} {part['value'] or '(none)'} is in the data only"
        return [self._reason(text, part["row_count"], part["billed"])]

    def _reason(self, reason: str, rows: int, amount: Decimal) -> dict[str, Any]:
        left = self.match.difference - amount
        explains = abs(left) <= self.match.allowed
        return {**self.name, "reason": reason, "row_count": rows, "amount": amount, "left": left, "explains": explains}

    def _conditions(self) -> dict[str, tuple[str, int]]:
        """Reason -> SQL of its rows, and what their cost adds to the difference: 1 where the data has too much."""
        outside = "(ChargePeriodStart < BillingPeriodStart OR ChargePeriodStart >= BillingPeriodEnd)"
        correction = "ChargeClass IS NOT DISTINCT FROM 'Correction'"
        repeated = (
            f"(SELECT *, row_number() OVER (PARTITION BY same, source ORDER BY {SOURCE_FILE}, {SOURCE_ROW}) AS n"
            f" FROM billed WHERE {self.mine}) WHERE n > 1"
        )
        return {
            "corrections": (f"billed WHERE {self.mine} AND {correction}", 1),
            "outside the billing period": (f"billed WHERE {self.mine} AND NOT {correction} AND {outside}", 1),
            "repeated rows": (repeated, 1),
            "not invoiced yet": (f"billed WHERE {self.not_invoiced}", -1)
            if self.match.invoice is not None
            else ("billed WHERE false", -1),
            ELSEWHERE: (f"billed WHERE {self.elsewhere} AND BillingCurrency = $currency", -1),
        }

    def rows(self) -> list[dict[str, Any]]:
        listed: dict[str, tuple[str, str]] = {
            reason: (condition, "abs(BilledCost) DESC") for reason, (condition, _) in self._conditions().items()
        }
        if self.match.status == DIFFERS:
            bound = "abs(BilledCost - $difference) < $near"
            listed["one row of the difference"] = (
                f"billed WHERE {self.mine} AND {bound}",
                "abs(BilledCost - $difference)",
            )
        listed["largest"] = (f"billed WHERE {self.mine}", "abs(BilledCost) DESC")
        found = []
        for reason, (condition, order) in listed.items():
            extra = {"difference": self.match.difference, "near": subunit(self.match.currency) / 2}
            for *told, cost, place in self._ask(
                f"SELECT {', '.join(_TOLD)}, BilledCost, {SOURCE_FILE} || ', row ' || {SOURCE_ROW} FROM {condition}"
                f" ORDER BY {order}, {SOURCE_FILE}, {SOURCE_ROW} LIMIT {self.most}",
                extra if "$difference" in condition else {},
            ):
                found.append(
                    {**self.name, "reason": reason, **dict(zip(_TOLD, told)), "BilledCost": cost, "found_in": place}
                )
        return found

    def _ask(self, query: str, extra: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        bound = {**self.bound, **(extra or {})}
        # The engine refuses a bound value that the query does not name.
        return self.connection.execute(query, {k: v for k, v in bound.items() if f"${k}" in query}).fetchall()
