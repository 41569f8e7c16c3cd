"""Charts as Vega-Lite descriptions, which the library draws in the browser. Colours are those of the style sheet.

A picture needs no exact amounts: figures are doubles here, and each mark says the exact one in its tooltip. A mark's `href`
is where a click on it leads; the table beside a chart has the same links for the keyboard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

from finops_assets.cost.coverage import HELD, Coverage
from finops_assets.evaluate.page.render import rounded
from finops_assets.evaluate.reports import OTHERS
from finops_assets.explore.asking import MOST_GROUPS, add
from finops_assets.explore.listing import label, plain

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
MOST_BARS, MOST_DAILY = 12, 100
COLOURS = [f"var(--s{n})" for n in range(1, MOST_GROUPS + 1)] + ["var(--rest)"]
CONFIG: Spec = {
    "background": None, "font": "system-ui, Segoe UI, Roboto, Liberation Sans, sans-serif", "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--rule)", "domainColor": "var(--rule)",
        "tickColor": "var(--rule)", "labelFontSize": 12, "titleFontWeight": "normal",
    },
    "legend": {"labelColor": "var(--ink)", "titleColor": "var(--soft)", "labelFontSize": 12, "labelLimit": 190},
    "text": {"fill": "var(--ink)"},
}  # fmt: skip
_DAY_AXIS = {"title": None, "format": "%-d %b", "labelOverlap": True, "grid": False}


def _chart(height: int, layers: Sequence[Spec], **more: Any) -> Spec:
    return {
        "$schema": SCHEMA, "width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": list(layers), "config": CONFIG, **more,
    }  # fmt: skip


def by_day(
    costs: pd.DataFrame,
    group: str,
    currency: str,
    touched: Iterable[Coverage],
    before: Mapping[date, Decimal | None] | None = None,
    href: Callable[[Any, date], str] | None = None,
    span: tuple[date, date] | None = None,
) -> Spec:
    """Cost by day, one colour a group, the likes of the period before as a line, and the source-days that are missing.

    `costs` has charge_date, the group (OTHERS for what is together already) and cost; `span`: days that are framed, both inclusive. More days than MOST_DAILY are drawn by week.
    """
    days = sorted(set(costs["charge_date"]))
    weekly = bool(days) and (days[-1] - days[0]).days > MOST_DAILY
    rows = list(zip(costs["charge_date"].tolist(), costs[group].tolist(), costs["cost"].tolist()))
    totals: dict[Any, float] = {}
    for _, name, cost in rows:
        totals[name] = totals.get(name, 0.0) + abs(float(cost))
    order = sorted((name for name in totals if name != OTHERS), key=lambda name: -totals[name])
    drawn = order if len(order) <= MOST_GROUPS + 1 else order[:MOST_GROUPS]
    rest = len(drawn) < len(totals)
    kept, parts = set(drawn), dict[tuple[date, Any], list[Decimal]]()
    for day, name, cost in rows:
        parts.setdefault((_monday(day) if weekly else day, name if name in kept else None), []).append(cost)
    sums = {place: add(amounts) for place, amounts in parts.items()}
    names = [label(name) for name in drawn] + ([OTHERS] if rest else [])
    values = [
        {
            "day": str(day), "group": OTHERS if name is None and OTHERS in names else label(name), "cost": float(cost),
            "says": f"{'week of ' if weekly else ''}{day}, {OTHERS if name is None else label(name)}:"
            f" {rounded(cost)} {currency}",
            "href": href(name, day) if href and name is not None and not weekly else None,
        }
        for (day, name), cost in sums.items()
    ]  # fmt: skip
    x = {"field": "day", "type": "temporal", "timeUnit": _unit(weekly), "axis": _DAY_AXIS}
    layers: list[Spec] = [
        {
            "data": {"values": values},
            "mark": {"type": "bar", "cursor": "pointer" if href and not weekly else "default"},
            "encoding": {
                "x": x,
                "y": {"field": "cost", "type": "quantitative", "axis": {"title": currency, "format": "~s", "tickCount": 5}},
                "color": {
                    "field": "group", "type": "nominal", "sort": names,
                    "scale": {"domain": names, "range": COLOURS[: len(names)]},
                    "legend": {"title": None, "orient": "bottom", "columns": 4},
                },
                "order": {"field": "place", "type": "quantitative"},
                "tooltip": {"field": "says"}, "description": {"field": "says"},
            },
        }
    ]  # fmt: skip
    places = {name: n for n, name in enumerate(names)}
    for value in values:
        value["place"] = places.get(str(value["group"]), 0)
    if before and not weekly:
        likes = [
            {"day": str(day), "cost": float(cost), "says": f"like day of {day} before: {rounded(cost)} {currency}"}
            for day, cost in before.items()
            if cost is not None
        ]
        layers.append(
            {
                "data": {"values": likes},
                "mark": {"type": "tick", "thickness": 2, "color": "var(--ink)", "bandSize": 9},
                "encoding": {
                    "x": {**x, "bandPosition": 0.5}, "y": {"field": "cost", "type": "quantitative"},
                    "tooltip": {"field": "says"}, "description": {"field": "says"},
                },
            }
        )  # fmt: skip
    if span is not None:
        layers.append(
            {
                "data": {"values": [{"day": str(day)} for day in days if span[0] <= day <= span[1]]},
                "mark": {"type": "rect", "fill": "transparent", "stroke": "var(--critical)", "strokeWidth": 2},
                "encoding": {"x": x},
            }
        )
    shade, marks = _gaps(touched, x, weekly)
    # The marks last: a day's bar may be as high as the chart.
    return _chart(230, [*shade, *layers, *marks])


def _gaps(touched: Iterable[Coverage], x: Spec, weekly: bool) -> tuple[list[Spec], list[Spec]]:
    """The days on which something is missing: their shade, and a mark at the top that says what and why."""
    found: dict[date, list[Coverage]] = {}
    for c in touched:
        found.setdefault(_monday(c.day) if weekly else c.day, []).append(c)
    if not found:
        return [], []
    values = [
        {
            "day": str(day), "state": HELD if any(c.state == HELD for c in each) else "awaited",
            "says": "; ".join(f"{c.day} {c.source} {c.state}, shown: {c.shown}. {c.reason[:160]}" for c in each[:4]),
        }
        for day, each in found.items()
    ]  # fmt: skip
    said = {"tooltip": {"field": "says"}, "description": {"field": "says"}}
    shade = {
        "data": {"values": values}, "mark": {"type": "rect", "color": "var(--gap)"}, "encoding": {"x": x, **said},
    }  # fmt: skip
    return [shade], [
        {
            "data": {"values": values},
            "mark": {
                "type": "point", "shape": "triangle-down", "filled": True, "size": 90, "opacity": 1, "yOffset": 5,
                "stroke": "var(--paper)",
            },
            "encoding": {
                "x": {**x, "bandPosition": 0.5}, "y": {"value": 0},
                "color": {
                    "condition": {"test": "datum.state == 'held'", "value": "var(--critical)"},
                    "value": "var(--warning)",
                },
                **said,
            },
        },
    ]  # fmt: skip


def compared_bars(rows: pd.DataFrame, by: Sequence[str], currency: str, href: Callable[[dict[str, Any]], str]) -> Spec:
    """The largest groups, a bar each, with a tick where the like days before were."""
    values, likes = [], []
    for found in rows.head(MOST_BARS).to_dict("records"):
        row = {str(column): value for column, value in found.items()}
        name = " / ".join(label(row[b]) for b in by) or "all"
        says = f"{name}: {rounded(row['cost'])} {currency}"
        values.append({"name": name, "cost": float(row["cost"]), "says": says, "href": href(row)})
        before = plain(row["before"])
        if before is not None:
            likes.append(
                {"name": name, "cost": float(before), "says": f"{name}, like days before: {rounded(before)} {currency}"}
            )
    y = {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 180, "domain": False}}
    said = {"tooltip": {"field": "says"}, "description": {"field": "says"}}
    return _chart(
        max(60, 24 * len(values)),
        [
            {
                "data": {"values": values},
                "mark": {"type": "bar", "color": "var(--now)", "cursor": "pointer", "height": {"band": 0.62}},
                "encoding": {
                    "y": y,
                    "x": {"field": "cost", "type": "quantitative", "axis": {"title": currency, "format": "~s"}},
                    **said,
                },
            },
            {
                "data": {"values": likes}, "mark": {"type": "tick", "color": "var(--ink)", "thickness": 2},
                "encoding": {"y": y, "x": {"field": "cost", "type": "quantitative"}, **said},
            },
        ],
    )  # fmt: skip


def cumulated(
    days: Sequence[tuple[date, Decimal]], currency: str, end: date, forecast: Mapping[str, Decimal | None] | None
) -> Spec:
    """What was spent up to each day, and at the period's end the forecast with its bands."""
    total, values = Decimal(0), []
    for day, cost in days:
        total = add([total, cost])
        values.append({"day": str(day), "cost": float(total), "says": f"up to {day}: {rounded(total)} {currency}"})
    x = {"field": "day", "type": "temporal", "timeUnit": _unit(False), "axis": _DAY_AXIS}
    y = {"field": "cost", "type": "quantitative", "axis": {"title": currency, "format": "~s", "tickCount": 5}}
    said = {"tooltip": {"field": "says"}, "description": {"field": "says"}}
    layers: list[Spec] = [
        {
            "data": {"values": values}, "mark": {"type": "line", "color": "var(--now)", "strokeWidth": 2.5},
            "encoding": {"x": x, "y": y, "description": {"value": "spent to date"}},
        },
        {
            "data": {"values": values}, "mark": {"type": "point", "filled": True, "color": "var(--now)", "size": 22},
            "encoding": {"x": x, "y": y, **said},
        },
    ]  # fmt: skip
    if forecast and forecast.get("forecast") is not None:
        at = {"day": str(end - timedelta(days=1))}
        for level, width in ((95, 8), (80, 18)):
            low, high = forecast[f"low{level}"], forecast[f"high{level}"]
            if low is None or high is None:
                continue
            says = f"{level} % band: {rounded(low)} to {rounded(high)} {currency}"
            layers.append(
                {
                    "data": {"values": [{**at, "low": float(low), "high": float(high), "says": says}]},
                    "mark": {"type": "rule", "color": f"var(--band{level})", "strokeWidth": width},
                    "encoding": {
                        "x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}, **said,
                    },
                }
            )  # fmt: skip
        expected = forecast["forecast"]
        assert expected is not None
        layers.append(
            {
                "data": {"values": [{**at, "cost": float(expected), "says": f"expected: {rounded(expected)} {currency}"}]},
                "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 110, "color": "var(--ink)", "opacity": 1},
                "encoding": {"x": x, "y": y, **said},
            }
        )  # fmt: skip
    return _chart(180, layers)


