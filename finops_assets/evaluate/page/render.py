"""The page as one HTML file, and its summary in Markdown. Here alone are amounts rounded: half to even, two places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from math import isnan
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finops_assets.base.period import Period
from finops_assets.base.templates import KeptTemplates
from finops_assets.base.text import markdown, one_line
from finops_assets.cost.rollup import UNKNOWN, UNTAGGED
from finops_assets.evaluate.page import charts
from finops_assets.evaluate.page.gather import (
    AnomalyLine,
    BudgetLine,
    ForecastLine,
    Lacking,
    Money,
    MonthFigures,
    Restated,
    Spend,
    UnitLine,
)

TEMPLATE = "month.html.jinja"
MOST_MOVERS, DRAWN_BUDGETS, MOST_PERCENT = 8, 2.0, 999
LONGEST_NAME, LONGEST_TEXT = 80, 600
CONTENTS = (
    ("month", "month"), ("teams", "teams"), ("services", "services"), ("budgets", "budgets"), ("forecast", "forecast"),
    ("untagged", "untagged"), ("anomalies", "anomalies"), ("restatements", "restatements"), ("debt", "tag debt"),
    ("units", "units"),
)  # fmt: skip

MOST_IN_TEXT = 8


def rounded(value: Decimal, signed: bool = False) -> str:
    """
    >>> rounded(Decimal("1234.565")), rounded(Decimal("0.005"), signed=True), rounded(Decimal(2), signed=True)
    ('1,234.56', '0.00', '+2.00')
    """
    text = f"{value:,.2f}"
    if not text.strip("-0.,"):
        return "0.00"
    sign = "−" if value < 0 else "+" if signed else ""
    return sign + text.removeprefix("-")


def _data(value: Decimal, signed: bool = False) -> Markup:
    return Markup('<data value="{}">{}</data>').format(f"{value:f}", rounded(value, signed))


def _of_one(value: Decimal) -> Markup:
    """What one of something costs: often a part of a cent."""
    return Markup('<data value="{}">{}</data>').format(f"{value:f}", f"{value:,.6f}")


def _percent(value: float) -> str:
    return "–" if isnan(value) else f"{value:.1f}"


def _changed(spend: Spend, unit: str = "") -> str:
    """The change in percent; in words where there was nothing before, a dash where nothing is known of it."""
    value = spend.change_percent
    if isnan(value):
        return "new" if spend.before == 0 and spend.compared else "–"
    if value > MOST_PERCENT:
        return f"> {MOST_PERCENT}{unit}"
    text = f"{value:+.1f}"
    return ("0.0" if not text.strip("+-0.") else text.replace("-", "−")) + unit


def _plain(names: Iterable[str]) -> str:
    """An owner as text.

    >>> _plain(("platform", "__untagged__")), _plain(("__untagged__", "__untagged__")), _plain(())
    ('platform / untagged', 'untagged', 'everybody')
    """
    named = ["untagged" if n == UNTAGGED else "unknown" if n == UNKNOWN else one_line(n, LONGEST_NAME) for n in names]
    return " / ".join(dict.fromkeys(named) if set(named) == {"untagged"} else named) or "everybody"


def _owner(names: Sequence[str]) -> Markup:
    """An owner; what nobody tagged in italics, so that it is told from a team of that name."""
    if set(names) == {UNTAGGED}:
        return Markup('<em class="none">untagged</em>')
    parts = [
        Markup('<em class="none">untagged</em>')
        if n == UNTAGGED
        else Markup("<bdi>{}</bdi>").format(one_line(n, LONGEST_NAME))
        for n in names
    ]
    return Markup(" / ").join(parts)


def _month(day: date) -> str:
    return f"{day:%B %Y}"


def _day(day: date) -> str:
    return f"{day.day} {day:%B}"


def _between(first: date, last: date) -> str:
    """
    >>> _between(date(2026, 10, 1), date(2026, 10, 30)), _between(date(2026, 10, 1), date(2026, 10, 1))
    ('1 to 30 October', '1 October')
    >>> _between(date(2026, 12, 30), date(2027, 1, 2))
    '30 December 2026 to 2 January 2027'
    """
    if first == last:
        return _day(first)
    if first.year != last.year:
        return f"{_day(first)} {first.year} to {_day(last)} {last.year}"
    return f"{first.day} to {_day(last)}" if first.month == last.month else f"{_day(first)} to {_day(last)}"


def _span(period: Period) -> str:
    """A whole month by its name, else from day to day."""
    last = period.end - timedelta(days=1)
    if period.first.day == 1 and period.end.day == 1:
        if period.first.month == last.month and period.first.year == last.year:
            return _month(period.first)
        if period.first.month == 1 and (last.month, last.year) == (12, period.first.year):
            return str(period.first.year)
    return _between(period.first, last)


def _days(days: Sequence[date]) -> str:
    """Days in a row as one.

    >>> _days([date(2026, 10, 1), date(2026, 10, 2), date(2026, 10, 14)])
    '1 to 2 October, 14 October'
    """
    runs: list[tuple[date, date]] = []
    for day in days:
        if runs and runs[-1][1] + timedelta(days=1) == day:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return ", ".join(_between(*run) for run in runs)


def _days_of(line: AnomalyLine | Restated) -> str:
    return _between(line.first_day, line.last_day)


def _axis(value: float) -> str:
    return f"{value:,.0f}".replace("-", "−") if value == int(value) else f"{value:,g}".replace("-", "−")


def _band(line: BudgetLine | ForecastLine) -> charts.Band | None:
    ends = (line.forecast, line.low80, line.high80, line.low95, line.high95)
    known = [end for end in ends if end is not None]
    return charts.Band(*known) if len(known) == len(ends) else None


def _extent(rows: Sequence[Spend], money: Money | None = None) -> tuple[Decimal, Decimal]:
    """The least and the largest figure that is drawn in the rows."""
    values = [v for row in rows for v in (row.spent, row.before) if v is not None]
    values += [b.amount for row in rows if money and (b := money.budget_of(row.name))]
    return min(values, default=Decimal(0)), max(values, default=Decimal(0))


def _twice(draw: Callable[..., Markup], *what: object) -> Markup:
    """A drawing for a screen and one for a phone; the style shows one of them."""
    return draw(*what) + draw(*what, narrow=True)


def _lacks(lacking: Iterable[Lacking]) -> str:
    """Which sources the figures lack, and on which days; empty where they lack none."""
    return "; ".join(
        f"{'last good version of' if each.outdated else 'without'} {one_line(each.source, LONGEST_NAME)} on {_days(each.days)}"
        for each in lacking
    )


def _marked(money: Money) -> dict[int, str]:
    """By day of the month what its figures lack, for the charts."""
    found: dict[int, str] = {}
    for each in money.lacking:
        for day in each.days:
            text = _lacks([Lacking(each.source, (day,), each.outdated)])
            found[day.day] = f"{found[day.day]}; {text}" if day.day in found else text
    return found


def _draw_month(figures: MonthFigures, money: Money) -> Markup:
    like = figures.period.like_days
    # A day that this month has no figures for is left out of the month before, too: heights are of like days.
    unlike = {like[day] for day in figures.gaps if day in like}

    def added_up(first: date, end: date) -> list[tuple[int, Decimal]]:
        costs = {day: cost for day, cost in money.accrued if first <= day < end and day not in unlike}
        total, points = Decimal(0), []
        for n in range((end - first).days):
            total += costs.get(first + timedelta(days=n), Decimal(0))
            points.append((n + 1, total))
        return points if costs else []

    month, before = figures.month, figures.month.before
    now = added_up(figures.period.first, figures.period.end)
    then = added_up(before.first, before.end)
    whole = money.whole_forecast if figures.still_to_come else None
    budget = money.budget_of_all
    labels = {
        "now": f"{month.first:%B}: {now[-1][1]:,.0f}" if now else "",
        "before": f"{before.first:%b}, like days: {then[-1][1]:,.0f}"
        if then and unlike
        else f"{before.first:%B}: {then[-1][1]:,.0f}"
        if then
        else "",
        "expected": f"expected: {whole.forecast:,.0f}" if whole else "",
        "budget": f"budget: {budget.amount:,.0f}" if budget else "",
    }
    return _twice(
        charts.month_so_far,
        f"Cost of {_month(month.first)} added up, {money.currency}: " + "; ".join(filter(None, labels.values())),
        now,
        then,
        (month.end - month.first).days,
        _band(whole) if whole else None,
        budget.amount if budget else None,
        [day.day for day in figures.gaps],
        _marked(money),
        labels,
        _axis,
    )


def _draw_days(figures: MonthFigures, money: Money) -> Markup:
    days = [
        (
            d.day.day,
            d.spent,
            d.before,
            f"{_day(d.day)}: {rounded(d.spent)}" + (f", before {rounded(d.before)}" if d.before is not None else ""),
        )
        for d in money.days
    ]
    length = (figures.month.end - figures.month.first).days
    title = f"Effective cost by day, {_month(figures.month.first)}, {money.currency}"
    return _twice(charts.by_day, title, days, length, [day.day for day in figures.gaps], _marked(money), _axis)


def _draw_movers(money: Money) -> Markup:
    changes = [(s.name, s.change) for s in money.movers[:MOST_MOVERS] if s.change is not None]
    moved = [(_plain(name), change, f"{change:+,.0f}".replace("-", "−")) for name, change in changes]
    return _twice(
        charts.changes, f"Largest changes, {money.currency}: " + "; ".join(f"{n} {text}" for n, _, text in moved), moved
    )


def _draw_beside(row: Spend, budget: BudgetLine | None, bounds: tuple[Decimal, Decimal]) -> Markup:
    return charts.beside(row.spent, row.before, budget.amount if budget else None, *bounds)


def _draw_budget(budget: BudgetLine, money: Money) -> Markup:
    shares = [
        float(v / b.amount) for b in money.budgets or () if b.amount for v in (b.spent, b.high95) if v is not None
    ]
    return charts.bullet(budget.spent, budget.amount, _band(budget), min(DRAWN_BUDGETS, max([1.15, *shares])))


def _draw_forecast(line: ForecastLine, lines: Sequence[ForecastLine]) -> Markup:
    band = _band(line)
    return charts.interval(line.spent, band, max(f.high95 or Decimal(0) for f in lines)) if band else Markup("")


def _draw_untagged(money: Money) -> Markup:
    weeks = sorted({w.week for line in (money.weeks or {}).values() for w in line})
    by_week = {name: {w.week: w for w in line} for name, line in (money.weeks or {}).items()}
    lines = {name: [known[w].percent if w in known else None for w in weeks] for name, known in by_week.items()}
    targets = [w.target for line in (money.weeks or {}).values() for w in line if w.target is not None]
    title = f"Cost without a required dimension by week, {money.currency}"
    return _twice(charts.trend, title, [f"{w.day} {w:%b}" for w in weeks], lines, targets[-1] if targets else None)


def _draw_anomaly(anomaly: AnomalyLine) -> Markup:
    if len(anomaly.days) < 2:
        return Markup("")
    days = [(day.toordinal(), cost) for day, cost in anomaly.days]
    expected = float(anomaly.expected) / max(1, anomaly.spans)
    return charts.around(days, anomaly.first_day.toordinal(), anomaly.last_day.toordinal(), expected)


def _draw_one(unit: UnitLine) -> Markup:
    if sum(one is not None for _, one in unit.by_day) < 2:
        return Markup("")
    days = [(day.toordinal(), one) for day, one in unit.by_day]
    return charts.one(days, [day.toordinal() for day, *_ in unit.unusual], unit.most)


def _weeks_of(units: Iterable[UnitLine]) -> list[date]:
    """The weeks of which some are told."""
    return sorted({week for unit in units for week, _ in unit.weeks})


def _told_of(unit: UnitLine) -> Iterator[str]:
    """What wants a look, in sentences."""
    named = f"{one_line(unit.name, LONGEST_NAME)}{f' of {one_line(unit.of, LONGEST_NAME)}' if unit.of else ''}"
    if unit.one is not None and unit.most is not None and unit.is_over:
        yield f"{named}: {unit.one:,.6f} of one, at most {unit.most:,.6f}"
    if unit.unusual:
        yield f"{named}: unusual on {_days([day for day, *_ in unit.unusual])}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("finops_assets.evaluate.page", ""),
        bytecode_cache=KeptTemplates(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever text is shown, wherever it came from.
        finalize=lambda value: one_line(value, LONGEST_TEXT) if type(value) is str else value,
    )
    environment.filters |= {
        "amount": lambda value: "–" if value is None else _data(value),
        "of_one": lambda value: "–" if value is None else _of_one(value),
        "signed": lambda value: "–" if value is None else _data(value, signed=True),
        "pct": _percent,
        "changed": _changed,
        "plain": _plain,
        "owner": _owner,
        "forecast_name": lambda name: _owner(name.split(" / ")),
        "month": _month,
        "day": _day,
        "span": _span,
        "days": _days,
        "days_of": _days_of,
        "lacks": _lacks,
    }
    environment.globals |= {
        "contents": CONTENTS,
        "extent": _extent,
        "draw_month": _draw_month,
        "draw_days": _draw_days,
        "draw_movers": _draw_movers,
        "draw_beside": _draw_beside,
        "draw_budget": _draw_budget,
        "draw_forecast": _draw_forecast,
        "draw_untagged": _draw_untagged,
        "draw_anomaly": _draw_anomaly,
        "draw_one": _draw_one,
        "weeks_of": _weeks_of,
    }
    return environment


def render_html(figures: MonthFigures) -> str:
    """The page: HTML with its style and drawings, that asks for nothing else and runs nothing."""
    return _environment().get_template(TEMPLATE).render(figures=figures)


def render_markdown(figures: MonthFigures) -> str:
    """The page in short."""
    lines = [f"**{_month(figures.month.first)}**, effective cost of {_span(figures.period)}", ""]
    if figures.gaps:
        lines += [f"Without figures: {_days(figures.gaps)}.", ""]
    lines += [f"{figures.compared}.", ""]
    for money in figures.money:
        if money.lacking:
            lines += [f"{markdown(money.currency, LONGEST_NAME)} {markdown(_lacks(money.lacking), LONGEST_TEXT)}.", ""]
    lines += [
        "| currency | spent | like days of the month before | change | expected at the end (80 %) | without a team | budgets over | anomalies |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for money in figures.money:
        whole = money.whole_forecast if figures.still_to_come else None
        expected = (
            f"{rounded(whole.forecast)} ({rounded(whole.low80)} to {rounded(whole.high80)})"
            if whole and whole.forecast is not None and whole.low80 is not None and whole.high80 is not None
            else "–"
        )
        over = sum(b.severity in ("CRITICAL", "WARNING") for b in money.budgets or ())
        cells = [
            markdown(money.currency, LONGEST_NAME), rounded(money.total.spent),
            "–" if money.total.before is None else rounded(money.total.before),
            _changed(money.total, " %"), expected, f"{_percent(money.untagged_share('team')[1])} %",
            "–" if money.budgets is None else f"{over} of {len(money.budgets)}",
            "–" if money.anomalies is None else str(len(money.anomalies) + money.more_anomalies),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for money in figures.money:
        for b in money.budgets or ():
            if b.severity in ("CRITICAL", "WARNING"):
                lines += [
                    "",
                    f"* {b.severity} {markdown(_plain(b.owner), LONGEST_NAME)}, {_span(b.period)}, {markdown(money.currency, LONGEST_NAME)}: {markdown(b.reason, LONGEST_TEXT)}",
                ]
        for a in (money.anomalies or ())[:3]:
            about = f"{markdown(_plain(a.owner), LONGEST_NAME)}, {markdown(a.resource or a.service, LONGEST_NAME)}, {_days_of(a)}"
            beyond = f"{rounded(abs(a.excess))} {markdown(money.currency, LONGEST_NAME)}"
            lines += ["", f"* {about}: {beyond} {'above' if a.excess > 0 else 'below'} what was expected; {a.cause}"]
        for unit in money.units or ():
            for told in _told_of(unit):
                lines += ["", f"* {markdown(money.currency, LONGEST_NAME)} {markdown(told, LONGEST_TEXT)}"]
    return "\n".join(lines) + "\n"


def render_text(figures: MonthFigures) -> str:
    """The page in lines of plain text, for mail and chat: amounts to the cent, what is missing, what wants a look."""
    lines = [f"Effective cost of {_span(figures.period)}; {figures.compared}."]
    if figures.gaps:
        lines.append(f"Without figures: {_days(figures.gaps)}.")
    for money in figures.money:
        change = _changed(money.total, " %")
        beside = f", {change} beside like days of the month before" if change != "–" else ""
        lines += ["", f"{money.currency}: {rounded(money.total.spent)} spent{beside}"]
        if money.lacking:
            lines.append(f"  {_lacks(money.lacking)}")
        for team in money.teams[:MOST_IN_TEXT]:
            lines.append(f"  {_plain(team.name)}: {rounded(team.spent)} ({_changed(team, ' %')})")
        more = len(money.teams) - MOST_IN_TEXT + (money.other_teams[0] if money.other_teams else 0)
        if more > 0:
            lines.append(f"  and {more} more")
        for b in money.budgets or ():
            if b.severity in ("CRITICAL", "WARNING"):
                lines.append(f"  budget of {_plain(b.owner)}, {_span(b.period)}: {one_line(b.reason, LONGEST_TEXT)}")
        for a in (money.anomalies or ())[:MOST_IN_TEXT]:
            side = "above" if a.excess > 0 else "below"
            about = f"{_plain(a.owner)}, {one_line(a.resource or a.service, LONGEST_NAME)}, {_days_of(a)}"
            lines.append(f"  {about}: {rounded(abs(a.excess))} {side} what was expected; {a.cause}")
        for unit in money.units or ():
            lines += [f"  {told}" for told in _told_of(unit)]
    return "\n".join(lines) + "\n"
