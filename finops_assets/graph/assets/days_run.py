"""What one run of days knows of each (source, day): which flow, which a gate holds, which are awaited, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from finops_assets.cost.coverage import Covered
from finops_assets.cost.facts import facts_stamp
from finops_assets.platform import Platform
from finops_assets.storage.lake import Key


@dataclass
class DaysRun:
    """The days of a run. A day stops when nothing of it is built: `whole_day` as finops.yaml's `release` says."""

    days: Sequence[date]
    sources: Sequence[str]
    stamps: Mapping[Key, str]
    """What each was to be judged on (`facts.facts_stamp`), as it was before any verdict was read."""
    required: frozenset[str]
    whole_day: bool
    held: dict[Key, list[str]] = field(default_factory=dict)
    awaited: dict[Key, list[str]] = field(default_factory=dict)
    apart: dict[date, list[str]] = field(default_factory=dict)
    """Days that a gate holds which tells no source."""
    judged: set[date] = field(default_factory=set)
    """Days whose facts this run has judged, or found judged."""

    @classmethod
    def of(cls, platform: Platform, days: Sequence[date]) -> DaysRun:
        """A run of which nothing is held yet."""
        lake, rules, counted = platform.lake, platform.rules, platform.settings.counted
        stamps = {key: facts_stamp(lake, rules, *key) for key in platform.keys(days)}
        required = frozenset(s.name for s in counted if s.required) or frozenset(s.name for s in counted)
        return cls(days, platform.source_names, stamps, required, platform.settings.release == "whole_day")

    def hold(self, key: Key, reason: str) -> None:
        """A gate holds this part of the day."""
        self.held.setdefault(key, []).append(reason)

    def wait(self, key: Key, reason: str) -> None:
        """This part of the day is not due yet."""
        self.awaited.setdefault(key, []).append(reason)

    def hold_day(self, day: date, reason: str) -> None:
        """A gate holds the day as a whole."""
        self.apart.setdefault(day, []).append(reason)

    def flows(self, key: Key) -> bool:
        """Has nothing stopped this part of its day, whatever became of the others?"""
        return key not in self.held and key not in self.awaited

    def stops(self, day: date) -> bool:
        """Is nothing of the day built?"""
        if day in self.apart:
            return True
        needed = [self.flows((source, day)) for source in self.sources if source in self.required]
        return not all(needed) if self.whole_day else not any(needed)

    def free(self) -> list[Key]:
        """What is built."""
        flowing = set(self.free_days())
        return [(s, day) for day in self.days for s in self.sources if day in flowing and self.flows((s, day))]

    def free_days(self) -> list[date]:
        """The days that are built, with all or some of their sources."""
        return [day for day in self.days if not self.stops(day)]

    def held_days(self) -> dict[date, list[str]]:
        """The days of which nothing is built because of a gate, and all reasons."""
        return {day: r for day in self.days if self.stops(day) and self._is_held(day) and (r := self._reasons(day))}

    def stopped_days(self) -> dict[date, list[str]]:
        """The days of which nothing is built, held or awaited, and all reasons."""
        return {day: self._reasons(day) for day in self.days if self.stops(day)}

    def left_out(self, day: date) -> dict[str, list[str]]:
        """The sources that a day is built without, and why."""
        found = {s: [*self.held.get((s, day), ()), *self.awaited.get((s, day), ())] for s in self.sources}
        return {source: reasons for source, reasons in found.items() if reasons}

    def covered(self, days: Iterable[date]) -> dict[Key, Covered]:
        """What the table `coverage` says of these days."""
        return {key: self._covered(key, self.stamps[key]) for day in days for key in ((s, day) for s in self.sources)}

    def _covered(self, key: Key, stamp: str) -> Covered:
        if key in self.held:
            return Covered("held", "; ".join(self.held[key]), stamp)
        if key in self.awaited:
            return Covered("awaited", "; ".join(self.awaited[key]), stamp)
        day = key[1]
        if not self.stops(day):
            return Covered("built", "", stamp)
        # Nothing is wrong with this one: it waits for the others of its day.
        return Covered("held" if self._is_held(day) else "awaited", "; ".join(self._reasons(day)), stamp)

    def _is_held(self, day: date) -> bool:
        return day in self.apart or any((source, day) in self.held for source in self.sources)

    def _reasons(self, day: date) -> list[str]:
        of_sources = [reason for reasons in self.left_out(day).values() for reason in reasons]
        return [*of_sources, *self.apart.get(day, ())]
