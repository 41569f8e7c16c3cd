"""What every way is asked, of the rollup that it made: the totals, and each team by service category.

Plain Python: it runs in the environment of the peers, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

MARK = "answers: "
TOTALS = ("rows", "untagged_rows", "resources", "groups", "billed", "effective")
ASKED_TOTALS = (
    "SELECT sum(row_count), sum(untagged_rows), sum(resource_count), count(*), sum(billed_cost), sum(effective_cost)"
    " FROM {rollup}"
)
ASKED_TEAMS = (
    "SELECT team, ServiceCategory, BillingCurrency, sum(billed_cost), sum(effective_cost) FROM {rollup}"
    " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)


def tell(totals: Iterable[Any], teams: Iterable[Iterable[Any]]) -> None:
    """Print the answers for the process that started this one; amounts as they are, decimal or binary."""
    print(MARK + json.dumps({"totals": list(map(str, totals)), "teams": [list(map(str, row)) for row in teams]}))
