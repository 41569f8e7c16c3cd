"""Drawings as SVG: no script, no other file. Colours are classes of style.css, for light, dark and print; a picture
that stands alone brings its own.

Amounts become floating point here alone, as places on the paper; every figure that is shown as text comes rounded from
render.py. Text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from math import floor, log10

from markupsafe import Markup

Number = Decimal | float
WIDTH = 720
NARROW = 360
"""Of a drawing for a phone: its texts are as large as on a wide screen, names stand below instead of beside."""
LINE = 15
"""Least distance of two labels, in pixels of the drawing."""


@dataclass(frozen=True)
class Band:
    """What is expected, with its intervals."""

    middle: Number
    low80: Number
    high80: Number
    low95: Number
    high95: Number


@dataclass(frozen=True)
class Scale:
    """From values to places on the paper."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: Number) -> float:
        return self.start + (float(value) - self.low) * (self.end - self.start) / ((self.high - self.low) or 1.0)


def round_steps(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from one at or below `low` to one at or above `high`.

    >>> round_steps(0, 11467)
    [0.0, 2500.0, 5000.0, 7500.0, 10000.0, 12500.0]
    >>> round_steps(-3, 8, 3)
    [-5.0, 0.0, 5.0, 10.0]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(span / count))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k * count >= span)
    start = floor(low / step)
    steps = [start * step]
    while steps[-1] < high or len(steps) < 2:
        steps.append((start + len(steps)) * step)
    return steps


def spread(places: Sequence[float], least: float = LINE) -> list[float]:
    """Moves places apart, downwards from the topmost, so that labels do not lie upon each other.

    >>> spread([10, 12, 40])
    [10, 25, 40]
    """
    result = list(places)
    order = sorted(range(len(places)), key=lambda i: places[i])
    for above, below in pairwise(order):
        result[below] = max(result[below], result[above] + least)
    return result


def _text(x: float, y: float, text: str, anchor: str = "start", cls: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, cls, text)


def _line(x1: float, y1: float, x2: float, y2: float, cls: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, cls)


def _rect(x1: float, y1: float, x2: float, y2: float, cls: str, title: str = "") -> Markup:
    """Between two corners, whichever is where; never invisibly thin where it is meant to be seen."""
    shape = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}">').format(
        min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1), cls
    )
    return shape + (Markup("<title>{}</title>").format(title) if title else Markup("")) + Markup("</rect>")


def _path(points: Iterable[tuple[float, float]], cls: str, closed: bool = False) -> Markup:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<{} points="{}" class="{}"/>').format("polygon" if closed else "polyline", places, cls)


def _drawing(height: float, title: str, parts: Iterable[Markup], narrow: bool) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" class="{}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(
        NARROW if narrow else WIDTH,
        height,
        "phone" if narrow else "screen",
        title,
        title,
        Markup("").join(parts),
    )


def _named(
    marks: Sequence[tuple[float, str, str]], right: float, bottom: float, narrow: bool
) -> tuple[list[Markup], float]:
    """The names of lines (place, text, class) beside their ends; on a phone below each other, with the height of that."""
    if narrow:
        ordered = sorted(marks)
        return [_text(8, bottom + LINE * (i + 1), text, "start", cls) for i, (_, text, cls) in enumerate(ordered)], (
            LINE * len(marks) + 6
        )
    places = spread([place for place, _, _ in marks])
    return [_text(right, at + 4, text, "start", cls) for at, (_, text, cls) in zip(places, marks)], 0


def _cell(width: float, height: float, parts: Iterable[Markup]) -> Markup:
    """A drawing within a row whose figures stand beside it, so it says nothing of its own to a screen reader."""
    return Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" class="cell" width="{:.0f}" height="{:.0f}" aria-hidden="true">{}</svg>'
    ).format(width, height, width, height, Markup("").join(parts))


def _marks(marked: Mapping[int, str], x: Scale, top: float, bottom: float) -> tuple[list[Markup], list[Markup]]:
    """Days whose figures lack a source: their ground, and a mark at the top, for before and after what is drawn."""
    ground = [_rect(x(d - 1), top, x(d), bottom, "gap", text) for d, text in marked.items()]
    marks = []
    for d, text in marked.items():
        middle = (x(d - 1) + x(d)) / 2
        points = f"{middle - 5:.1f},{top:.1f} {middle + 5:.1f},{top:.1f} {middle:.1f},{top + 8:.1f}"
        marks.append(Markup('<polygon points="{}" class="lacks"><title>{}</title></polygon>').format(points, text))
    return ground, marks


