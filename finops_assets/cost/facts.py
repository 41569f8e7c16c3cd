"""cloud_cost_facts: every raw row of a day, once, with its dimensions and the tag key or rule that gave each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.attribution.versions import keep_version
from finops_assets.cost.clusters.split import split_days, split_stamp
from finops_assets.cost.coverage import Coverage
from finops_assets.cost.engines.choose import engine_of
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.day_files import stamp_of
from finops_assets.storage.lake import Key, Lake, LakeChanged, Layer, source_and_day
from finops_assets.storage.ledger import Ledger

LAYERS: tuple[Layer, ...] = ("unreleased", "facts", "nodes")


@dataclass(frozen=True)
class FactsDay:
    """What building one (day, source) came to; `written` is false where the file already was what it would be."""

    source: str
    day: date
    written: bool


def build_facts(
    lake: Lake, engine: EngineSettings, rules: Rules, sources: Iterable[str], days: Iterable[date]
) -> list[FactsDay]:
    """Attribute the raw files of these days and release them unjudged: for whoever has gates of their own, or none."""
    wanted = sorted(days)
    built = attribute_days(lake, engine, rules, [(source, day) for source in sources for day in wanted])
    release(lake, [(each.source, each.day) for each in built])
    return built


def attribute_days(lake: Lake, engine: EngineSettings, rules: Rules, keys: Iterable[Key]) -> list[FactsDay]:
    """Attribute raw files, one facts file per (source, day), replaced as a whole. They wait unreleased for their gates.

    Nothing is written where the raw day and the rules are those that the released file, or the one that waits, was
    built from. A (source, day) without a raw file has no facts either.
    """
    keys = list(keys)
    # In this order: facts may be newer than their stamp says, and are then built again, but never older.
    released, waiting = _stamps(lake, "facts", keys), _stamps(lake, "unreleased", keys)
    stamps = {key: facts_stamp(lake, rules, *key) for key in keys}
    work = [key for key in keys if lake.holds(lake.day_file("raw", *key))]
    for key in waiting:
        if released.get(key) == stamps[key]:
            lake.remove(lake.day_file("unreleased", *key).parent)
    stale = [key for key in work if stamps[key] not in (released.get(key), waiting.get(key))]
    if stale:
        lake.fetch([lake.day_file("raw", *key) for key in stale])
        keep_version(lake, rules)
        split = frozenset(split_days(lake, engine, rules.clusters, stale) if rules.clusters else ())
        # After the split, which enters the tags of what ran on nodes.
        resolved = attribution(lake, rules, sorted({s for s, _ in stale}))
        by_layer: dict[Layer, list[Key]] = {"raw": [key for key in stale if key not in split], "split": sorted(split)}
        for layer, of_layer in by_layer.items():
            if of_layer:
                engine_of(engine, lake).attribute(rules, resolved, {key: stamps[key] for key in of_layer}, layer)
        for key in split:
            lake.remove(lake.day_file("split", *key).parent)
    written = set(stale)
    return [FactsDay(*key, key in written) for key in work]


def release(lake: Lake, keys: Iterable[Key]) -> None:
    """Let what waits of these days count: it takes the place of the facts that were there. Nothing waits: nothing happens."""

    def put(key: Key) -> None:
        waiting, target = (lake.day_file(layer, *key) for layer in ("unreleased", "facts"))
        stamp = stamp_of(waiting)
        try:
            lake.move(waiting, target)
        except LakeChanged:
            # Another machine that built the same day from the same rows and rules has done the work.
            if [stamp_of(file) for file in lake.anew().fetch([target])] != [stamp]:
                raise
            lake.remove(waiting)
        lake.remove(waiting.parent)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, [key for key in keys if lake.holds(lake.day_file("unreleased", *key))]))


def forget_facts(lake: Lake, keys: Iterable[Key]) -> None:
    """Remove what there is of facts of these days: of a source whose cost does not count any more."""
    for key in keys:
        for layer in LAYERS:
            if lake.holds(lake.day_file(layer, *key)):
                lake.remove(lake.day_file(layer, *key))


def _stamps(lake: Lake, layer: Layer, keys: Sequence[Key]) -> dict[Key, str | None]:
    return {source_and_day(file): stamp_of(file) for file in lake.fetch(lake.day_file(layer, *key) for key in keys)}


def facts_stamp(lake: Lake, rules: Rules, source: str, day: date) -> str:
    """What a facts file is built from: the content of the raw day, the version of the rules, and what ran on nodes."""
    totals = Ledger(lake, source).day_totals(day)
    usage = split_stamp(lake, rules.clusters, day)
    return f"{rules.version} {totals.fingerprint if totals else 'unknown'}{usage and f' {usage}'}"


def is_behind(lake: Lake, rules: Rules, key: Key, judged: Coverage | None) -> bool:
    """Do the lake and the rules make something else of a (source, day) now than what was judged last, if it was?"""
    return lake.holds(lake.day_file("raw", *key)) if judged is None else judged.stamp != facts_stamp(lake, rules, *key)
