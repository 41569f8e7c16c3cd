"""Mistakes between settings, which no single section can see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finops_assets.base.secrets import without_secrets
from finops_assets.base.uris import Place, place_of
from finops_assets.focus.normal import normal_key, normal_value
from finops_assets.focus.specification import canonical_name, columns
from finops_assets.settings.anomalies import AnomalyLimits
from finops_assets.settings.shared_cost import SharedWhat


def cross_mistakes(raw: Mapping[str, Any], base: Path) -> list[tuple[tuple[str | int, ...], str]]:
    """Mistakes between settings; tolerant of raw input so that they show beside the simple ones."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    sources = [(i, s) for i, s in enumerate(list_of(raw.get("sources"))) if isinstance(s, dict)]
    names: dict[str, int] = {}
    for i, source in sources:
        name = str(source.get("name"))
        if name in names:
            found.append(
                (("sources", i, "name"), f"found {name!r} again (first at sources[{names[name]}]); names are unique")
            )
        names.setdefault(name, i)
    found += _shadow_mistakes(sources)
    for i, entry in sources:
        uri = entry.get("uri")
        if isinstance(uri, str) and without_secrets(uri) != uri:
            found.append(
                (
                    ("sources", i, "uri"),
                    f"found {without_secrets(uri)!r} with credentials in it; take them out: they come from the"
                    " provider's own chain (environment, profile, role)",
                )
            )
        gaps = entry.get("known_gaps")
        for j, gap in enumerate(gaps if isinstance(gaps, list) else []):
            if canonical_name(str(gap)) != gap:
                hint = meant(gap, columns())
                found.append((("sources", i, "known_gaps", j), f"found {gap!r}, which is no FOCUS column{hint}"))
    found += _place_mistakes(raw, sources, base)
    found += _cluster_mistakes(raw, set(names), base)
    found += _engine_mistakes(_mapping(raw.get("engine")), raw.get("lake"))
    dimensions = _mapping(raw.get("dimensions"))
    found += _alias_mistakes(dimensions)
    found += _policy_mistakes(_mapping(raw.get("tag_policy")), {str(d) for d in dimensions}, set(names))
    if raw.get("unit_costs") and not raw.get("unit_metrics"):
        needed = "needs unit_metrics: a CSV with date, metric and quantity, or a table of the warehouse"
        found.append((("unit_costs",), needed))
    for rules in ("shared_cost", "unit_costs"):
        found += _selection_mistakes(rules, list_of(raw.get(rules)), {str(d) for d in dimensions})
    found += _anomaly_mistakes(_mapping(raw.get("anomalies")), {str(d) for d in dimensions})
    found += rule_mistakes(list_of(raw.get("attribution_rules")), {str(d) for d in dimensions}, set(names))
    for i, item in enumerate(list_of(raw.get("acknowledged"))):
        if isinstance(item, dict) and str(item.get("source")) not in names:
            found.append(
                (("acknowledged", i, "source"), f"found {item.get('source')!r}; allowed: {', '.join(sorted(names))}")
            )
    found += _conforms_mistakes(_mapping(raw.get("conforms")), set(names))
    found += _channel_mistakes(list_of(_mapping(raw.get("alerts")).get("channels")), set(names))
    groups = {str(group) for group in _mapping(raw.get("access"))}
    found += _access_mistakes(_mapping(raw.get("explore")), groups)
    channels = list_of(_mapping(raw.get("alerts")).get("channels"))
    found += _digest_mistakes(list_of(raw.get("digests")), groups, [c for c in channels if isinstance(c, dict)])
    return found


def _engine_mistakes(engine: Mapping[str, Any], place: object) -> list[tuple[tuple[str | int, ...], str]]:
    """An engine that reads days of the lake from a bucket, and a lake that is in none, or in another cloud's."""
    run_on = str(engine.get("run_on"))
    lake = without_secrets(str(_mapping(place).get("uri") if isinstance(place, Mapping) else place))
    if run_on.startswith("bigquery://") and not lake.startswith("gs://"):
        needed = "BigQuery loads days from Google Cloud Storage only"
        return [
            (
                ("engine", "run_on"),
                f"found {run_on!r} beside lake {lake!r}; {needed}: allowed: lake: gs://bucket/folder",
            )
        ]
    if run_on.startswith("snowflake://") and "://" not in lake:
        needed = "Snowflake copies days from a stage on the lake's bucket"
        return [(("engine", "run_on"), f"found {run_on!r} beside lake {lake!r}; {needed}: allowed: a lake in a bucket")]
    return []


