"""A charge in parts, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, Decimal, localcontext

from finops_assets.ingest.vendors.vendor import DIGITS

_PART = Decimal("1E-16")
"""To this a part is given; what is over goes to the largest. A hundredth of it is still exact as money."""


def parts(amount: str, weights: Sequence[int]) -> list[str]:
    """An amount by weights, of which one at least is not 0. A whole stays as it was written.

    >>> parts("1.00", [2, 1]), parts("-0.10", [7]), parts("1E-20", [1, 1])
    (['0.6666666666666667', '0.3333333333333333'], ['-0.10'], ['0.00000000000000000001', '0.0000000000000000'])
    """
    if len(weights) == 1:
        return [amount]
    largest = max(range(len(weights)), key=lambda n: weights[n])
    with localcontext(prec=DIGITS, rounding=ROUND_DOWN):
        whole, total = Decimal(amount), sum(weights)
        made = [(whole * weight / total).quantize(_PART) for weight in weights]
        made[largest] += whole - sum(made)
    return [format(part, "f") for part in made]
