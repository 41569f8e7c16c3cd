"""Every table of the warehouse and of its published copy, and what each column is: the one place that says so.

Whatever writes a table writes it through here, so that types never follow the data: an empty table has its columns, and two
files of a report can be read together. A column of one name is the same thing everywhere; where a table means it more
narrowly it says so. docs/reference/tables.md is made from this (`python -m finops_assets.tables.reference`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from finops_assets.base.sql import identifier
from finops_assets.focus.money import DECIMAL
from finops_assets.focus.specification import columns as focus_columns

TEXT, MONEY, PERCENT, NUMBER, COUNT, FLAG, DAY, TIME = (
    "VARCHAR", DECIMAL, "DOUBLE", "DOUBLE", "BIGINT", "BOOLEAN", "DATE", "TIMESTAMP",
)  # fmt: skip

DIMENSIONS = ("department", "team", "environment")
"""The dimensions that the rollup is always grouped by; those that finops.yaml has besides stand after them."""


def grouped(dimensions: Iterable[str] = ()) -> tuple[str, ...]:
    """The dimensions of the rollup where finops.yaml has these: the three of every rollup, then the others as written."""
    return tuple(dict.fromkeys((*DIMENSIONS, *dimensions)))


def key(dimensions: Iterable[str] = ()) -> tuple[str, ...]:
    """The rollup's key, in its order, where finops.yaml has these dimensions."""
    return ("charge_date", "provider", *grouped(dimensions), "ServiceCategory", "BillingCurrency")


@dataclass(frozen=True)
class Column:
    """One column: its DuckDB type, what it means in a sentence, and its unit where the type does not say it."""

    name: str
    kind: str
    meaning: str
    unit: str = ""

    @property
    def comment(self) -> str:
        return f"{self.meaning} [{self.unit}]" if self.unit else self.meaning


