"""Pages as HTML, every name escaped and shown as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finops_assets.base.period import Period, next_month
from finops_assets.base.templates import KeptTemplates
from finops_assets.evaluate import tokens
from finops_assets.evaluate.reports import Basis
from finops_assets.explore.address import REPORTING, View
from finops_assets.explore.asking import CHARGES, Question
from finops_assets.explore.charts import Spec
from finops_assets.explore.exports import FORMATS
from finops_assets.explore.listing import Listing, amount, cell, heading, label, named
from finops_assets.explore.pages.page import Page, address
from finops_assets.explore.people import Person
from finops_assets.settings.access import OpenIdSignIn

NAMES = {
    "overview": "Overview", "teams": "Teams", "untagged": "Untagged", "budgets": "Budgets", "anomalies": "Anomalies",
    "commitments": "Commitments", "waste": "Waste", "allocation": "Allocation", "units": "Units", "tokens": "Tokens", "data": "Data",
}  # fmt: skip
OF_COST = ("overview", "teams")
"""Pages of cost in every split, before and after shared cost."""
OF_BASIS = (*OF_COST, "untagged", "allocation")
"""Pages whose figures are in the cost that is chosen."""
OF_FILTERS = (*OF_COST, "anomalies", "tokens")
"""Pages that filters narrow."""
OWN_COLUMNS: Mapping[str, tuple[str, ...]] = {"tokens": tokens.OWN_COLUMNS}
"""What a page can be filtered by that others do not know."""
OF_ALL = ("untagged", "commitments")
"""Pages whose figures are no one team's: they are for those who see all cost."""
SPLITS = (
    ("department", "team"), ("department",), ("team",), ("environment",), ("provider",), ("SubAccountName",),
    ("ServiceCategory",), ("ServiceName",), ("RegionName",), ("ChargeCategory",), ("source",),
)  # fmt: skip


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("finops_assets.explore"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, bytecode_cache=KeptTemplates(Path(__file__).parent),
    )  # fmt: skip
    made.globals |= {
        "address": address, "amount": amount, "cell": cell, "named": named, "heading": heading, "label": label,
        "pages": NAMES, "formats": list(FORMATS), "days": days_told, "spec": _spec, "bases": get_args(Basis),
        "reporting_word": REPORTING, "of_cost": OF_COST, "of_basis": OF_BASIS, "of_filters": OF_FILTERS, "of_all": OF_ALL, "elsewhere": elsewhere,
    }  # fmt: skip
    return made


def render(name: str, question: Question, page: Page, person: Person, said: str = "") -> str:
    """A page as HTML, for who asks."""
    view = question.view
    return _environment().get_template(f"{name}.html.jinja").render(
        name=name, q=question, view=view, page=page, charts=page.charts, said=said, person=person,
        signs_out=isinstance(question.settings.explore.sign_in, OpenIdSignIn), presets=presets(question),
        splits=_splits(question), **page.parts,
    )  # fmt: skip


def render_error(text: str, name: str, title: str = "This cannot be shown") -> str:
    return _environment().get_template("error.html.jinja").render(text=text, name=name, title=title)


def about(question: Question, listing: Listing) -> Mapping[str, str]:
    """What a file says of itself: days, basis, currency, filters, gaps, the command that prints the same."""
    view = question.view
    return {
        "table": listing.title,
        "days": days_told(view.period),
        "basis": f"{view.basis} cost, {view.shared} shared cost",
        "currency": question.currency,
        "filters": "; ".join(f"{column} = {value}" for column, value in view.where) or "none",
        "made of": "; ".join(question.made_of) or "every day is whole",
        "published": f"{question.published_at:%Y-%m-%d %H:%M} UTC",
        "command": listing.made.command if listing.made else "",
    }


def elsewhere(view: View, page: str) -> View:
    """The view as another page has it: without filters that it does not know."""
    unknown = {column for name, columns in OWN_COLUMNS.items() if name != page for column in columns}
    return view.changed(by=(), id="", where=tuple(pair for pair in view.where if pair[0] not in unknown))


def presets(question: Question) -> list[tuple[str, View]]:
    """Ranges that people often want, around the newest day."""
    first, last = question.span
    end = last + timedelta(days=1)
    month = last.replace(day=1)
    before = (month - timedelta(days=1)).replace(day=1)
    found: list[tuple[str, date, date]] = [
        ("this month", month, end),
        ("last month", before, month),
        ("30 days", end - timedelta(days=30), end),
        ("90 days", end - timedelta(days=90), end),
        ("this year", last.replace(month=1, day=1), end),
        ("all", first, end),
    ]
    return [(name, question.view.changed(first=start, end=stop)) for name, start, stop in found if stop > first]


def days_told(period: Period) -> str:
    """
    >>> days_told(Period(date(2026, 10, 1), date(2026, 11, 1)))
    'October 2026 (31 days)'
    >>> days_told(Period(date(2026, 10, 5), date(2026, 10, 6)))
    '5 October 2026'
    >>> days_told(Period(date(2026, 9, 30), date(2026, 10, 6)))
    '30 September to 5 October 2026 (6 days)'
    """
    first, last, days = period.first, period.end - timedelta(days=1), len(period.days)
    if first == last:
        return f"{first.day} {first:%B %Y}"
    if first.day == 1 and period.end == next_month(first):
        return f"{first:%B %Y} ({days} days)"
    if first.year != last.year:
        start = f"{first.day} {first:%B %Y}"
    elif first.month != last.month:
        start = f"{first.day} {first:%B}"
    else:
        start = f"{first.day}"
    return f"{start} to {last.day} {last:%B %Y} ({days} days)"


def _splits(question: Question) -> list[tuple[str, str]]:
    """What the form offers to split by: the usual columns, then the others; the value is as in the address."""
    known = question.groups
    usual = [split for split in SPLITS if set(split) <= set(known)]
    usual += [(d,) for d in known if (d,) not in usual and d not in question.charge_groups]
    rest = [(c,) for c in known if (c,) not in usual]
    found = [(",".join(split), ", ".join(map(heading, split))) for split in (*usual, *rest)]
    if question.has_charges:
        found.append((CHARGES, "single charges"))
    chosen = ",".join(question.view.by)
    if chosen and chosen not in {value for value, _ in found}:
        found.insert(0, (chosen, ", ".join(map(heading, question.view.by))))
    return found


def _spec(spec: Spec) -> Markup:
    """JSON in a script element, whatever stands in it."""
    text = json.dumps(spec, ensure_ascii=True, allow_nan=False, default=_plain)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _plain(value: Any) -> Any:
    return str(value)