def _digest_mistakes(
    digests: list[Any], groups: set[str], channels: list[dict[str, Any]]
) -> list[tuple[tuple[str | int, ...], str]]:
    """Digests of groups or by channels that are not there, or by such that cannot carry one."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    kinds = {str(channel.get("name") or channel.get("kind")): channel.get("kind") for channel in channels}
    able = sorted(name for name, kind in kinds.items() if kind in ("smtp", "slack"))
    names: set[str] = set()
    for i, digest in enumerate(digests):
        if not isinstance(digest, dict):
            continue
        if (name := str(digest.get("name"))) in names:
            found.append((("digests", i, "name"), f"found {name!r} again; names are unique"))
        names.add(name)
        if str(digest.get("group")) not in groups:
            allowed = ", ".join(sorted(groups)) or "(`access` names no group)"
            found.append((("digests", i, "group"), f"found {digest.get('group')!r}; allowed: {allowed}"))
        if str(digest.get("channel")) not in able:
            allowed = ", ".join(able) or "(alerts.channels has none of kind smtp or slack)"
            found.append((("digests", i, "channel"), f"found {digest.get('channel')!r}; allowed: {allowed}"))
    return found


def _access_mistakes(explore: Mapping[str, Any], groups: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    """Sign-in without anybody who may see something, and tokens of groups that are nobody's."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    if explore.get("sign_in") and not groups:
        needed = "needs access beside it: which group sees whose cost, as `access: {finance: all, leads: [payments]}`"
        found.append((("explore", "sign_in"), needed))
    names: set[str] = set()
    for i, token in enumerate(list_of(explore.get("tokens"))):
        if not isinstance(token, dict):
            continue
        if (name := str(token.get("name"))) in names:
            found.append((("explore", "tokens", i, "name"), f"found {name!r} again; names are unique"))
        names.add(name)
        wanted = token.get("groups")
        for group in [wanted] if isinstance(wanted, str) else list_of(wanted):
            if str(group) not in groups:
                allowed = ", ".join(sorted(groups)) or "(`access` names no group)"
                found.append((("explore", "tokens", i, "groups"), f"found {group!r}; allowed: {allowed}"))
    return found