def states(coverage: Iterable[Coverage], href: Callable[[Coverage], str]) -> Spec:
    """A square for each source and day, coloured by how it stands."""
    values = [
        {
            "day": str(c.day), "source": label(c.source), "state": c.state, "href": href(c),
            "says": f"{c.day} {label(c.source)}: {c.state}, shown: {c.shown}. {c.reason[:200]}",
        }
        for c in coverage
    ]  # fmt: skip
    sources = sorted({value["source"] for value in values})
    x = {"field": "day", "type": "temporal", "timeUnit": _unit(False), "axis": _DAY_AXIS}
    return _chart(
        28 * max(1, len(sources)),
        [
            {
                "data": {"values": values}, "mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 2},
                "encoding": {
                    "x": x, "y": {"field": "source", "type": "nominal", "sort": sources, "axis": {"title": None}},
                    "color": {
                        "field": "state", "type": "nominal",
                        "scale": {
                            "domain": ["built", "awaited", "held"],
                            "range": ["var(--s2)", "var(--warning)", "var(--critical)"],
                        },
                        "legend": {"title": None, "orient": "bottom"},
                    },
                    "tooltip": {"field": "says"}, "description": {"field": "says"},
                },
            }
        ],
    )  # fmt: skip


def used_of(rows: pd.DataFrame, currency: str) -> Spec:
    """Of each commitment what was used and what was not."""
    values = []
    for row in rows.to_dict("records"):
        name = f"{label(row['name'] or row['CommitmentDiscountId'])}, {label(row['provider'])}"
        for part in ("used", "unused"):
            cost = row[f"{part}_cost"]
            values.append(
                {"name": name, "part": part, "cost": float(cost), "says": f"{name}, {part}: {rounded(cost)} {currency}"}
            )
    return _chart(
        max(60, 26 * len(rows)),
        [
            {
                "data": {"values": values}, "mark": {"type": "bar", "height": {"band": 0.62}},
                "encoding": {
                    "y": {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 220}},
                    "x": {"field": "cost", "type": "quantitative", "axis": {"title": currency, "format": "~s"}},
                    "color": {
                        "field": "part", "type": "nominal",
                        "scale": {"domain": ["used", "unused"], "range": ["var(--s2)", "var(--critical)"]},
                        "legend": {"title": None, "orient": "bottom"},
                    },
                    "tooltip": {"field": "says"}, "description": {"field": "says"},
                },
            }
        ],
    )  # fmt: skip


