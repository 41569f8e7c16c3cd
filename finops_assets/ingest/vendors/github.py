"""GitHub: usage of an organisation by day, product, SKU and repository (GET /organizations/{org}/settings/billing/usage).

By GitHub's REST reference, Enhanced billing: one answer a month, amounts JSON numbers in US dollars. Seats (Copilot, licences) are told
by day in user-months, so that they are accrued as GitHub does it; whose they are, and when each was last used, is told
for Copilot alone and for now alone (GET /orgs/{org}/copilot/billing/seats). Usage that belongs to a cost center of an enterprise is not in it. Not
tried against the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from finops_assets.ingest.vendors.shares import parts
from finops_assets.ingest.vendors.vendor import Ask, Endpoint, Parameters, Row, UnlikeReference, VendorApi, text

VERSION = "2022-11-28"
SEATS_A_PAGE, UNUSED_DAYS = 100, 30
UNUSED = f"seat without activity in {UNUSED_DAYS} days"
"""Stands in the meter of a seat's charge. evaluate/waste/rules.toml looks for it."""
_SHARED = ("amount", "quantity", "gross_amount", "discount_amount")
_NAMES = {
    "product": "product",
    "sku": "sku",
    "quantity": "quantity",
    "unitType": "unit_type",
    "pricePerUnit": "price_per_unit",
    "grossAmount": "gross_amount",
    "discountAmount": "discount_amount",
    "organizationName": "organization",
    "repositoryName": "repository",
}
"""GitHub's name of a value, and that of its column."""


def _asked(first: date, end: date) -> Parameters:
    # A month is asked for whole: a day alone would be a question each.
    return [("year", str(first.year)), ("month", str(first.month))]


def _rows(answer: Mapping[str, Any]) -> Iterator[Row]:
    for item in answer["usageItems"]:
        yield {
            "date": str(item["date"])[:10], "amount": text(item["netAmount"]), "currency": "USD",
            **{column: text(item.get(name)) for name, column in _NAMES.items()},
        }  # fmt: skip


def _seats(
    ask: Ask, pause: Callable[[float], None], path: str, days: tuple[date, date], warehouse: str
) -> Iterator[Mapping[str, Any]]:
    found, page = 0, 1
    while True:
        answer = ask(path, [("per_page", str(SEATS_A_PAGE)), ("page", str(page))])
        yield answer
        found, page = found + len(answer["seats"]), page + 1
        if len(answer["seats"]) < SEATS_A_PAGE:
            break
    if found != int(answer["total_seats"]):
        raise UnlikeReference(f"{found} seats came of {int(answer['total_seats'])}")


def _of_seats(answer: Mapping[str, Any]) -> Iterator[Row]:
    for seat in answer["seats"]:
        yield {
            "user": text((seat.get("assignee") or {}).get("login")), "plan": text(seat.get("plan_type")),
            **{name: (text(seat.get(name)) or "")[:10] for name in ("created_at", "last_activity_at")},
        }  # fmt: skip


def _by_seat(cost: Row, seats: list[Row]) -> list[Row]:
    """Copilot's charge of a day for its seats, an equal part each; which were not used for long says `seat_use`."""
    sku = (cost["sku"] or "").lower()
    plan = next((name for name in ("business", "enterprise") if name in sku), None)
    mine = [seat for seat in seats if plan is None or seat["plan"] in (plan, "unknown", None)]
    if (cost["product"] or "").lower() != "copilot" or (cost["unit_type"] or "").lower() != "user-months" or not mine:
        return [cost]
    long_ago = str(date.fromisoformat(str(cost["date"])) - timedelta(UNUSED_DAYS))
    shares = {name: parts(cost[name] or "0", [1] * len(mine)) for name in _SHARED if cost[name] is not None}
    return [
        {
            **cost, **{name: amounts[number] for name, amounts in shares.items()}, "user": seat["user"],
            "seat_use": UNUSED if max(seat["created_at"] or "", seat["last_activity_at"] or "") < long_ago else None,
        }
        for number, seat in enumerate(sorted(mine, key=lambda seat: (seat["user"] or "", seat["created_at"] or "")))
    ]  # fmt: skip


GITHUB = VendorApi(
    name="github",
    url="https://api.github.com",
    headers=lambda key: {
        "authorization": f"Bearer {key}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": VERSION,
    },
    costs=Endpoint(
        path="/organizations/{account}/settings/billing/usage",
        asked=_asked,
        following=lambda _: None,
        rows=_rows,
        columns=("date", "amount", "currency", *_NAMES.values(), "user", "seat_use"),
        kept=tuple(f"usageItems.{name}" for name in ("date", "netAmount", *_NAMES)),
        listed="usageItems",
    ),
    seats=Endpoint(
        path="/orgs/{account}/copilot/billing/seats",
        steps=_seats,
        rows=_of_seats,
        columns=("user", "plan", "created_at", "last_activity_at"),
        kept=tuple(f"seats.{name}" for name in ("assignee.login", "plan_type", "created_at", "last_activity_at")),
        listed="seats",
    ),
    by_seat=_by_seat,
)
