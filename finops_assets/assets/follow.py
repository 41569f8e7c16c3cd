"""When assets that are not daily follow the days."""

from __future__ import annotations

import dagster as dg

# What lands while a follower runs is not forgotten: it asks for another run.
FOLLOW = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated()).since(
        dg.AutomationCondition.newly_requested()
    )
    & ~dg.AutomationCondition.in_progress()
)
