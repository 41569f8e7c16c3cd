"""The delivery ledger: which generation of each scope was seen, what it held by day, what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from finops_assets.storage.lake import Lake
from finops_assets.storage.repair import Repair
from finops_assets.storage.scope import Sector, generation_identity, scope_days, scope_month
from finops_assets.storage.stores.store import StoredFile
from finops_assets.tables.rows import Rows

State = Literal["live", "superseded", "waiting", "refused", "withdrawn"]
Moment = Annotated[datetime, BeforeValidator(datetime.fromisoformat), PlainSerializer(datetime.isoformat)]
"""In a record with its offset, +00:00, where pydantic would write Z."""
NOT_READ = "not_read"
"""The record of files that look like data and are not read."""
PENDING = ("waiting", "refused")
"""The states of a newest delivery that hold the days which it concerns."""


@dataclass(frozen=True)
class DayTotals:
    """What a scope, or a whole day, holds for one charge day."""

    rows: int
    billed: Mapping[str, Decimal]
    effective: Mapping[str, Decimal]
    fingerprint: str

    def as_json(self) -> dict[str, Any]:
        return dict(_TOTALS.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DayTotals:
        return _TOTALS.validate_python(body)


@dataclass(frozen=True)
class Generation:
    """One delivery of a scope, as the ledger remembers it."""

    scope: str
    generation: str
    state: State
    seen_at: Moment
    delivered_at: Moment | None = None
    manifest: str | None = None
    files: tuple[tuple[str, int, str], ...] = ()
    reason: str | None = None
    rows: int = 0
    focus_version: str = ""
    columns: tuple[str, ...] = ()
    repairs: Mapping[str, int] = field(default_factory=dict)
    sectors: tuple[tuple[str, str, bool], ...] = ()
    days: Mapping[date, DayTotals] = field(default_factory=dict)
    changed: tuple[date, ...] = ()
    """The days whose rows differ from those of the generation before."""
    verified: bool = True
    """As `Delivery.verified`: did a manifest say what belongs to it?"""
    repaired: tuple[Repair, ...] = ()
    """`repairs` in detail, by file; of the live generation only."""
    form: int = 0
    """The canonical form that it was landed in: `landing.CANONICAL_FORM` then. An older one is landed again."""
    periods: tuple[tuple[date, date], ...] = ()
    """The billing periods of its rows, end exclusive; of one whose scope names no days."""
    month_long: bool = False
    """Is each of its charges of a month or longer?"""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Of one that was refused because other scopes hold the same charges: these, with their identity then."""

    empty: bool = False
    """Is there nothing at all in its files? Then it holds no day back that it never held."""

    @property
    def landed(self) -> bool:
        """Did its rows ever count?"""
        return bool(self.focus_version)

    @property
    def identity(self) -> str:
        """As `Delivery.identity` of the delivery that this entry is of."""
        return generation_identity(self.generation, (StoredFile(*file) for file in self.files))

    def recency(self) -> list[Sector]:
        """What the provider said of charge time when this was delivered."""
        return [Sector(datetime.fromisoformat(a), datetime.fromisoformat(b), c) for a, b, c in self.sectors]

    def as_json(self) -> dict[str, Any]:
        return dict(_GENERATION.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Generation:
        return _GENERATION.validate_python(body)


_TOTALS, _GENERATION = TypeAdapter(DayTotals), TypeAdapter(Generation)


class Ledger:
    """The generations of one source, newest last. One record per scope, replaced as a whole: that is the commit."""

    def __init__(self, lake: Lake, source: str) -> None:
        self.lake = lake
        self.source = source

    def scopes(self) -> list[str]:
        return self.lake.records(self.source, "scopes")

    def generations(self, scope: str) -> list[Generation]:
        body = self.lake.read_record(self.source, "scopes", scope)
        return [Generation.from_json(g) for g in body["generations"]] if body else []

    def latest(self, scope: str) -> Generation | None:
        """The last generation seen, whatever became of it."""
        return next(reversed(self.generations(scope)), None)

    def live(self, scope: str) -> Generation | None:
        """The generation whose rows count."""
        return next((g for g in reversed(self.generations(scope)) if g.state == "live"), None)

    def all_live(self) -> Iterator[Generation]:
        for scope in self.scopes():
            live = self.live(scope)
            if live is not None:
                yield live

    def enter(self, generation: Generation) -> None:
        """Enter what became of a delivery. A live one supersedes the live one before it; one that ends leaves none live."""
        entries = self.generations(generation.scope)
        if generation.state not in PENDING:
            entries = [superseded(g) if g.state == "live" else g for g in entries]
        # A delivery that waits or is refused is looked at again and again: its entry is renewed, not repeated.
        if entries and entries[-1].generation == generation.generation and entries[-1].state in PENDING:
            entries.pop()
        # What is taken out, or back again, or replaced is one entry, not one for each time.
        ends = generation.state in ("withdrawn", "superseded")
        if entries and entries[-1].identity == generation.identity and (ends or entries[-1].state == "withdrawn"):
            entries.pop()
        entries.append(generation)
        self.lake.write_record({"generations": [g.as_json() for g in entries]}, self.source, "scopes", generation.scope)

    def day_totals(self, day: date) -> DayTotals | None:
        """What the raw file of a day holds; None where there is none."""
        body = self.lake.read_record(self.source, "days", day.isoformat())
        return DayTotals.from_json(body["totals"]) if body else None

    def accept(self, scope: str) -> Generation:
        """Accept the newest delivery of a scope, which was refused: it is landed at the next run whatever it lost.

        If it was refused because other scopes hold the same charges, both count from then on, whatever comes again.
        One that was taken out counts again.

        Raises:
            ValueError: there is nothing to accept.
        """
        latest = self.latest(scope)
        if latest is None or latest.state not in ("refused", "withdrawn"):
            state = latest.state if latest else "unknown"
            raise ValueError(
                f"the newest delivery of {self.source} {scope} is {state}; only a refused or withdrawn one can be accepted"
            )
        if latest.state == "withdrawn":
            # Its slices were kept; one that was refused before it was taken out has none and is read again.
            latest = replace(latest, state="live" if latest.landed else "refused", reason=None, seen_at=now())
            self.enter(latest)
        beside = sorted({*latest.beside, *self.both_count(scope)})
        self.lake.write_record(
            {"accepted": latest.identity, "beside": beside, "at": now().isoformat()}, self.source, "accepted", scope
        )
        return latest

    def accepted(self, scope: str) -> str | None:
        """The generation (with its files) of a scope that a person accepted last."""
        body = self.lake.read_record(self.source, "accepted", scope)
        return str(body["accepted"]) if body else None

    def both_count(self, scope: str) -> frozenset[str]:
        """The scopes of which a person said that they count beside this one, though they look the same."""
        body = self.lake.read_record(self.source, "accepted", scope)
        return frozenset(body.get("beside", ())) if body else frozenset()

    def withdraw(self, scope: str, reason: str) -> Generation:
        """Take a scope out: what was landed of it no longer counts, nor what may still be delivered of it.

        Its slices stay, so that `accept` can take it back.

        Raises:
            ValueError: there is no such scope, or it is taken out already.
        """
        latest = self.latest(scope)
        if latest is None:
            known = ", ".join(self.scopes()) or "none yet"
            raise ValueError(f"{self.source} has no delivery {scope!r}; allowed: {known}")
        if latest.state == "withdrawn":
            raise ValueError(f"{self.source} {scope} is withdrawn already: {latest.reason}")
        entry = replace(self.live(scope) or latest, state="withdrawn", reason=reason, seen_at=now())
        self.enter(entry)
        return entry


def concerns(generation: Generation, day: date, live: Iterable[Generation]) -> bool:
    """Could a delivery that was not landed hold this day? By its rows or those before, by what its scope names, else yes."""
    landed = [g for g in live if g.scope == generation.scope]
    if any(day in g.days for g in landed):
        return True
    if generation.days or generation.empty:
        return day in generation.days
    named = scope_days(generation.scope)
    return named[0] <= day <= named[1] if named else not landed


FINAL_AFTER = timedelta(days=14)


def shown_state(generation: Generation, at: datetime) -> str:
    """A generation's state for people: waiting, complete, superseded, refused, withdrawn, or final.

    Final is soft: two weeks after the billing period no provider should change it, yet it is looked at as before.
    """
    if generation.state != "live":
        return generation.state
    month = scope_month(generation.scope)
    if month is None:
        return "complete"
    end = (datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC) + timedelta(days=32)).replace(day=1)
    return "final" if at >= end + FINAL_AFTER else "complete"


