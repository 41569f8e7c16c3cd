"""Figures of what is made of the rollup: how good forecasts, budgets, anomalies and owners are, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tools.results import read_results

OURS = "finops forecast"
BASELINES = ("mean of 30 days", "straight line over 30 days", "seasonal naive")
ROWS = "3.6 million rollup rows (a year of 500 teams x 20 services)"


def forecast() -> list[str]:
    result = read_results("forecast")
    heads = ("of the 28-day total", OURS, *BASELINES, "in the 80 %", "in the 95 %")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kind, figures in (("all", result["all"]), *result["kinds"].items()):
        cells = [f"{figures['total_wape'][name]:.3f}" for name in (OURS, *BASELINES)]
        cells += [f"{figures['coverage'][level]:.1%}" for level in ("0.8", "0.95")]
        bold = "**" if kind == "all" else ""
        lines.append(f"| {' | '.join(f'{bold}{cell}{bold}' for cell in (kind, *cells))} |")
    return lines


def forecast_daily() -> list[str]:
    result = read_results("forecast")
    ours, *others = (result["all"]["daily_wape"][name] for name in (OURS, *BASELINES))
    told = ", ".join(f"{other:.3f}" for other in others[:-1]) + f" and {others[-1]:.3f}"
    better = "better than all three" if result["better_than_all"] else "not better than all three"
    return [f"In aggregate it is {better}, for the total and by the day ({ours:.3f} against {told})."]


def forecast_size() -> list[str]:
    result = read_results("forecast")
    asset, pairs = result["asset"], result["every_pair"]
    return [
        f"Size, on 2 shared cores: from {ROWS} to the {asset['series']} forecasts of the asset in {asset['wall_seconds']} s and"
        f" {asset['peak_mb']} MB (the engine bounded to 600 MB); every team x service as a series of its own, {pairs['series']:,}, in"
        f" {pairs['wall_seconds']} s and {pairs['peak_mb']} MB from the matrix on."
    ]


def budgets() -> list[str]:
    result = read_results("budgets")
    told = ("CRITICAL", "WARNING", "INFO", "nothing")
    heads = [
        "told on day",
        *(f"{name}: went over" for name in told[:-1]),
        "nothing told: went over",
        "of those that went over, WARNING or CRITICAL",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for day, row in result["by_day"].items():
        cells = [_percent(row[name]["went_over"]) if name in row else "" for name in told]
        lines.append(f"| {day} | {' | '.join([*cells, _percent(row['over_and_told_of'])])} |")
    return lines


def budgets_chances() -> list[str]:
    chances = read_results("budgets")["chances"]
    cells = [f"{_percent(of['went_over'])} of {of['times']:,}" for of in chances.values()]
    return [
        f"| chance | {' | '.join(chances)} |",
        "|---" * (len(chances) + 1) + "|",
        f"| went over | {' | '.join(cells)} |",
    ]


def budgets_size() -> list[str]:
    result = read_results("budgets")
    made, review = result["evaluated"], result["reviewed"]
    return [
        f"Size, on 2 shared cores, both busy with other work: {made['budgets']:,} budgets (a month, a quarter, a year and a billed month"
        f" for each of 500 teams and 25 departments), {made['evaluated']:,} periods judged over {ROWS} in {made['wall_seconds']} s"
        f" ({made['cpu_seconds']} s of CPU) and {made['peak_mb']} MB; the review of all in {review['wall_seconds']} s."
    ]


def allocation_size() -> list[str]:
    result = read_results("budgets")
    first, night = result["allocated"], result["allocated_next_night"]
    return [
        "Size, on 2 shared cores, both busy with other work: three rules (one team's cost to 500, one service of 500 teams to 500, two"
        f" teams' evenly) over a year of 3.6 million rollup rows: {first['rows'] / 1e6:.1f} million rows in {first['wall_seconds']:.0f} s"
        f" ({first['cpu_seconds']:.0f} s of CPU) and {first['peak_mb']} MB at first; the night after, one day and the check of all in"
        f" {night['wall_seconds']:.0f} s."
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


RULES = {
    "finops": "finops",
    "30 % over yesterday": "30 % over yesterday",
    "30-day mean + 3 sigma": "30-day mean ± 3 sigma",
}
CASES = {
    "spike of a day": ("spike", ("+30%", "+50%", "+100%", "+300%")),
    "three days": ("burst", ("+30%", "+50%", "+100%", "+300%")),
    "fall of a day": ("drop", ("-30%", "-50%", "-90%")),
    "shift": ("shift up", ("+30%", "+50%", "+100%")),
    "shift ": ("shift down", ("-30%", "-50%", "-90%")),
}
DRIFTS = ("+30%", "+60%", "+100%")


def anomalies() -> list[str]:
    rules = read_results("anomalies")["rules"]
    lines = [f"| | {' | '.join(RULES.values())} |", "|---" * (len(RULES) + 1) + "|"]
    for what, name, digits in (
        ("precision", "precision", 2),
        ("recall of what was injected", "recall", 2),
        ("false alarms a series and year", "false_alarms_a_series_and_year", 1),
        ("delay of what was found, days", "delay_days", 1),
    ):
        lines.append(f"| {what} | {' | '.join(f'{rules[rule][name]:.{digits}f}' for rule in RULES)} |")
    for what, (kind, sizes) in CASES.items():
        of = [[rules[rule]["by_kind_and_size"][f"{kind} {size}"]["recall"] for size in sizes] for rule in RULES]
        lines.append(f"| {what.strip()} {_sizes(sizes)} | {' | '.join(_listed(each) for each in of)} |")
    drifts = []
    for rule in RULES:
        of_size = [rules[rule]["by_kind_and_size"][f"drift {size}"] for size in DRIFTS]
        late = ", ".join(f"{each['delay_days']:.0f}" for each in of_size)
        drifts.append(f"{_listed(each['recall'] for each in of_size)} ({late} days)")
    lines.append(f"| drift {_sizes(DRIFTS)} (delay) | {' | '.join(drifts)} |")
    return lines


def _sizes(sizes: Iterable[str]) -> str:
    return ", ".join(size.replace("-", "−").replace("%", " %") for size in sizes)


def _listed(shares: Iterable[float]) -> str:
    return ", ".join(f"{share * 100:.0f}" for share in shares) + " %"


def anomalies_sigma() -> list[str]:
    three, more = read_results("anomalies")["other_sigmas"].values()
    return [
        f"With sigma 3: precision {three['precision']:.2f}, recall {three['recall']:.2f}, {three['false_alarms_a_series_and_year']:.2f}"
        f" false alarms a series and year. With 3.5: {more['precision']:.2f}, {more['recall']:.2f},"
        f" {more['false_alarms_a_series_and_year']:.2f}."
    ]


def anomalies_size() -> list[str]:
    made = read_results("anomalies")["scale"]
    return [
        f"Size, on 2 shared, busy cores: from {ROWS} to the anomalies of every day of the year with their exact amounts in"
        f" {made['wall_seconds']:.0f} s ({made['cpu_seconds']:.0f} s of CPU) and {made['peak_mb']} MB, the engine bounded to 600 MB. Drivers"
        " come on top: one pass over the facts of the days concerned."
    ]


WASTE_HEADS = ("found", "precision", "recall", "of the findings' money, waste")


def waste() -> list[str]:
    """By certainty and by kind: precision, and recall of what a bill can show."""
    made = read_results("waste")
    lines = [f"| | {' | '.join(WASTE_HEADS)} |", "|---" * (len(WASTE_HEADS) + 1) + "|"]
    lines.append(_line(["**all**", *_waste_cells(made["what_a_bill_can_show"])]))
    lines += [
        _line([f"certainty {name}", *_waste_cells(of, recall=False)]) for name, of in made["by_certainty"].items()
    ]
    lines += [_line([kind, *_waste_cells(of)]) for kind, of in made["by_kind"].items()]
    return lines


def _waste_cells(of: Mapping[str, Any], recall: bool = True) -> list[str]:
    right = [f"{of[name]:.2f}" if of[name] is not None else "" for name in ("precision", "recall", "money_right")]
    return [f"{of['found']}", right[0], right[1] if recall else "", right[2]]


def waste_misses() -> list[str]:
    made = read_results("waste")
    return [
        f"Of {made['resources']:,} resources {made['all']['planted']} are waste; with the {made['all']['planted'] - made['what_a_bill_can_show']['planted']}"
        f" that no bill can show recall is {made['all']['recall']:.2f}.",
        "",
        f"Found, and no waste: {_counted(made['wrongly_found'])}.",
        "",
        f"Not found: {_counted(made['not_found'])}.",
    ]


def _counted(cases: Mapping[str, int]) -> str:
    return (
        "; ".join(f"{name} ({count})" for name, count in sorted(cases.items(), key=lambda case: (-case[1], case[0])))
        or "none"
    )


METHODS = {
    "ours, all tags hidden": "**all tags hidden**",
    "ours, other tags kept": "other tags kept",
    "account majority": "account majority",
    "naive Bayes": "naive Bayes",
}
HIDDEN = {"random": "random", "accounts": "whole accounts", "newest": "newest"}


def owners(data: str, dimension: str, coverages: tuple[str, ...], splits: tuple[str, ...]) -> list[str]:
    """Precision at coverage of each method, and what was suggested above the threshold."""
    of = read_results("owners")["data"][data]
    heads = ["hidden", "method", *(f"{float(c) * 100:.0f} %" for c in coverages), "suggested", "right", "promised"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for split in splits:
        for place, (method, shown) in enumerate(METHODS.items()):
            figures = of["dimensions"][dimension]["splits"][split][method]
            cells = [HIDDEN[split] if not place else "", shown, *(_at(figures["precision_at"][c]) for c in coverages)]
            lines.append(_line([*cells, *_suggested(figures.get("at_threshold"))]))
    if "truly untagged" in of:
        figures = of["truly untagged"][dimension]
        lines.append(
            _line(["truly untagged", METHODS["ours, all tags hidden"], *[""] * len(coverages), *_suggested(figures)])
        )
    return lines


def _line(cells: list[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _at(precision: float | None) -> str:
    return "" if precision is None else f"{precision:.2f}".removeprefix("0")


def _suggested(figures: Mapping[str, Any] | None) -> list[str]:
    if not figures:
        return ["", "", ""]
    return [f"{figures['coverage'] * 100:.0f} %", _at(figures["precision"]), _at(figures["expected"])]


def owners_size() -> list[str]:
    made = read_results("owners")["scale"]
    return [
        f"**Size**: {made['untagged']:,} untagged among {made['resources']:,} resources over 30 days, team and department:"
        f" {made['wall_seconds']:.0f} s and {made['peak_mb']} MB, reading the facts included, on 2 shared cores"
        f" ({made['cpu_seconds']:.0f} s of CPU)."
    ]


BLOCKS: Mapping[str, Callable[[], list[str]]] = {
    "forecast": forecast,
    "forecast.daily": forecast_daily,
    "forecast.size": forecast_size,
    "budgets": budgets,
    "budgets.chances": budgets_chances,
    "budgets.size": budgets_size,
    "budgets.allocation": allocation_size,
    "anomalies": anomalies,
    "anomalies.sigma": anomalies_sigma,
    "anomalies.size": anomalies_size,
    "waste": waste,
    "waste.misses": waste_misses,
    "owners.sample": lambda: owners(
        "sample", "business_unit", ("0.1", "0.3", "0.4", "0.5", "0.6", "1.0"), ("random", "newest", "accounts")
    ),
    "owners.company": lambda: owners("company", "team", ("0.3", "0.5", "0.6", "0.8", "1.0"), ("random", "accounts")),
    "owners.size": owners_size,
}
