"""Who asks, and whose cost that shows."""

from __future__ import annotations

from dataclasses import dataclass

from finops_assets.base.errors import FinopsError
from finops_assets.base.processes import account_name
from finops_assets.cost.reach import ALL, Reach


@dataclass(frozen=True)
class Person:
    """Somebody who signed in, a program with a token, or who sits at this machine."""

    name: str
    reach: Reach
    signed_in: bool = True
    """Is the name one that somebody vouched for?"""


class NotAllowed(FinopsError):
    """Somebody who is known, and may not see this."""


def of_this_machine() -> Person:
    """Where nobody signs in: whose account runs the server."""
    return Person(account_name() or "", ALL, signed_in=False)