def _levels(
    scale: Scale, steps: Sequence[float], left: float, right: float, label: Callable[[float], str]
) -> list[Markup]:
    parts = []
    for step in steps:
        y = scale(step)
        parts += [_line(left, y, right, y, "zero" if step == 0 else "grid"), _text(left - 8, y + 4, label(step), "end")]
    return parts


def month_so_far(
    title: str,
    now: Sequence[tuple[int, Decimal]],
    before: Sequence[tuple[int, Decimal]],
    days: int,
    expected: Band | None,
    budget: Decimal | None,
    gaps: Sequence[int],
    marked: Mapping[int, str],
    labels: Mapping[str, str],
    axis: Callable[[float], str],
    narrow: bool = False,
) -> Markup:
    """Cost added up over the month, beside the month before, with what is expected of its end.

    `now`, `before`: (day of the month, cost up to and with it). `gaps`: days without figures. `marked`: day -> which
    source its figures lack. `labels`: the texts at the right for now, before, expected, budget.
    """
    height, left, right, top, bottom = 270.0, 62, NARROW - 22 if narrow else WIDTH - 172, 14, 240
    values = [0.0, *(float(v) for _, v in (*now, *before))]
    values += [float(expected.low95), float(expected.high95)] if expected else []
    values += [float(budget)] if budget is not None else []
    steps = round_steps(min(values), max(values))
    y = Scale(steps[0], steps[-1], bottom, top)
    x = Scale(0, max([days, *(d for d, _ in before)]), left, right)
    ground, marks_of_days = _marks(marked, x, top, bottom)
    parts = [_rect(x(d - 1), top, x(d), bottom, "gap", f"day {d}: no figures") for d in gaps] + ground
    parts += _levels(y, steps, left, right, axis)
    parts += [
        _text((x(d - 1) + x(d)) / 2, bottom + 17, str(d), "middle") for d in (1, 5, 10, 15, 20, 25, 30) if d <= days
    ]
    marks: list[tuple[float, str, str]] = []
    if budget is not None:
        parts.append(_line(left, y(budget), right, y(budget), "budget"))
        marks.append((y(budget), labels["budget"], "label-budget"))
    if before:
        parts.append(_path([(x(0), y(0)), *((x(d), y(v)) for d, v in before)], "before"))
        marks.append((y(before[-1][1]), labels["before"], "label-before"))
    if now and expected:
        (at, spent), end = now[-1], x(days)
        for low, high, cls in (
            (expected.low95, expected.high95, "band95"),
            (expected.low80, expected.high80, "band80"),
        ):
            parts.append(_path([(x(at), y(spent)), (end, y(high)), (end, y(low))], cls, closed=True))
            # Where the month is nearly over the fan is narrow: the interval stands once more beside it.
            parts.append(_rect(right + 6, y(low), right + 14, y(high), cls))
        parts.append(_path([(x(at), y(spent)), (end, y(expected.middle))], "expected"))
        parts.append(_line(right + 4, y(expected.middle), right + 16, y(expected.middle), "middle"))
        marks.append((y(expected.middle), labels["expected"], "label-now"))
    if now:
        parts.append(_path([(x(0), y(0)), *((x(d), y(v)) for d, v in now)], "now"))
        parts.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" class="dot"/>').format(x(now[-1][0]), y(now[-1][1]))
        )
        if not expected:
            marks.append((y(now[-1][1]), labels["now"], "label-now"))
    names, below = _named(marks, right + 22, bottom + 24, narrow)
    return _drawing(height + below, title, parts + marks_of_days + names, narrow)


def by_day(
    title: str,
    days: Sequence[tuple[int, Decimal, Decimal | None, str]],
    length: int,
    gaps: Sequence[int],
    marked: Mapping[int, str],
    axis: Callable[[float], str],
    narrow: bool = False,
) -> Markup:
    """A bar a day, and a mark where that day of the period before was. `days`: number, cost, cost before, its text;
    `marked`: day -> which source its figures lack."""
    height, left, right, top, bottom = 170, 62, (NARROW if narrow else WIDTH) - 8, 10, 142
    side = 1 if narrow else 3
    values = [0.0, *(float(v) for _, v, _, _ in days), *(float(b) for _, _, b, _ in days if b is not None)]
    steps = round_steps(min(values), max(values), 3)
    y, x = Scale(steps[0], steps[-1], bottom, top), Scale(0, length, left, right)
    ground, marks = _marks(marked, x, top, bottom)
    parts = [_rect(x(d - 1), top, x(d), bottom, "gap", f"day {d}: no figures") for d in gaps] + ground
    parts += _levels(y, steps, left, right, axis)
    for d, value, before, text in days:
        if d not in gaps:
            parts.append(_rect(x(d - 1) + side, y(value), x(d) - side, y(0), "bar", text))
        if before is not None:
            parts.append(_line(x(d - 1) + 1, y(before), x(d) - 1, y(before), "mark"))
    numbered = [d for d in range(1, length + 1) if not narrow or d == 1 or d % 5 == 0]
    parts += [_text((x(d - 1) + x(d)) / 2, bottom + 17, str(d), "middle") for d in numbered]
    return _drawing(height, title, parts + marks, narrow)