def remark(generation: Generation, first_day: date | None, at: datetime | None = None) -> str:
    """What there is to say of a live delivery: that it holds nothing, or rows of days that are in no figure, because they
    lie before the platform's first or after today (UTC).
    """
    if generation.state != "live":
        return ""
    if not generation.rows:
        return "holds no rows"
    early = [(day, totals) for day, totals in generation.days.items() if first_day and day < first_day]
    said = [_lie(early, f"before first_day {first_day}: in no figure")] if early else []
    return "; ".join([*said, *([late] if (late := rows_after_today([generation], at)) else [])])


def rows_after_today(live: Iterable[Generation], at: datetime | None = None) -> str:
    """What deliveries hold of days that have not come yet (UTC), in words; empty if nothing. One wrong digit of a year can
    put cost there.
    """
    today = (at or now()).date()
    late = [(day, totals) for generation in live for day, totals in generation.days.items() if day > today]
    return _lie(late, "after today: in no figure until then. Is their ChargePeriodStart right?") if late else ""


def _lie(days: Sequence[tuple[date, DayTotals]], where: str) -> str:
    rows = sum(totals.rows for _, totals in days)
    first, last = min(day for day, _ in days), max(day for day, _ in days)
    sums = sorted(total_cost(totals for _, totals in days).items())
    cost = ", ".join(f"{amount.normalize():f} {code}" for code, amount in sums)
    when = f"{first}" if first == last else f"{first} to {last}"
    return f"{rows:,} {'row' if rows == 1 else 'rows'} of {when} ({cost}) {'lies' if rows == 1 else 'lie'} {where}"