def _place_mistakes(
    raw: Mapping[str, Any], sources: list[tuple[int, dict[str, Any]]], base: Path
) -> list[tuple[tuple[str | int, ...], str]]:
    """URIs that cannot be understood, sources that read each other's files, and our own files among theirs."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    places: list[tuple[str, Any, Place]] = []
    ours = [(name, place) for name in ("lake", "warehouse", "published") if (place := _own_place(raw, name, base))]
    for i, (name, place) in enumerate(ours):
        for other, taken in ours[:i]:
            if place == taken:
                found.append(((name,), f"found {raw[name]!r}, as {other} has; each needs a path of its own"))
    for i, source in sources:
        uri, layout, name = source.get("uri"), source.get("layout"), str(source.get("name"))
        if not isinstance(uri, str):
            continue
        loc, shown = ("sources", i, "uri"), without_secrets(uri)
        try:
            place = place_of(uri, base)
        except ValueError as error:
            found.append((loc, str(error)))
            continue
        for own, at in ours:
            below = at.parts[len(place.parts) :]
            if layout == "files" and not place.pattern and place.holds(at) and not any(p[0] == "." for p in below):
                found.append(
                    (loc, f"found {shown!r}, below which {own} lies: it would be read as a bill; move one of them")
                )
        if source.get("shadow_of") is not None:
            continue  # it is not counted at all
        for other, its_layout, taken in places:
            if place == taken:
                said = f"which source {other!r} has, too"
            elif taken.holds(place) and its_layout in ("files", layout):
                said = f"which lies within that of source {other!r}"
            elif place.holds(taken) and layout in ("files", its_layout):
                said = f"within which that of source {other!r} lies"
            else:
                continue
            found.append((loc, f"found {shown!r} for source {name!r}, {said}; one cost would be counted twice"))
        places.append((name, layout, place))
    return found


def _cluster_mistakes(raw: Mapping[str, Any], sources: set[str], base: Path) -> list[tuple[tuple[str | int, ...], str]]:
    """Usage whose place cannot be understood or is another's, or whose name a source has: both name a job and a sensor."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    for i, cluster in enumerate(list_of(raw.get("clusters"))):
        if not isinstance(cluster, dict):
            continue
        name, uri = str(cluster.get("name")), cluster.get("uri")
        if name in sources:
            found.append((("clusters", i, "name"), f"found {name!r}, which a source has; names are unique"))
        if not isinstance(uri, str):
            continue
        loc = ("clusters", i, "uri")
        if without_secrets(uri) != uri:
            found.append(
                (
                    loc,
                    f"found {without_secrets(uri)!r} with credentials in it; take them out: they come from the"
                    " provider's own chain (environment, profile, role)",
                )
            )
            continue
        try:
            place = place_of(uri, base)
        except ValueError as error:
            found.append((loc, str(error)))
            continue
        for own in ("lake", "warehouse", "published"):
            at = _own_place(raw, own, base)
            if at and not place.pattern and place.holds(at):
                said = f"found {uri!r}, below which {own} lies: it would be read as usage; move one of them"
                found.append((loc, said))
        for source in list_of(raw.get("sources")):
            bills = _source_place(source, base)
            if bills and not bills.pattern and bills.holds(place):
                said = f"found {uri!r}, within the place of source {source['name']!r}: usage would be read as a bill"
                found.append((loc, said))
    return found


def _source_place(source: Any, base: Path) -> Place | None:
    """Where a source that takes any file reads, if it is understood."""
    uri = source.get("uri") if isinstance(source, dict) and source.get("layout") == "files" else None
    try:
        return place_of(uri, base) if isinstance(uri, str) else None
    except ValueError:
        return None


def _own_place(raw: Mapping[str, Any], name: str, base: Path) -> Place | None:
    """Where lake, warehouse or published copy lie, if it is understood; what is wrong with it is said elsewhere."""
    value = raw.get(name)
    uri = value.get("uri") if isinstance(value, dict) else value
    try:
        return place_of(uri, base) if isinstance(uri, str) and without_secrets(uri) == uri else None
    except ValueError:
        return None


