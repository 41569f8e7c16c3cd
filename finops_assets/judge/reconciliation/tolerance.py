"""How far two amounts of the same cost may lie apart and still be called equal."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

# ISO 4217, list one: the currencies whose minor unit is not a hundredth.
_DIGITS = {
    **dict.fromkeys(
        (
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip


def subunit(currency: str) -> Decimal:
    """The smallest amount that can be paid in a currency (ISO 4217); a hundredth for one that is not listed.

    >>> subunit("EUR"), subunit("JPY"), subunit("KWD")
    (Decimal('0.01'), Decimal('1'), Decimal('0.001'))
    """
    return Decimal(1).scaleb(-_DIGITS.get(currency.upper(), 2))


@dataclass(frozen=True)
class Tolerance:
    """What a person allows instead of the default of a comparison: an amount, a percentage, or the larger of both."""

    amount: Decimal | None = None
    percent: Decimal | None = None

    def allowed(self, compared: Decimal, default: Decimal) -> Decimal:
        """The largest difference that is no difference, `compared` being the amount that percentages are of."""
        given = [] if self.amount is None else [self.amount]
        if self.percent is not None:
            given.append(abs(compared) * self.percent / 100)
        return max(given) if given else default


def invoice_default(currency: str, rows: int) -> Decimal:
    """FOCUS 1.4 on BilledCost and invoices: max(100 subunits, sqrt(rows) x half a subunit).

    The root is what the rounding of so many rows to the subunit comes to; it is rounded up at 18 places.

    >>> invoice_default("USD", 100), invoice_default("USD", 1_000_000)
    (Decimal('1.00'), Decimal('5.000000000000000000'))
    """
    unit = subunit(currency)
    rounding = (Decimal(rows).sqrt() * unit / 2).quantize(Decimal(1).scaleb(-18), ROUND_CEILING)
    return max(100 * unit, rounding)


def same_cost_default(currency: str) -> Decimal:
    """Two records of the same charges: half a subunit, which no invoice can show.

    >>> same_cost_default("USD")
    Decimal('0.005')
    """
    return subunit(currency) / 2