def ledger_table(lake: Lake, sources: Iterable[str], at: datetime | None = None, first_day: date | None = None) -> Rows:
    """Every generation of every source, newest scope first: what came when, its state, and which days it changed.

    `reason` says why one waits or was refused, and of a live one what it holds of days before `first_day`.
    """
    moment = at or now()
    rows = []
    for source in sources:
        ledger = Ledger(lake, source)
        for scope in reversed(ledger.scopes()):
            for g in reversed(ledger.generations(scope)):
                rows.append(
                    {
                        "source": source,
                        "scope": scope,
                        "generation": g.generation,
                        "state": shown_state(g, moment),
                        "verified": g.verified,
                        "seen_at": g.seen_at,
                        "delivered_at": g.delivered_at,
                        "files": len(g.files),
                        "bytes": sum(size for _, size, _ in g.files),
                        "rows": g.rows,
                        "focus_version": g.focus_version,
                        "repairs": sum(g.repairs.values()),
                        "first_day": min(g.days, default=None),
                        "last_day": max(g.days, default=None),
                        "days_changed": len(g.changed),
                        "reason": g.reason or remark(g, first_day, moment),
                    }
                )
    return Rows(LEDGER_COLUMNS, [tuple(row.values()) for row in rows])


LEDGER_COLUMNS = [
    "source", "scope", "generation", "state", "verified", "seen_at", "delivered_at", "files", "bytes", "rows",
    "focus_version", "repairs", "first_day", "last_day", "days_changed", "reason",
]  # fmt: skip


def fall(before: Decimal, after: Decimal, limit_percent: float = 0) -> Decimal:
    """How far a figure fell, in percent of what it was; 0 where it fell no further than the limit or was not positive."""
    if before <= 0 or after >= before:
        return Decimal(0)
    fell = (before - after) / before * 100
    return fell if fell > Decimal(str(limit_percent)) else Decimal(0)


def total_cost(days: Iterable[DayTotals]) -> dict[str, Decimal]:
    """Effective cost by currency over days."""
    total: dict[str, Decimal] = {}
    for day in days:
        for currency, amount in day.effective.items():
            total[currency] = total.get(currency, Decimal(0)) + amount
    return total


def superseded(generation: Generation) -> Generation:
    return replace(generation, state="superseded", repaired=())


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