def per_unit(rows: pd.DataFrame, grain: str, currency: str) -> Spec:
    """What one costs, period after period; a period of which it is not known is a gap in the line."""
    values = []
    for row in rows.sort_values("period_start").to_dict("records"):
        one, start = plain(row["effective_per_unit"]), plain(row["period_start"])
        day = f"{start:%Y-%m-%d}"
        of = f"{rounded(row['effective_cost'])} {currency} for {row['quantity']:,f}" if one is not None else "not known"
        says = (
            f"{'week of ' if grain == 'week' else ''}{day}: {f'{one:,.6f} {currency}, ' if one is not None else ''}{of}"
        )
        if row["unusual"]:
            says += f"; an unusual {row['unusual']} from about {row['usual_per_unit']:,.6f}"
        values.append(
            {"day": day, "cost": None if one is None else float(one), "says": says, "unusual": bool(row["unusual"])}
        )
    encoding = {
        "x": {"field": "day", "type": "temporal", "timeUnit": _unit(grain == "week"), "axis": _DAY_AXIS},
        "y": {"field": "cost", "type": "quantitative", "axis": {"title": f"{currency} of one", "tickCount": 4}},
        "tooltip": {"field": "says"}, "description": {"field": "says"},
    }  # fmt: skip
    line = {"type": "line", "point": True, "color": "var(--s1)", "invalid": "break-paths-show-path-domains"}
    layers: list[Spec] = [{"data": {"values": values}, "mark": line, "encoding": encoding}]
    if unusual := [value for value in values if value["unusual"]]:
        marked = {"type": "point", "filled": True, "size": 110, "color": "var(--critical)"}
        layers.append({"data": {"values": unusual}, "mark": marked, "encoding": encoding})
    if (most := rows["most_per_unit"].dropna()).size:
        says = f"at most {most.iloc[0]:,.6f} {currency} of one"
        layers.append(
            {
                "data": {"values": [{"cost": float(most.iloc[0]), "says": says}]},
                "mark": {"type": "rule", "color": "var(--warning)", "strokeWidth": 2, "strokeDash": [6, 4]},
                "encoding": {name: encoding[name] for name in ("y", "tooltip", "description")},
            }
        )
    return _chart(150, layers)