def changes(title: str, moved: Sequence[tuple[str, Decimal, str]], narrow: bool = False) -> Markup:
    """Who costs more and who less, to the right and to the left. `moved`: name, amount, its text."""
    row, above, middle, reach = (38, 16, NARROW / 2, 100) if narrow else (22, 0, 450, 150)
    longest = max((abs(float(v)) for _, v, _ in moved), default=1.0) or 1.0
    height = row * len(moved) + 6
    parts = [_line(middle, 0, middle, height, "zero")]
    for i, (name, value, text) in enumerate(moved):
        top = i * row + 3
        end = middle + reach * float(value) / longest
        parts.append(_text(0 if narrow else 215, top + 13, short(name, 34), "start" if narrow else "end", "name"))
        parts.append(_rect(middle, top + above + 2, end, top + row - 5, "more" if value > 0 else "less"))
        parts.append(_text(end + (6 if value > 0 else -6), top + above + 13, text, "start" if value > 0 else "end"))
    return _drawing(height, title, parts, narrow)


def trend(
    title: str,
    weeks: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    target: float | None,
    narrow: bool = False,
) -> Markup:
    """A line each over the weeks, in percent, with its name at its end; `weeks` are the labels below."""
    height, left, right, top, bottom = 190.0, 62, NARROW - 12 if narrow else WIDTH - 182, 10, 160
    values = [v for line in lines.values() for v in line if v is not None]
    steps = round_steps(0.0, max([*values, target or 0.0, 1.0]), 4)
    y, x = Scale(steps[0], steps[-1], bottom, top), Scale(-0.3, max(1, len(weeks) - 1) + 0.0, left, right)
    parts = _levels(y, steps, left, right, lambda v: f"{v:g} %")
    every = max(1, -(-len(weeks) // (4 if narrow else 7)))
    parts += [
        _text(x(i), bottom + 17, name, "middle") for i, name in enumerate(weeks) if (len(weeks) - 1 - i) % every == 0
    ]
    marks: list[tuple[float, str, str]] = []
    if target is not None:
        parts.append(_line(left, y(target), right, y(target), "budget"))
        marks.append((y(target), f"target below {target:g} %", "label-budget"))
    for n, (name, line) in enumerate(lines.items()):
        points = [(x(i), y(v)) for i, v in enumerate(line) if v is not None]
        parts.append(_path(points, f"series s{n % 6}"))
        parts += [
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" class="point s{}"/>').format(*p, n % 6) for p in points
        ]
        if points:
            last = next(v for v in reversed(line) if v is not None)
            marks.append((points[-1][1], f"no {short(name, 14)} {last:.1f} %", f"label s{n % 6}"))
    names, below = _named(marks, right + 8, bottom + 24, narrow)
    return _drawing(height + below, title, parts + names, narrow)


def beside(now: Number, before: Number | None, budget: Number | None, low: Number, high: Number) -> Markup:
    """In a row of a table: a bar for now, a mark for before, one for the budget, on the scale of the whole table."""
    width, height = 150, 18
    x = Scale(min(0.0, float(low)), max(float(high), 0.0) or 1.0, 2, width - 3)
    parts = [_rect(x(0), 4, x(now), 14, "bar")]
    if before is not None:
        parts.append(_line(x(before), 2, x(before), 16, "mark"))
    if budget is not None:
        parts.append(_line(x(budget), 1, x(budget), 17, "limit"))
    return _cell(width, height, parts)


def bullet(spent: Number, amount: Number, expected: Band | None, most: float) -> Markup:
    """In a row: what is spent of a budget, what is expected, and the budget as a mark; `most`: the scale's end in
    budgets."""
    width, height = 190, 20
    whole = float(amount) or 1.0
    x = Scale(0.0, most, 2, width - 3)

    def place(value: Number) -> float:
        return x(min(max(float(value) / whole, 0.0), most))

    parts = [_rect(x(0), 2, x(most), 18, "track")]
    if expected:
        parts.append(_rect(place(expected.low95), 6, place(expected.high95), 14, "band95"))
        parts.append(_rect(place(expected.low80), 6, place(expected.high80), 14, "band80"))
    parts.append(_rect(x(0), 6, place(spent), 14, "bar"))
    if expected:
        parts.append(_line(place(expected.middle), 3, place(expected.middle), 17, "middle"))
    parts.append(_line(x(1), 0, x(1), 20, "limit"))
    return _cell(width, height, parts)


def interval(spent: Number, expected: Band, high: Number) -> Markup:
    """In a row: what is spent, and where the end is expected, on the scale of the whole table."""
    width, height = 190, 18
    x = Scale(0.0, float(high) or 1.0, 2, width - 3)
    at = {
        name: x(max(float(getattr(expected, name)), 0.0)) for name in ("middle", "low80", "high80", "low95", "high95")
    }
    return _cell(
        width,
        height,
        [
            _rect(x(0), 5, x(max(float(spent), 0.0)), 13, "bar"),
            _rect(at["low95"], 5, at["high95"], 13, "band95"),
            _rect(at["low80"], 5, at["high80"], 13, "band80"),
            _line(at["middle"], 2, at["middle"], 16, "middle"),
        ],
    )


def around(days: Sequence[tuple[int, Decimal]], first: int, last: int, expected: float) -> Markup:
    """In a row: the cost by day around an anomaly, its days marked. `days`: number, cost; `expected`: by day."""
    width, height = 130, 30
    values = [expected, 0.0, *(float(v) for _, v in days)]
    y = Scale(min(values), max(values), height - 2, 3)
    x = Scale(days[0][0], days[-1][0], 3, width - 3)
    step = (x(1) - x(0)) / 2
    points = [(x(d), y(v)) for d, v in days]
    parts = [
        _rect(x(first) - step, 0, x(last) + step, height, "marked"),
        _line(x(first) - step, y(expected), x(last) + step, y(expected), "mark"),
        _path(points, "spark"),
    ]
    parts += [
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2" class="dot"/>').format(x(d), y(v))
        for d, v in days
        if first <= d <= last
    ]
    return _cell(width, height, parts)


def one(days: Sequence[tuple[int, Number | None]], unusual: Sequence[int], most: Number | None) -> Markup:
    """In a row: what one of something cost by day, days that are not known as gaps, unusual ones as dots, the limit across."""
    width, height = 190, 30
    known = [float(v) for _, v in days if v is not None]
    y = Scale(0.0, max([*known, float(most or 0)]), height - 2, 3)
    x = Scale(days[0][0], days[-1][0], 3, width - 3)
    parts = [_line(3, y(most), width - 3, y(most), "limit")] if most is not None else []
    run: list[tuple[float, float]] = []
    for day, value in [*days, (0, None)]:
        if value is not None:
            run.append((x(day), y(value)))
        elif run:
            parts.append(_path(run, "spark"))
            run = []
    parts += [
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" class="dot"/>').format(x(day), y(value))
        for day, value in days
        if day in unusual and value is not None
    ]
    return _cell(width, height, parts)


PICTURE_STYLE = """
    text { font: 12px sans-serif; }
    .title { font-weight: bold; }
    .paper { fill: #ffffff; }
    .bar { fill: #4f6bed; }
"""


def picture_of_bars(title: str, bars: Sequence[tuple[str, Number, str]]) -> Markup:
    """A picture that stands alone: a bar for each (name, amount, its text), the name before it, the text behind."""
    width, left, row, top = 640, 230, 22, 34
    height = top + row * len(bars) + 10
    x = Scale(0.0, max((abs(float(v)) for _, v, _ in bars), default=0.0), left, width - 110)
    parts = [_rect(0, 0, width, height, "paper"), _text(8, 20, title, cls="title")]
    for i, (name, value, text) in enumerate(bars):
        y, end = top + i * row, x(abs(float(value)))
        parts.append(_text(left - 8, y + 13, name, "end"))
        parts.append(_rect(left, y + 2, end, y + row - 6, "bar"))
        parts.append(_text(end + 6, y + 13, text))
    return Markup('<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}"><style>{}</style>{}</svg>').format(
        width, height, PICTURE_STYLE, Markup("").join(parts)
    )


def short(text: str, most: int) -> str:
    """A name that fits, with … where it was cut.

    >>> short("marketplace", 6)
    'marke…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"