def _shadow_mistakes(sources: list[tuple[int, dict[str, Any]]]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    counted = sorted(str(s.get("name")) for _, s in sources if s.get("shadow_of") is None)
    for i, source in sources:
        other = source.get("shadow_of")
        if other is None:
            continue
        if str(other) not in counted:
            allowed = ", ".join(counted) or "(a source without shadow_of, of which there is none)"
            found.append((("sources", i, "shadow_of"), f"found {other!r}; allowed: {allowed}"))
        if source.get("required") is True:
            found.append(
                (("sources", i, "required"), "found True, but a source with shadow_of holds no day; leave it out")
            )
    return found


def _channel_mistakes(channels: list[Any], sources: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    names: dict[str, int] = {}
    for i, channel in enumerate(channels):
        if not isinstance(channel, dict):
            continue
        loc = ("alerts", "channels", i)
        name = str(channel.get("name") or channel.get("kind"))
        if name in names:
            found.append(
                (
                    (*loc, "name"),
                    f"found {name!r} again (first at alerts.channels[{names[name]}]); names are unique, and a channel"
                    " without one is called as its kind",
                )
            )
        names.setdefault(name, i)
        for j, source in enumerate(list_of(channel.get("sources"))):
            if str(source) not in sources:
                found.append(((*loc, "sources", j), f"found {source!r}; allowed: {', '.join(sorted(sources))}"))
        if channel.get("kind") == "webhook" and (channel.get("url") is None) == (channel.get("url_env") is None):
            found.append((loc, "needs exactly one of url and url_env"))
        if channel.get("kind") == "smtp" and (channel.get("username_env") is None) != (
            channel.get("password_env") is None
        ):
            found.append((loc, "needs username_env and password_env together, or neither"))
    return found


def list_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


RESERVED = {"source", "charge_date", "provider", "tag_set_id", "repairs", "source_file", "source_row"} | {
    name.casefold() for name in columns()
}


def _columns_beside_dimensions() -> set[str]:
    """What the tables that have a column for each dimension call their other columns."""
    from finops_assets.tables.declarations import DIMENSIONS, TABLES  # not for every command: it brings pandas

    return {c.name.casefold() for t in TABLES.values() if t.by_dimensions for c in t.columns} - {*DIMENSIONS}


def _alias_mistakes(dimensions: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    owner: dict[str, tuple[str, str]] = {}
    taken = _columns_beside_dimensions() if dimensions else set()
    for dimension, body in dimensions.items():
        if str(dimension) in RESERVED or f"{dimension}".endswith("_key"):
            found.append((("dimensions", dimension), f"the name {dimension!r} is taken by a column of the facts"))
        elif str(dimension) in taken:
            found.append(
                (("dimensions", dimension), f"the name {dimension!r} is taken by a column of the rollup's tables")
            )
        if not isinstance(body, dict):
            continue
        for i, key in enumerate(list_of(body.get("keys"))):
            normal = normal_key(str(key))
            loc = ("dimensions", str(dimension), "keys", i)
            if not normal:
                found.append((loc, f"found {key!r}, which has no letter or digit"))
            elif normal in owner:
                other, spelled = owner[normal]
                found.append(
                    (
                        loc,
                        f"found {key!r}, which matches {spelled!r} of dimension {other!r} (case, user: and"
                        " punctuation are ignored); a key belongs to one dimension",
                    )
                )
            owner.setdefault(normal, (str(dimension), str(key)))
        targets: dict[str, str] = {}
        for value, target in _mapping(body.get("values")).items():
            normal = normal_value(str(value))
            if targets.setdefault(normal, str(target)) != str(target):
                found.append(
                    (
                        ("dimensions", str(dimension), "values", value),
                        f"found {value!r} -> {target!r}, but {normal!r} already becomes {targets[normal]!r}",
                    )
                )
    return found


def _policy_mistakes(
    policy: Mapping[str, Any], dimensions: set[str], sources: set[str]
) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    allowed = ", ".join(sorted(dimensions)) or "(no dimensions are configured)"

    def check(loc: tuple[str | int, ...], dimension: object, body: object = None) -> None:
        if str(dimension) not in dimensions:
            found.append((loc, f"found {dimension!r}; allowed: {allowed}"))
        if isinstance(body, dict):
            warn, block = body.get("warn_above"), body.get("block_above")
            if isinstance(warn, (int, float)) and isinstance(block, (int, float)) and warn > block:
                found.append((loc, f"found warn_above {warn} over block_above {block}; warn must not exceed block"))

    for i, dimension in enumerate(list_of(policy.get("required"))):
        check(("tag_policy", "required", i), dimension)
    for dimension in _mapping(policy.get("canonical")):
        check(("tag_policy", "canonical", dimension), dimension)
    for dimension, body in _mapping(policy.get("thresholds")).items():
        check(("tag_policy", "thresholds", dimension), dimension, body)
    for source, bodies in _mapping(policy.get("sources")).items():
        if source not in sources:
            found.append(
                (("tag_policy", "sources", source), f"found {source!r}; allowed: {', '.join(sorted(sources))}")
            )
        for dimension, body in _mapping(bodies).items():
            check(("tag_policy", "sources", source, dimension), dimension, body)
    return found


def meant(found: object, known: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a sentence; empty where none is alike."""
    close = difflib.get_close_matches(str(found), [*known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _conforms_mistakes(raw: Mapping[str, Any], sources: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    shares: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [
        (("conforms", "hold_above"), _mapping(raw.get("hold_above")))
    ]
    for source, body in _mapping(raw.get("sources")).items():
        if source not in sources:
            found.append((("conforms", "sources", source), f"found {source!r}; allowed: {', '.join(sorted(sources))}"))
        shares.append((("conforms", "sources", source), _mapping(body)))
    for loc, body in shares:
        for column in body:
            if canonical_name(str(column)) != column:
                hint = meant(column, columns())
                found.append(((*loc, column), f"found {column!r}, which is no FOCUS column{hint}"))
            elif column in DECIDE_FIGURES:
                found.append(((*loc, column), f"found {column!r}, without which no figure is known: it always holds"))
    return found


DECIDE_FIGURES = frozenset(
    [
        "BilledCost",
        "EffectiveCost",
        "ListCost",
        "ContractedCost",
        "BillingCurrency",
        "BillingPeriodStart",
        "BillingPeriodEnd",
        "ChargePeriodStart",
        "ChargePeriodEnd",
    ]
)
"""The columns without which money, its currency or its time is not known."""


def _selection_mistakes(
    setting: str, rules: list[Any], dimensions: set[str]
) -> list[tuple[tuple[str | int, ...], str]]:
    known = {*SharedWhat.model_fields, *dimensions} - {"others"}
    found: list[tuple[tuple[str | int, ...], str]] = []
    for i, rule in enumerate(rules):
        for name in _mapping(_mapping(rule).get("cost")):
            if str(name) not in known:
                hint = meant(name, sorted(known))
                said = f"is not a known setting{hint} (allowed: {', '.join(sorted(known))})"
                found.append(((setting, i, "cost", name), said))
    return found


def _anomaly_mistakes(anomalies: Mapping[str, Any], dimensions: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    given = anomalies.get("by")
    by = [str(d) for d in (given if isinstance(given, list) else [given] if given else [])]
    allowed = dimensions - {"department", "team"}
    found: list[tuple[tuple[str | int, ...], str]] = []
    for name in by:
        if name not in allowed:
            hint = meant(name, sorted(allowed))
            said = (
                f"found {name!r}{hint}; allowed: dimensions beside department and team ({', '.join(sorted(allowed))})"
            )
            found.append((("anomalies", "by"), said))
    known = {*AnomalyLimits.model_fields, *by} - {"others"}
    for i, entry in enumerate(list_of(anomalies.get("overrides"))):
        for name in _mapping(entry):
            if str(name) not in known:
                first = "; series are told apart by it once anomalies.by names it" if str(name) in allowed else ""
                hint = first or meant(name, sorted(known))
                said = f"is not a known setting{hint} (allowed: {', '.join(sorted(known))})"
                found.append((("anomalies", "overrides", i, name), said))
    return found


def rule_mistakes(rules: list[Any], dimensions: set[str], sources: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    names: dict[str, int] = {}
    for i, rule in enumerate(rules):
        if not isinstance(rule, dict):
            continue
        loc = ("attribution_rules", i)
        name = str(rule.get("name"))
        if name in names:
            first = f"attribution_rules[{names[name]}]"
            found.append(((*loc, "name"), f"found {name!r} again (first at {first}); names are unique"))
        names.setdefault(name, i)
        for dimension in _mapping(rule.get("set")):
            if str(dimension) not in dimensions:
                found.append(
                    ((*loc, "set", dimension), f"found {dimension!r}; allowed: {', '.join(sorted(dimensions))}")
                )
        when = _mapping(rule.get("when"))
        for column in when:
            if column in ("source", "tags"):
                continue
            known = columns().get(str(column))
            if known is None:
                hint = meant(column, columns())
                found.append(
                    ((*loc, "when", column), f"found {column!r}, which is no FOCUS column, source or tags{hint}")
                )
            elif known.type != "string":
                found.append(
                    (
                        (*loc, "when", column),
                        f"found {column!r}, whose values are no texts ({known.type}); rules read texts",
                    )
                )
        source = when.get("source")
        if isinstance(source, str) and not set(source) & {"*", "?"} and source not in sources:
            found.append(((*loc, "when", "source"), f"found {source!r}; allowed: {', '.join(sorted(sources))}"))
    return found