def prices(rows: pd.DataFrame, currency: str) -> Spec:
    """What a million tokens cost by day, a line for each of the costliest models and types."""
    costs: dict[str, float] = {}
    values = []
    for row in rows.to_dict("records"):
        name = " / ".join(label(row[column]) for column in ("model", "token_type"))
        costs[name] = costs.get(name, 0.0) + abs(float(row["effective_cost"]))
        price = plain(row["effective_per_million"])
        if price is not None:
            says = f"{row['charge_date']}, {name}: {price:,.4f} {currency} a million, of {row['tokens'].normalize():,f}"
            values.append({"day": str(row["charge_date"]), "group": name, "price": float(price), "says": says})
    drawn = {(value["day"], value["group"]) for value in values}
    days = sorted({pd.Timestamp(day) for day in rows["charge_date"].tolist()})
    # A value that is null ends a line: nothing is drawn across days of which there is no price.
    for day in (f"{day:%Y-%m-%d}" for day in (pd.date_range(days[0], days[-1]) if days else ())):
        values += [{"day": day, "group": name, "price": None} for name in costs if (day, name) not in drawn]
    values.sort(key=lambda value: str(value["day"]))
    names = sorted(costs, key=lambda name: -costs[name])[:MOST_GROUPS]
    said = {"tooltip": {"field": "says"}, "description": {"field": "says"}}
    return _chart(
        200,
        [
            {
                "data": {"values": [value for value in values if value["group"] in names]},
                "mark": {"type": "line", "point": True},
                "encoding": {
                    "x": {"field": "day", "type": "temporal", "timeUnit": _unit(False), "axis": _DAY_AXIS},
                    "y": {"field": "price", "type": "quantitative", "axis": {"title": f"{currency} a million", "tickCount": 5}},
                    "color": {
                        "field": "group", "type": "nominal", "sort": names,
                        "scale": {"domain": names, "range": COLOURS[: len(names)]},
                        "legend": {"title": None, "orient": "bottom", "columns": 3},
                    },
                    **said,
                },
            }
        ],
    )  # fmt: skip


