"""What a person decides on a page, recorded as the commands record it: owners of resources, verdicts on anomalies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast, get_args

import duckdb
import pandas as pd

from finops_assets.cost.attribution.owner_decisions import OwnerDecisions, Verdict, decide
from finops_assets.cost.reach import Reach
from finops_assets.evaluate.anomalies import history
from finops_assets.explore.address import ViewError
from finops_assets.settings.model import Settings
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.rows import Rows

SUGGESTIONS = "owner_suggestions"
LONGEST_NOTE = 500


def suggestions(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """The published suggestions; none where nobody made any."""
    if not Warehouse.has(connection, SUGGESTIONS):
        return pd.DataFrame(columns=["source", "ResourceId", "dimension", "rank", "value", "BillingCurrency"])
    return Rows.asked(connection, f"FROM {SUGGESTIONS}").frame()


def decide_owner(
    settings: Settings, connection: duckdb.DuckDBPyConnection, form: Mapping[str, str], by: str | None
) -> str:
    """Accept or reject a suggested owner, as decided by somebody; what was done, in a sentence.

    Raises:
        FinopsError: the decision is not whole, or cannot be kept.
    """
    verdict = form.get("verdict", "")
    if verdict not in get_args(Verdict):
        raise ViewError(f"found verdict {verdict!r}; allowed: {', '.join(get_args(Verdict))}")
    about = (form.get("source", ""), form.get("resource", ""), form.get("dimension", ""))
    if about[0] not in {source.name for source in settings.sources}:
        raise ViewError(f"found source {about[0]!r}; allowed: {', '.join(s.name for s in settings.sources)}")
    decision = decide(
        suggestions(connection), tuple(settings.dimensions), about, cast(Verdict, verdict), datetime.now(UTC),
        form.get("value", "").strip() or None, by, None,
        form.get("note", "").strip()[:LONGEST_NOTE],
    )  # fmt: skip
    new = OwnerDecisions.beside(settings.warehouse).enter([decision])
    what = f"{decision.dimension} {decision.value} of {decision.ResourceId}"
    return f"{verdict}: {what}" if new else f"{what} was {verdict} already"


def judge_anomaly(settings: Settings, form: Mapping[str, str], reach: Reach, by: str | None) -> str:
    """Say whether an anomaly within reach was one, as judged by somebody; what was done, in a sentence.

    Raises:
        FinopsError: there is no such anomaly or verdict, or it cannot be kept.
    """
    verdict = form.get("verdict", "")
    if verdict not in get_args(history.Verdict):
        raise ViewError(f"found verdict {verdict!r}; allowed: {', '.join(get_args(history.Verdict))}")
    judged = history.AnomalyHistory.beside(settings.warehouse, reach.sees).judge(
        form.get("id", ""), cast(history.Verdict, verdict), datetime.now(UTC), by,
        form.get("note", "").strip()[:LONGEST_NOTE],
    )  # fmt: skip
    return f"{judged.id} {judged.key.name}, {judged.first_day}: {verdict}"