@dataclass(frozen=True)
class Table:
    """One table or view. `published` is false for what the pipeline keeps for itself."""

    schema: str
    name: str
    meaning: str
    columns: tuple[Column, ...]
    view: bool = False
    published: bool = True

    @property
    def full_name(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def shown_name(self) -> str:
        return self.name if self.schema == "main" else f"{self.schema}.{self.name}"

    @property
    def by_dimensions(self) -> bool:
        """Does it tell of every dimension of finops.yaml, as the rollup does? What is declared are those of every rollup."""
        return any(DIMENSIONS[-1] in c.name for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


# ---- columns: name -> (type, meaning, unit) -----------------------------------------------------

_CURRENCY = "currency of the row"

_SAID: dict[str, tuple[str, str, str] | tuple[str, str]] = {
    # What cost is told by.
    "charge_date": (DAY, "UTC day of the charge (of ChargePeriodStart)"),
    "accrual_date": (DAY, "UTC day that a part of a long charge is for"),
    "booked_on": (DAY, "UTC day whose bill booked the charge"),
    "provider": (TEXT, "ProviderName; in FOCUS 1.4 the participant that it named before; else the source's"),
    "department": (TEXT, "department; __untagged__ where no tag and no rule gives it"),
    "team": (TEXT, "team; __untagged__ where no tag and no rule gives it"),
    "environment": (TEXT, "environment; __unknown__ where no tag and no rule gives it"),
    "source": (TEXT, "source in finops.yaml"),
    "BillingCurrency": (TEXT, "currency of the amounts; currencies are never added"),
    "currency": (TEXT, "currency of the amounts; currencies are never added"),
    "billing_period": (DAY, "first day of the billing period whose bill brought it"),
    "account": (TEXT, "SubAccountId, else BillingAccountId"),
    "account_name": (TEXT, "name of the account"),
    "dimension": (TEXT, "dimension of finops.yaml"),
    "dimensions": (TEXT, "other dimensions of finops.yaml and their values, as a JSON object; null where none is named"),
    # Amounts.
    "billed_cost": (MONEY, "sum of BilledCost: what the bill says, on its day", _CURRENCY),
    "effective_cost": (MONEY, "sum of EffectiveCost, of BilledCost where it is null: commitments amortised", _CURRENCY),
    "positive_effective_cost": (
        MONEY, "effective cost without credits and refunds: the base of percentages", _CURRENCY,
    ),
    "list_cost": (MONEY, "sum of ListCost, of commitments on the purchase only; null where a row has none", _CURRENCY),
    "contracted_cost": (MONEY, "sum of ContractedCost, counted as list_cost", _CURRENCY),
    "accrued_cost": (MONEY, "effective cost by the day that it is for, charges longer than a day spread", _CURRENCY),
    "positive_accrued_cost": (MONEY, "accrued cost without credits and refunds", _CURRENCY),
    "committed_cost": (MONEY, "what long charges hold for days that are not reached", _CURRENCY),
    "billed_cost_before": (MONEY, "billed cost of the like days before; null where none is compared", _CURRENCY),
    "effective_cost_before": (MONEY, "effective cost of the like days before; null where none is compared", _CURRENCY),
    "effective_cost_after": (MONEY, "effective cost after the restatement", _CURRENCY),
    "accrued_cost_before": (MONEY, "accrued cost of the like days before; null where none is compared", _CURRENCY),
    **{
        f"{basis}_cost_compared": (MONEY, f"{basis} cost of the days that are compared; null where none is", _CURRENCY)
        for basis in ("billed", "effective", "accrued")
    },
    "apportioned_cost": (MONEY, "the part of accrued cost that long charges gave to these days", _CURRENCY),
    "moved": (MONEY, "effective cost after less before", _CURRENCY),
    "billed_moved": (MONEY, "billed cost after less before", _CURRENCY),
    "rows_moved": (COUNT, "facts rows after less before"),
    "negotiated": (MONEY, "list less contracted cost", _CURRENCY),
    "saved": (MONEY, "list less billed cost", _CURRENCY),
    "original_billed_cost": (MONEY, "billed cost as billed", "BillingCurrency of the row"),
    "original_effective_cost": (MONEY, "effective cost as billed", "BillingCurrency of the row"),
    # Counts.
    "resource_count": (COUNT, "distinct ResourceId"),
    "row_count": (COUNT, "facts rows"),
    "untagged_rows": (COUNT, "rows without department or team"),
    "committed_rows": (COUNT, "rows under a commitment discount"),
    "without_prices": (COUNT, "rows whose bill gives no list price"),
    "rows": (COUNT, "rows"),
    "days": (COUNT, "days with figures"),
    "days_before": (COUNT, "days that are compared with their likes in the period before"),
    "days_missing": (COUNT, "days of the period without figures: held, late, or not run"),
    # Percentages.
    "change_percent": (PERCENT, "change against the amount of the like days before; null where there was none", "%"),
    "share_percent": (PERCENT, "share of the currency's positive effective cost", "%"),
    "saved_percent": (PERCENT, "saved of list cost", "%"),
    "utilisation_percent": (PERCENT, "used of used and unused", "%"),
    "spent_percent": (PERCENT, "spent of the amount", "%"),
    "forecast_percent": (PERCENT, "forecast of the amount", "%"),
    "threshold_percent": (MONEY, "share of the amount that is told of, as written", "%"),
    "threshold_percent_before": (MONEY, "threshold before the change", "%"),
    **{
        name: said
        for d in DIMENSIONS
        for name, said in {
            f"untagged_{d}": (MONEY, f"positive effective cost without {d}", _CURRENCY),
            f"untagged_{d}_percent": (PERCENT, f"share of positive effective cost without {d}", "%"),
            f"untagged_{d}_percent_before": (PERCENT, f"that share in the period before, without {d}", "%"),
        }.items()
    },
    # Commitments.
    "CommitmentDiscountId": (TEXT, "commitment"),
    "CommitmentDiscountName": (TEXT, "name of the commitment"),
    "CommitmentDiscountType": (TEXT, "type of the commitment, as the provider calls it"),
    "name": (TEXT, "name"),
    "type": (TEXT, "type, as the provider calls it"),
    "purchase_billed_cost": (MONEY, "what the commitment's purchases were billed", _CURRENCY),
    "purchase_effective_cost": (MONEY, "effective cost on the purchase: 0, or cost stands twice", _CURRENCY),
    "used_cost": (MONEY, "amortised cost of what was used", _CURRENCY),
    "unused_cost": (MONEY, "amortised cost of what was not used", _CURRENCY),
    "other_effective_cost": (MONEY, "effective cost of other charges under the commitment", _CURRENCY),
    "covered_list_cost": (MONEY, "list cost of what was used; null where a row has none", _CURRENCY),
    "saved_against_list": (MONEY, "list cost of what was used, less used and unused", _CURRENCY),
    "difference": (MONEY, "difference of the two amounts", _CURRENCY),
    "term_start": (TIME, "first moment of the terms that were bought", "UTC"),
    "term_end": (TIME, "end of the terms that were bought, exclusive", "UTC"),
    "term_held": (FLAG, "is every day of the term in the rollup?"),
    "ChargeClass": (TEXT, "Correction, or empty for a late charge that the provider does not call one"),
    "window_days": (COUNT, "how many days are looked back"),
    "eligible_cost": (
        MONEY, "cost without commitments (contracted, else list) of usage of the SKUs that such a commitment covered some of;"
        " null where a row has no price", _CURRENCY,
    ),
    "covered_cost": (MONEY, "of it what such commitments covered", _CURRENCY),
    "coverage_percent": (PERCENT, "covered of eligible cost", "%"),
    "perhaps_eligible_cost": (
        MONEY, "cost on demand in the same service and unit, of SKUs that the bill shows no such commitment to have covered: it is"
        " in no percentage", _CURRENCY,
    ),
    "rate_percent": (PERCENT, "what a commitment costs of what it covers, as the bill shows it, over the eligible SKUs; null: not shown", "%"),
    "one_more": (TEXT, "one unit more of such a commitment; null where the bill shows no rate"),
    "one_more_saved": (MONEY, "what one unit more would have saved on the days that count, less its own cost, to six places", _CURRENCY),
    "one_more_wasted": (MONEY, "what of one unit more would not have been used, to six places", _CURRENCY),
    # Waste.
    "last_use": (DAY, "last UTC day on which the bill shows it in use; null: on none that was looked at, or the bill says it otherwise"),
    "cost_a_month": (MONEY, "cost of 30 days, at the rate of its newest days, to six places", _CURRENCY),
    "cost_since": (MONEY, "effective cost of these charges since then", _CURRENCY),
    "could_save": (MONEY, "what of a month's cost could be saved; null where the bill does not show it", _CURRENCY),
    "certainty": (TEXT, "how sure it is, by the rule that found it: high, medium or low"),
    # When.
    "reported_from": (TIME, "from when it was reported so", "UTC"),
    "reported_to": (TIME, "until when it was reported so; null: it still is", "UTC"),
    "restated_at": (TIME, "when it was restated", "UTC"),
    "month": (DAY, "first day of the month"),
    "week": (DAY, "Monday of the week", "UTC"),
    "first_day": (DAY, "first UTC day"),
    "last_day": (DAY, "last UTC day"),
    "period": (TEXT, "period: 2026-10, 2026-Q4, 2026"),
    "period_start": (DAY, "first day of the period"),
    "period_end": (DAY, "the day after the period's last"),
    "through": (DAY, "the newest day that was looked at"),
    "evaluated_at": (TIME, "when it was evaluated", "UTC"),
    "changed_at": (TIME, "when it was changed", "UTC"),
    "detected_at": (TIME, "when it was detected", "UTC"),
    "last_seen_at": (TIME, "when it was seen last", "UTC"),
    "last_sent_at": (TIME, "when channels were told last", "UTC"),
    "resolved_at": (TIME, "when it ended; null: it lasts", "UTC"),
    "judged_at": (TIME, "when a person judged it", "UTC"),
    "decided_at": (TIME, "when it was decided", "UTC"),
    "first_seen": (TIME, "first charge in the window", "UTC"),
    "seen_at": (TIME, "when the delivery was seen first", "UTC"),
    "delivered_at": (TIME, "when the provider delivered it", "UTC"),
    "first_used": (TIME, "when the version was first used", "UTC"),
    "valid_from": (DAY, "first UTC day that it holds for; null: always"),
    "day": (DAY, "UTC day; null where it is about no day"),
    # Accrual.
    "is_apportioned": (FLAG, "a part of a charge longer than a day?"),
    # Currencies.
    "rate": (MONEY, "rate, rounded to 18 places"),
    "rate_exact": (TEXT, "rate as a fraction, which amounts are converted with"),
    "rate_date": (DAY, "day that the rate was published for"),
    "rate_source": (TEXT, "who published it"),
    # Shared cost.
    "rule": (TEXT, "rule of finops.yaml; null where none applies"),
    "method": (TEXT, "how it was made"),
    "ratio": (MONEY, "the bearer's part of what was split, of 1"),
    "origin_department": (TEXT, "department whose cost it was"),
    "origin_team": (TEXT, "team whose cost it was"),
    "via": (TEXT, "the pool that it passed through"),
    "origin": (TEXT, "department/team whose cost it was"),
    "bearer": (TEXT, "department/team that bears it"),
    "amount": (MONEY, "amount", _CURRENCY),
    "showback": (MONEY, "own cost, as attributed", _CURRENCY),
    "given": (MONEY, "of it given to others", _CURRENCY),
    "received": (MONEY, "received from others", _CURRENCY),
    "chargeback": (MONEY, "what is borne: showback less given, and received", _CURRENCY),
    **{
        f"{side}_{cost}": (MONEY, f"{cost.replace('_', ' ')} {when} the rules of shared cost", _CURRENCY)
        for side, when in (("showback", "before"), ("chargeback", "after"))
        for cost in ("effective_cost", "billed_cost")
    },
    "note": (TEXT, "remark"),
    # Sparse groups.
    "resources": (COUNT, "resources of department and team in the window"),
    "min_resources": (COUNT, "resources that are enough to be a cost center"),
    "provisional": (FLAG, "is a source's cost of the day held or awaited, so that amounts will change?"),
    "sparse": (FLAG, "too few resources to be a cost center?"),
    "sparse_days": (COUNT, "days on which the pair was sparse"),
    # Budgets.
    "budget": (TEXT, "whom the budget is for (department, department/team, other dimensions), and its period"),
    "basis": (TEXT, "cost that the budget is about: effective, billed, accrued"),
    "amount_before": (MONEY, "amount before the change", _CURRENCY),
    "since_version": (COUNT, "version of the file that gave amount and threshold"),
    "budgets_version": (COUNT, "version of the file that was evaluated"),
    "version": (COUNT, "version of the file of budgets"),
    "change": (TEXT, "added, changed or removed"),
    "line": (COUNT, "line of the file"),
    "spent": (MONEY, "spent in the period to date", _CURRENCY),
    "chance": (TEXT, "where the budget lies in the forecast's intervals"),
    "severity": (TEXT, "INFO, WARNING or CRITICAL; null: all is well"),
    "reason": (TEXT, "why"),
    "since": (TIME, "UTC, from when"),
    "shown": (TEXT, "what is shown"),
    "problem": (TEXT, "why nothing can be judged"),
    "history_days": (COUNT, "days that the forecast learned from"),
    "month_1": (MONEY, "the period's cost at the rate of the third last whole month", _CURRENCY),
    "month_2": (MONEY, "the period's cost at the rate of the month after", _CURRENCY),
    "month_3": (MONEY, "the period's cost at the rate of the last whole month", _CURRENCY),
    "suggested_amount": (MONEY, "amount that would fit", _CURRENCY),
    "why": (TEXT, "why it does not fit"),
    # Unit costs.
    "unit_cost": (TEXT, "unit cost of finops.yaml"),
    "metric": (TEXT, "what was counted, as unit_metrics calls it"),
    "grain": (TEXT, "day, week (from Monday) or month"),
    "quantity": (MONEY, "how much of it there was on the days that count"),
    "effective_per_unit": (MONEY, "effective cost of one, at 18 places; null where nothing was counted", _CURRENCY),
    "billed_per_unit": (MONEY, "billed cost of one, at 18 places; null where nothing was counted", _CURRENCY),
    "most_per_unit": (MONEY, "what one may cost (effective), as finops.yaml says; null where it says nothing", _CURRENCY),
    "most_percent": (PERCENT, "effective cost of one, of what one may cost", "%"),
    "usual_per_unit": (MONEY, "of an unusual day: effective cost of one that was to be expected; an estimate, at 6 places", _CURRENCY),
    "unusual": (TEXT, "of a day: rise or fall where one cost unusually much or little; null where it did not"),
    # Tokens.
    "model": (TEXT, "model, as SkuPriceDetails has it (ModelId), else SkuId"),
    "token_type": (TEXT, "what the meter (SkuMeter) calls them: input, cached input, output, …"),
    "tokens": (MONEY, "how many; null where the bill does not say"),
    "effective_per_million": (MONEY, "effective cost of a million, at 18 places; null without tokens", _CURRENCY),
    "billed_per_million": (MONEY, "billed cost of a million, at 18 places; null without tokens", _CURRENCY),
    "cost_without_tokens": (MONEY, "effective cost of tokens whose number the bill does not say; in no price", _CURRENCY),
    "days_without_quantity": (COUNT, "days of the period, from the metric's first to its last, without a quantity"),
    "days_without_cost": (COUNT, "days of the period that a source's cost is missing from: held, awaited, or not run"),
    # Forecast.
    "series": (TEXT, "total, service, provider or a dimension"),
    "key": (TEXT, "which of them"),
    "actual_to_date": (MONEY, "accrued cost of the period's reported days", _CURRENCY),
    "forecast": (MONEY, "expected at the period's end, to the cent; null: refused", _CURRENCY),
    **{
        f"{end}{level}": (MONEY, f"{which} end of the {level} % interval of the forecast", _CURRENCY)
        for level in (80, 95)
        for end, which in (("low", "lower"), ("high", "upper"))
    },
    "refused": (TEXT, "why nothing is forecast"),
    # Anomalies.
    "id": (TEXT, "identity of the anomaly"),
    "ResourceId": (TEXT, "resource, as its provider calls it"),
    "direction": (TEXT, "rise or fall"),
    "kind": (TEXT, "kind"),
    "observed": (MONEY, "cost of its days", _CURRENCY),
    "expected": (MONEY, "what these days were expected to cost", _CURRENCY),
    "excess": (MONEY, "observed less expected", _CURRENCY),
    "percent": (PERCENT, "share or change", "%"),
    "score": (NUMBER, "how far its surest day is out", "sigmas"),
    "cause": (TEXT, "likely cause"),
    "evidence": (TEXT, "what speaks for it, in sentences"),
    "drivers": (TEXT, "what moved most, as JSON"),
    "ended": (TEXT, "how it ended; null: it lasts"),
    "verdict": (TEXT, "verdict"),
    "judged_by": (TEXT, "who judged it"),
    "found": (COUNT, "anomalies found"),
    "judged": (COUNT, "of them judged"),
    "confirmed": (COUNT, "judged true"),
    "false": (COUNT, "judged false"),
    "false_positive_percent": (PERCENT, "false of judged", "%"),
    "sigma": (NUMBER, "sensitivity in force for the team", "sigmas"),
    "supported_sigma": (NUMBER, "sensitivity that the verdicts support", "sigmas"),
    "advice": (TEXT, "what to change"),
    # Owners.
    "rank": (COUNT, "1 is the suggestion, others are what else it may be"),
    "value": (TEXT, "value of the dimension"),
    "suggested": (TEXT, "what was suggested"),
    "confidence": (NUMBER, "how often such a suggestion proves right, of 1"),
    "service": (TEXT, "ServiceName"),
    "region": (TEXT, "RegionName, else RegionId"),
    "decided_by": (TEXT, "who decided"),
    "decided": (COUNT, "decisions about suggestions"),
    "accepted": (COUNT, "accepted as suggested"),
    "acceptance_rate": (NUMBER, "accepted of decided, of 1"),
    "mean_confidence": (NUMBER, "what was promised on average, of 1"),
    # Tag governance.
    "scope": (TEXT, "scope"),
    "without_cost": (MONEY, "positive effective cost without the dimension", _CURRENCY),
    "without_percent": (PERCENT, "share of positive effective cost without the dimension", "%"),
    "outside_cost": (MONEY, "positive effective cost with a value outside the canon", _CURRENCY),
    "target_percent": (PERCENT, "most that may be without, by the target", "%"),
    "target_by": (DAY, "when the target is to be reached"),
    "meets_target": (FLAG, "is the target reached?"),
    "nearest": (TEXT, "the nearest canonical value"),
    "likeness": (NUMBER, "how near, of 1"),
    "given_by": (TEXT, "what gave the value: tag keys, rules, owners"),
    "departments": (TEXT, "departments that have it"),
    "champion": (TEXT, "who answers for it"),
    "tag_key": (TEXT, "tag key as most often written"),
    "known_values_percent": (PERCENT, "share of its values that the dimension knows", "%"),
    "values": (COUNT, "distinct values"),
    "examples": (TEXT, "values with the most money"),
    "tag_sets": (COUNT, "distinct tag sets that have it"),
    "would_attribute_cost": (MONEY, "cost that would get the dimension if the key were its alias", _CURRENCY),
    "known_by": (TEXT, "what tells the department: tags or rules, its account, or nothing"),
    # Deliveries.
    "generation": (TEXT, "which delivery of the scope"),
    "state": (TEXT, "state"),
    "verified": (FLAG, "is it whole by its manifest?"),
    "files": (COUNT, "files"),
    "bytes": (COUNT, "size of its files", "bytes"),
    "focus_version": (TEXT, "FOCUS version"),
    "repairs": (COUNT, "values that were repaired on the way in"),
    "days_changed": (COUNT, "days that it changed"),
    "file": (TEXT, "file of the delivery"),
    "column": (TEXT, "column of the bill"),
    "example": (TEXT, "as it is written in the first such row"),
    "source_file": (TEXT, "export file that the row stood in"),
    "source_row": (COUNT, "its row in that file, from 1"),
    "first_row": (COUNT, "first such row of the file, from 1"),
    "largest_drift": (MONEY, "the furthest that rounding moved one value"),
    "drift_bound": (MONEY, "what rounding can have moved the column's sum at most"),
    # Conformance.
    "rule_id": (TEXT, "rule of FOCUS; null for a day that keeps to all"),
    "failing": (COUNT, "rows that break it"),
    "says": (TEXT, "what the rule asks"),
    "reference": (TEXT, "place in the specification"),
    # Clusters.
    "cluster": (TEXT, "Kubernetes cluster, as its usage or the tags of the charge name it"),
    "node": (TEXT, "node, as its cluster calls it"),
    "provider_id": (TEXT, "node, as the provider calls it, by its cluster"),
    "matched_by": (TEXT, "by what the bill's resource was found: provider id, or name"),
    "idle_cost": (MONEY, "of its split effective cost what nobody used", _CURRENCY),
    "idle_percent": (PERCENT, "idle of split effective cost", "%"),
    "unsplit_cost": (MONEY, "of its effective cost what is not split: charges of more than a day, or split by the provider", _CURRENCY),
    "nodes": (COUNT, "machines that the bill charges, or usage names"),
    "pods": (COUNT, "pods that ran on it on the day"),
    "usage_hours": (NUMBER, "hours of the day that usage tells of", "hours"),
    "usage_cost": (MONEY, "cost that the cluster's exporter gives it, at prices of its own: no cost of a bill", "the exporter's currency"),
    # Health.
    "figure": (TEXT, "which figure"),
    "of": (TEXT, "of whom; all for everyone"),
    "part": (MONEY, "the part: an amount, or a count"),
    "whole": (MONEY, "the whole that it is a part of"),
    # Alerts.
    "alert_key": (TEXT, "identity of the alert"),
    "title": (TEXT, "what it is, in a line"),
    "text": (TEXT, "what is known of it"),
    "figures": (TEXT, "its figures, as JSON"),
    "link": (TEXT, "where the UI shows it"),
    "deliveries": (TEXT, "what each channel was told, as JSON"),
    # Kept by the pipeline for itself.
    "stamp": (TEXT, "hash of what the day was made from"),
    # Of commands and pages alone.
    "built": (COUNT, "days that are built"),
    "awaited": (COUNT, "days whose bill is not due yet"),
    "held": (COUNT, "days that a gate holds"),
    "outdated": (COUNT, "days that show their last good version"),
    "by": (TEXT, "what would give the new value"),
    "from": (TEXT, "value now"),
    "to": (TEXT, "value then"),
    "rows_matched": (COUNT, "rows that the rule matches"),
    "rules_version": (TEXT, "version of the rules"),
    "changed": (TEXT, "what changed with the version"),
    "invoiced": (MONEY, "what was invoiced", _CURRENCY),
    "billed": (MONEY, "sum of BilledCost of what was delivered", _CURRENCY),
    "allowed": (MONEY, "difference that rounding may make", _CURRENCY),
    "left": (MONEY, "difference without it", _CURRENCY),
    "explains": (FLAG, "is what is left within what is allowed?"),
    "status": (TEXT, "outcome"),
    "found_in": (TEXT, "file and row"),
    "unit": (TEXT, "UTC day, or billing period"),
    "rows_a": (COUNT, "rows of the first"),
    "rows_b": (COUNT, "rows of the second"),
    "cells_differing": (COUNT, "cells that differ"),
    "in_b": (TEXT, "where the second has it"),
    "from_a": (TEXT, "file and row of the first"),
    "from_b": (TEXT, "file and row of the second"),
    **{
        f"{basis}_{side}": (MONEY, f"{basis} cost {what}", _CURRENCY)
        for basis in ("billed", "effective")
        for side, what in (("a", "of the first"), ("b", "of the second"), ("difference", ", second less first"))
    },
}  # fmt: skip

_FOCUS_KINDS = {"decimal": MONEY, "datetime": TIME}
COLUMNS: Mapping[str, Column] = {
    **{
        c.name: Column(c.name, _FOCUS_KINDS.get(c.type, TEXT), f"as in FOCUS {min(c.level)} to {max(c.level)}")
        for c in focus_columns().values()
    },
    **{name: Column(name, *said) for name, said in _SAID.items()},
}


def column(name: str) -> Column:
    """A column by its name. One that nobody declared is of a dimension of the user's, or what a person called a part: text."""
    if name in COLUMNS:
        return COLUMNS[name]
    for like in ("untagged_{}_percent_before", "untagged_{}_percent", "untagged_{}"):
        before, after = like.split("{}")
        if name.startswith(before) and name.endswith(after):
            return of_dimension_beside(
                column(like.format(DIMENSIONS[-1])), name.removeprefix(before).removesuffix(after)
            )
    return Column(name, TEXT, f"{name}, as given")


def of_dimension_beside(like: Column, name: str) -> Column:
    """The column of another dimension beside those of every rollup that is `like` one of theirs."""
    if like.name == DIMENSIONS[-1]:
        return of_dimension(name)
    said = like.meaning.replace(DIMENSIONS[-1], name)
    return replace(like, name=like.name.replace(DIMENSIONS[-1], name), meaning=said)


# ---- tables -------------------------------------------------------------------------------------

_BY_DAY, _DIMENSIONS = " ".join(key()), " ".join(DIMENSIONS)
_COSTS = "billed_cost effective_cost positive_effective_cost"
_PRICES = "list_cost contracted_cost"
_CHARGES = "source provider " + _DIMENSIONS + " ServiceCategory BillingCurrency"
_EVALUATED = (
    "budget department team dimensions basis currency period period_start period_end through amount threshold_percent spent"
    " spent_percent forecast forecast_percent low80 high80 low95 high95 chance severity reason days_missing history_days"
    " problem since_version budgets_version evaluated_at"
)
_COST_REPORT = (
    "effective_cost billed_cost effective_cost_compared effective_cost_before change_percent share_percent days days_before"
    " row_count"
)


def _table(
    name: str, meaning: str, columns: str, /, *, view: bool = False, published: bool = True, **says: str
) -> Table:
    """`columns` are names; what one means more narrowly here stands in `says`."""
    schema, _, short = name.rpartition(".")
    found = (replace(COLUMNS[c], meaning=says[c]) if c in says else COLUMNS[c] for c in columns.split())
    return Table(schema or "main", short, meaning, tuple(found), view, published)


ALL = (
    # The rollup and what stands beside it.
    _table(
        "daily_cost_by_team",
        "Cost by day, provider, every dimension of finops.yaml, service category and currency: the rollup, that reports"
        " are made of. Currencies are never added.",
        f"{_BY_DAY} {_COSTS} {_PRICES} resource_count row_count untagged_rows committed_rows",
        ServiceCategory="FOCUS service category, Other where missing",
    ),
    _table(
        "daily_cost_converted",
        "The rollup in the reporting currency of finops.yaml, with the original amounts and the rate of each row.",
        f"{_BY_DAY} currency {_COSTS} row_count original_billed_cost original_effective_cost rate rate_exact rate_date"
        " rate_source",
        BillingCurrency="currency that it was billed in",
        currency="reporting currency of the converted amounts",
    ),
    _table(
        "reported_cost",
        "What was reported when: every version of a day of the rollup, by source. What is reported now has no"
        " reported_to.",
        f"{_BY_DAY} source {_COSTS} row_count reported_from reported_to",
    ),
    _table(
        "reported_accruals",
        "Entries that spread charges longer than a day over their days, in every version that was reported.",
        f"{_BY_DAY} source accrual_date is_apportioned effective_cost positive_effective_cost reported_from reported_to",
        charge_date="UTC day that booked the charge",
    ),
    _table(
        "accrual_adjustments",
        "Those entries as they stand now; of one charge_date they sum to nothing.",
        f"charge_date accrual_date {_CHARGES} is_apportioned effective_cost positive_effective_cost",
        view=True,
        charge_date="UTC day that booked the charge",
    ),
    _table(
        "daily_accrued_cost",
        "Cost by the day that it is for: charges longer than a day are spread. Up to the newest reported day.",
        f"accrual_date {' '.join(key()[1:])} is_apportioned billed_cost accrued_cost positive_accrued_cost row_count",
        view=True,
    ),
    _table(
        "committed_cost",
        "What charges longer than a day still hold for days that are not reached. These are no actuals.",
        f"accrual_date booked_on {_CHARGES} committed_cost",
        view=True,
    ),
    _table(
        "daily_commitments",
        "Cost under commitment discounts by day, commitment and owner.",
        f"charge_date {_CHARGES} CommitmentDiscountId CommitmentDiscountName CommitmentDiscountType"
        " purchase_billed_cost purchase_effective_cost used_cost unused_cost other_effective_cost covered_list_cost"
        " term_start term_end row_count",
    ),
    _table(
        "daily_corrections",
        "What later bills brought to a day. The amounts are in the rollup of that day already.",
        "charge_date source provider department team BillingCurrency billing_period ChargeClass billed_cost effective_cost"
        " row_count",
    ),
    _table(
        "rolled_up_facts",
        "Which version of a source's facts the rollup of a day is built from.",
        "charge_date source stamp",
        published=False,
        stamp="version of the rules, and hash of the raw day",
    ),
    _table(
        "coverage",
        "What every answer is made of: how each source's day stands. A day that is not here was never run.",
        "charge_date source state since reason shown stamp",
        state="built: the gates passed and its cost, if any, is in the rollup; awaited: its bill is not due yet; held: a"
        " gate holds it",
        since="UTC, from when it is in this state",
        reason="why, and what to do",
        shown="what the rollup has of it: current (what was judged), previous (the last good version) or nothing",
        stamp="what was judged: version of the rules, and hash of the raw day",
    ),
    # Shared cost, sparse groups.
    _table(
        "daily_cost_allocated",
        "The rollup's days after the rules of shared cost: a row for each bearer. By day and currency it sums to the"
        " rollup.",
        "charge_date department team BillingCurrency rule method ratio origin_department origin_team via"
        " CommitmentDiscountId billed_cost effective_cost note",
        department="department that bears it",
        team="team that bears it",
        note="why it was not split",
    ),
    _table(
        "daily_chargeback",
        "By day and team: cost before and after the rules of shared cost.",
        "charge_date department team BillingCurrency showback_effective_cost chargeback_effective_cost"
        " showback_billed_cost chargeback_billed_cost provisional",
        view=True,
    ),
    _table("allocated_days", "What each day's allocation was made from.", "charge_date stamp", published=False),
    _table(
        "sparse_groups",
        "Resources of each department and team by day, and whether they are enough to be a cost center.",
        "charge_date department team resources min_resources sparse",
    ),
    _table(
        "daily_cost_by_cost_center",
        "The rollup with the team of a sparse group as __sparse__.",
        f"{_BY_DAY} {_COSTS} {_PRICES} row_count untagged_rows committed_rows",
        view=True,
        team="team; __sparse__ where the group has too few resources",
    ),
    _table("sparse_group_days", "What each day's sparse groups were made from.", "charge_date stamp", published=False),
    # Evaluation.
    _table(
        "budgets",
        "The budgets in force.",
        "budget department team dimensions period basis currency amount threshold_percent since_version changed_at",
        amount="what may be spent in the period",
    ),
    _table(
        "budget_changes",
        "Every change of the budgets, by version of the file; it only grows.",
        "version changed_at change budget department team dimensions period basis currency amount threshold_percent amount_before"
        " threshold_percent_before line",
        amount="what may be spent in the period",
    ),
    _table(
        "budget_evaluations",
        "Each budget by night: spent, expected at the period's end, and how serious that is.",
        _EVALUATED,
        amount="what may be spent in the period",
    ),
    _table(
        "budget_status",
        "The last night's evaluation of each budget that is in force.",
        _EVALUATED,
        view=True,
        amount="what may be spent in the period",
    ),
    _table(
        "forecast",
        "What the running month will have cost at its end, with intervals learned from past forecasts.",
        "series key currency period_start period_end actual_to_date forecast low80 high80 low95 high95 days_missing method"
        " history_days refused",
        method="how the series is expected",
    ),
    _table(
        "unit_costs",
        "What one of something costs, by day, week and month: cost of a selection by a quantity. Days count of which both are"
        " known.",
        "unit_cost metric dimensions grain period_start period_end currency effective_cost billed_cost quantity"
        " effective_per_unit billed_per_unit days days_without_quantity days_without_cost most_per_unit most_percent"
        " usual_per_unit unusual",
        dimensions="whose quantity and cost it is, as a JSON object; null: of all",
        days="days that count: quantity and cost are known",
        effective_cost="effective cost of the days that count; null where none does",
        billed_cost="billed cost of the days that count; null where none does",
    ),
    _table(
        "commitment_use",
        "Commitments by team, service and kind, over 30, 60 and 90 days: how much of what they could cover they covered, how much"
        " of them was used, and what one unit more would have saved and wasted.",
        "window_days scope source provider department team ServiceName CommitmentDiscountType CommitmentDiscountCategory currency"
        " eligible_cost covered_cost coverage_percent perhaps_eligible_cost used_cost unused_cost utilisation_percent rate_percent"
        " one_more one_more_saved one_more_wasted through days days_missing row_count",
        scope="team, or all: those of all teams together, whose department and team are null",
        ServiceName="ServiceName; of what was not used, that of the commitment's own charge",
        CommitmentDiscountType="type of the commitment, as the provider calls it; its category where it has none",
        days="days that count: the source's cost is in the rollup",
        row_count="facts rows: eligible usage, and what was not used",
    ),
    _table(
        "daily_tokens",
        "What tokens cost, by day, model, type and whose they are: how many, and the price of a million. A price of several rows is"
        " the sum of their cost by the sum of their tokens.",
        "charge_date source provider department team model token_type currency tokens effective_cost billed_cost"
        " effective_per_million billed_per_million cost_without_tokens row_count",
        effective_cost="effective cost of the charges that say how many tokens",
        billed_cost="billed cost of the charges that say how many tokens",
        row_count="facts rows about tokens",
    ),
    _table("token_days", "What each day's tokens were made from.", "charge_date stamp", published=False),
    _table(
        "waste",
        "Charges that the bill itself shows to be for nothing, or of a class that is seldom right: a row a resource, with money,"
        " rows, certainty and why.",
        "kind source provider ResourceId name account account_name service region department team currency first_day last_use through"
        " days cost_a_month cost_since could_save certainty why rule row_count",
        kind="idle address, unused capacity reservation, cost after use ended, no traffic, storage class, previous generation, old"
        " snapshot, unused seat",
        name="name of the resource",
        first_day="first UTC day of these charges after the last use, within 90 days",
        days="days from the first to the newest with the source's cost",
        why="why it is waste, in a sentence",
        rule="rule of evaluate/waste/rules.toml",
        row_count="facts rows of these charges since then",
    ),
    _table(
        "anomaly_history",
        "Days of a team's service, or of a costly resource, that cost what nobody expected.",
        "id department team dimensions ServiceCategory source ResourceId currency direction kind first_day last_day days observed"
        " expected excess percent score cause evidence drivers detected_at resolved_at ended verdict judged_at judged_by"
        " note",
        percent="excess of expected",
        verdict="confirmed or false; null: nobody judged it",
        kind="day or trend",
        days="days with figures",
    ),
    _table(
        "anomaly_rates",
        "Of the anomalies that people judged in 90 days, how many were false, by team.",
        "department team found judged confirmed false false_positive_percent sigma supported_sigma advice",
    ),
    _table(
        "alert_history",
        "Every alert that was raised, until it was resolved, and whom it was sent to.",
        "alert_key severity source department day title text figures link detected_at last_seen_at last_sent_at"
        " resolved_at note deliveries",
        severity="INFO, WARNING or CRITICAL",
    ),
    # Owners.
    _table(
        "owner_suggestions",
        "Who probably owns what nobody tagged in the last days: ranked values of a dimension, with evidence.",
        "source ResourceId dimension rank value confidence evidence name account account_name service region first_seen"
        " BillingCurrency effective_cost",
        value="suggested value",
        name="name of the resource",
        effective_cost="effective cost of the resource in the window",
    ),
    _table(
        "owner_decisions",
        "What people decided about suggestions. Accepted ones are rules.",
        "source ResourceId dimension verdict value suggested confidence evidence decided_at decided_by valid_from note",
        verdict="accepted or rejected",
        value="what was decided on",
    ),
    _table(
        "owner_acceptance",
        "How often suggestions proved right, by week and dimension.",
        "week dimension decided accepted acceptance_rate mean_confidence",
    ),
    # Tag governance.
    _table(
        "tag_coverage",
        "Cost without each required dimension, by week, in total and by provider, account and department.",
        "week scope name dimension currency positive_effective_cost without_cost without_percent outside_cost"
        " target_percent target_by meets_target",
        scope="all, provider, account or department",
        name="which of them",
    ),
    _table(
        "tag_values_outside_canon",
        "Values that are none of the canonical ones, with the money on them.",
        "dimension value nearest likeness given_by departments champion currency positive_effective_cost row_count",
        value="value as it is used",
    ),
    _table(
        "tag_keys_unmapped",
        "Tag keys that carry no dimension, with the money on them and the dimension whose values they seem to hold.",
        "tag_key dimension known_values_percent values examples tag_sets currency positive_effective_cost"
        " would_attribute_cost",
        dimension="dimension whose values the key mostly holds; null: none",
    ),
    _table(
        "tag_debt",
        "Who owes which tags: cost without a required dimension, or with a value outside the canon.",
        "champion department known_by account dimension problem value currency positive_effective_cost row_count",
        problem="missing, or outside the canon",
        value="the value outside the canon; null where it is missing",
    ),
    # Reports.
    _table(
        "reports.cost_by_team",
        "Cost of each team this month against the same days of the month before.",
        f"department team currency {_COST_REPORT}",
    ),
    _table(
        "reports.cost_by_service",
        "Cost of each service category this month against the same days of the month before.",
        f"ServiceCategory currency {_COST_REPORT}",
    ),
    _table(
        "reports.untagged_by_provider",
        "Share of the last 30 days' positive effective cost without each dimension.",
        "provider currency positive_effective_cost "
        + " ".join(f"untagged_{d} untagged_{d}_percent untagged_{d}_percent_before" for d in DIMENSIONS)
        + " days days_before",
    ),
    _table(
        "reports.restatements",
        "What moved since it was reported, by restatement, day, source, team and currency.",
        "restated_at charge_date source department team currency effective_cost_before effective_cost_after moved"
        " billed_moved rows_moved",
        effective_cost_before="effective cost before the restatement; null where the source had not reported the day",
    ),
    _table(
        "reports.commitments",
        "Each commitment over all days held: bought, used, not used.",
        "CommitmentDiscountId name type provider currency purchase_billed_cost used_cost unused_cost difference"
        " utilisation_percent first_day last_day term_start term_end term_held covered_list_cost saved_against_list"
        " purchase_effective_cost other_effective_cost",
        difference="purchase less used and unused; 0 over a whole term",
        name="name of the commitment",
        first_day="first UTC day of its rows",
        last_day="last UTC day of its rows",
    ),
    _table(
        "reports.unused_commitments",
        "Unused commitment by the department and team that it is attributed to.",
        "CommitmentDiscountId name provider department team currency unused_cost share_percent first_day last_day",
        share_percent="share of the currency's unused cost",
        name="name of the commitment",
    ),
    _table(
        "reports.corrections",
        "What later bills brought to days before. The amounts are in those days' figures.",
        "charge_date source billing_period ChargeClass department team currency billed_cost effective_cost row_count",
    ),
    _table(
        "reports.committed_cost",
        "What charges longer than a day still hold for days that are not reached, by month.",
        "month department team currency committed_cost",
    ),
    _table(
        "reports.allocation",
        "Showback and chargeback of this month side by side.",
        "department team currency showback given received chargeback change_percent",
        change_percent="chargeback against showback",
    ),
    _table(
        "reports.delivery_ledger",
        "Every delivery of every source and scope, and what became of it.",
        "source scope generation state verified seen_at delivered_at files bytes rows focus_version repairs first_day"
        " last_day days_changed reason",
        scope="what the delivery replaces: a billing period, a file",
        state="waiting, complete, superseded, refused, accepted or final",
    ),
    _table(
        "reports.repairs",
        "What was repaired on the way in, by delivery, file, rule and column.",
        "source scope generation file rule column rows example first_row largest_drift drift_bound",
        scope="what the delivery replaces: a billing period, a file",
        rule="what was repaired",
        rows="rows that were repaired",
    ),
    _table(
        "reports.conformance",
        "Rules of FOCUS that each source breaks, by charge day; a day that keeps to all has one row.",
        "source charge_date rule_id focus_version severity state failing judged column says example reason reference",
        severity="error or warning",
        state="failed, known_gap, passed or not_judged",
        judged="rows or columns that were judged",
        reason="why it is a known gap, or was not judged",
    ),
    _table(
        "reports.cluster_nodes",
        "Nodes of clusters by day: charges that were split by what ran on them, charges without usage, usage without charges.",
        "charge_date cluster node provider_id source ResourceId state matched_by currency billed_cost effective_cost idle_cost"
        " unsplit_cost pods usage_hours usage_cost",
        source="source whose bill charges it; null where none does",
        state="split; no usage: charged, and no usage tells what ran on it; no charge: usage of a node that no bill charges;"
        " no node named: usage that names none; claimed twice: another entry of clusters has usage of it",
        billed_cost="billed cost of the resource on the day",
        effective_cost="effective cost of the resource on the day",
    ),
    _table(
        "reports.health",
        "Untagged cost, pipeline success, false alarms, sparse groups and accepted suggestions, by week.",
        "figure of week percent part whole note",
        percent="part of whole",
    ),
)

TABLES: Mapping[tuple[str, str], Table] = {(t.schema, t.name): t for t in ALL}


def of_dimension(name: str) -> Column:
    """A dimension of finops.yaml beside those of every rollup, as a column of the rollup and of what is made of it."""
    return Column(
        name,
        TEXT,
        f"{name}; __untagged__ where no tag and no rule gives it, __other__ where it has too many values to be summed by;"
        " null on days built before finops.yaml had it",
    )


def with_dimensions(declared: Table, dimensions: Iterable[str]) -> Table:
    """A table as it is where finops.yaml has these dimensions; one that tells of none stays as it is declared."""
    places = [n for n, c in enumerate(declared.columns, 1) if DIMENSIONS[-1] in c.name]
    if not places:
        return declared
    others = [
        of_dimension_beside(declared.columns[n - 1], d)
        for d in grouped(dimensions)
        if d not in DIMENSIONS
        for n in places
    ]
    return replace(declared, columns=(*declared.columns[: places[-1]], *others, *declared.columns[places[-1] :]))


def facts_table(dimensions: Iterable[str]) -> Table:
    """The published view over the facts, with these dimensions of finops.yaml."""
    own = (
        Column("charge_date", DAY, "UTC day of ChargePeriodStart"),
        Column("source", TEXT, "source in finops.yaml"),
        Column("tag_set_id", TEXT, "id of the row's canonical tag set"),
        Column("source_file", TEXT, "export file that the row stood in"),
        Column("source_row", COUNT, "its row in that file, from 1"),
    )
    of_dimensions = (
        each
        for d in dimensions
        for each in (
            Column(d, TEXT, f"{d}, lower case; null where no tag and no rule gives it"),
            Column(f"{d}_key", TEXT, f"what gave {d}: the tag key as written, rule:<name> or owner:<who, when>"),
        )
    )
    focus = (COLUMNS[name] for name in focus_columns())
    return Table(
        "main",
        "cloud_cost_facts",
        "Every row of every bill once, with the dimensions that its tags and the rules give. Name the days in WHERE"
        " charge_date: only their files are opened.",
        (*own, *of_dimensions, *focus),
        view=True,
    )


def table(name: str, schema: str = "main", dimensions: Iterable[str] = ()) -> Table:
    """A declared table, as it is where finops.yaml has these dimensions.

    Raises:
        LookupError: nobody declared it.
    """
    found = TABLES.get((schema, name))
    if found is None:
        raise LookupError(
            f"the table {schema}.{name} is not declared in finops_assets/tables/declarations.py; declare it there"
        )
    return with_dimensions(found, dimensions)