def budgets(rows: pd.DataFrame, currency: str) -> Spec:
    """Spent and expected of each budget in percent of it; the budget itself is the line at 100."""
    bars, points = [], []
    for row in rows.to_dict("records"):
        name = f"{label(row['budget'])}, from {row['period_start']}"
        spent, expected = plain(row["spent_percent"]), plain(row["forecast_percent"])
        if spent is not None:
            bars.append({"name": name, "percent": spent, "says": f"{name}: {spent:,.1f} % spent"})
        if expected is not None:
            points.append({"name": name, "percent": expected, "says": f"{name}: {expected:,.1f} % expected"})
    y = {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 330}}
    x = {"field": "percent", "type": "quantitative", "axis": {"title": "% of the budget"}}
    said = {"tooltip": {"field": "says"}, "description": {"field": "says"}}
    return _chart(
        max(60, 26 * len(rows)),
        [
            {
                "data": {"values": bars}, "mark": {"type": "bar", "color": "var(--now)", "height": {"band": 0.62}},
                "encoding": {"y": y, "x": x, **said},
            },
            {
                "data": {"values": points},
                "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 90, "color": "var(--ink)", "opacity": 1},
                "encoding": {"y": y, "x": x, **said},
            },
            {
                "data": {"values": [{"at": 100}]}, "mark": {"type": "rule", "color": "var(--critical)", "strokeWidth": 2},
                "encoding": {"x": {"field": "at", "type": "quantitative"}},
            },
        ],
    )  # fmt: skip


def _unit(weekly: bool) -> Any:
    return "utcyearweek" if weekly else "utcyearmonthdate"


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
