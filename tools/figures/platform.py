"""Figures of the path from a bill to the rollup, of deliveries, engines, queries and Dagster's share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tools.results import read_results

WORDS = {1_000_000: "1 million", 10_000_000: "10 million", 100_000_000: "100 million"}
PATH = (
    ("landing", ("raw",), "read once, repair, tag sets, split by charge day, fingerprint of each day"),
    ("facts", ("facts",), "dimensions beside every row"),
    ("rollup", ("rollup",), "rollup, history of what was reported, accrual, commitments, corrections"),
    ("gates", ("gates",), "every check of all three"),
)
AIM = "facts + rollup / floor, CPU"


def cpu(size: Mapping[str, Any], *steps: str) -> float | None:
    """CPU µs a row of these steps together."""
    if any(step not in size["steps"] for step in steps):
        return None
    return float(sum(size["steps"][step]["cpu_s"] for step in steps)) / int(size["rows"]) * 1e6


def floor(size: Mapping[str, Any]) -> float:
    """CPU µs a row of writing the same facts without attribution; at 100 million of a part of its days."""
    part = size.get("floor_of_a_part")
    return float(part["cpu_s"] / part["rows"] * 1e6) if part else cpu(size, "floor") or math.nan


def shown(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def path() -> list[str]:
    result = read_results("attribution")
    sizes = list(result["sizes"].values())
    lines = [
        f"| step | {' | '.join(WORDS[size['rows']] for size in sizes)} | what it does |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for name, steps, what in PATH:
        lines.append(_row(name, [shown(cpu(size, *steps)) for size in sizes], what))
    lines.append(
        _row(
            "floor of facts", [shown(floor(s)) for s in sizes], "same engine, files and columns written, no attribution"
        )
    )
    ratios = [f"**{(cpu(size, 'facts', 'rollup') or math.nan) / floor(size):.2f}**" for size in sizes]
    lines.append(_row("**(facts + rollup) / floor**", ratios, f"the aim was {result['aims'][AIM]:g}"))
    peaks = [max(size["steps"][step]["peak_mb"] for step in ("raw", "facts", "rollup")) for size in sizes]
    lines.append(_row("peak memory of any step, MB", [f"{peak:,.0f}" for peak in peaks], "with `memory_limit: 800 MB`"))
    return lines


def _row(name: str, cells: list[str], what: str) -> str:
    return f"| {name} | {' | '.join(cells)} | {what} |".replace("|  |", "| |")


def growth() -> list[str]:
    sizes = read_results("attribution")["sizes"]
    small, large, largest = sizes["1000000"], sizes["10000000"], sizes["100000000"]

    def exponent(*steps: str) -> float:
        """1: a row costs the same at both sizes."""
        ratio = (cpu(large, *steps) or math.nan) / (cpu(small, *steps) or math.nan)
        return 1 + math.log(ratio) / math.log(large["rows"] / small["rows"])

    landing, facts, rollup = (largest["steps"][step]["cpu_s"] for step in ("raw", "facts", "rollup"))
    return [
        f"Growth from 1 to 10 million rows: exponent {exponent('raw'):.2f} for landing, {exponent('facts', 'rollup'):.2f} for facts"
        " and rollup; at most 1.05 was the aim.",
        f"100 million rows, which were last measured when the engine wrote all that is landed, took {landing:,.0f} s of CPU to land, {facts:,.0f} for facts, {rollup:,.0f} for the rollup: of two cores"
        f" {(facts + rollup) / 120:.1f} minutes for facts and rollup, {(landing + facts + rollup) / 120:.0f} with landing.",
    ]


def naive() -> list[str]:
    size = read_results("attribution")["sizes"]["1000000"]
    step = size["steps"]["naive"]
    return [
        f"The naive way (`read_parquet` into pandas, a function a row, insert, group by) takes {step['cpu_s']:.1f} CPU s and"
        f" {step['peak_mb'] / 1000:.1f} GB for 1 million rows, and does not fit this machine at 10 million.",
    ]


def peers() -> list[str]:
    result = read_results("peers")
    lines = [
        f"{WORDS[result['rows']]} rows, medians of {result['repeats']} runs in turns, imports and all of the process counted:",
        "",
        "| way | CPU s | wall s | peak MB | its CPU / ours | answers | leaves out |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in result["ways"]:
        cells = [way["way"], shown(way["cpu_s"]), shown(way["wall_s"]), shown(way["peak_mb"], 0)]
        lines.append(_row(cells[0], [*cells[1:], f"{way['cpu_of_ours']:.2f}", way["answers"]], way["leaves_out"]))
    return lines


def history() -> list[str]:
    sizes = read_results("history")["sizes"]
    asked = ("publish again", "one day changed")
    lines = [
        "| days | facts | published copy, MB | `finops publish`, CPU s | one day changed: `finops run`, CPU s | its wall s | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        again, changed = (size[name] for name in asked)
        cells = [f"{size['rows']:,}", shown(size["published_mb"]), shown(again["cpu_s"]), shown(changed["cpu_s"])]
        peak = max(again["peak_mb"], changed["peak_mb"])
        lines.append(_row(f"{size['days']:,}", [*cells, shown(changed["wall_s"])], f"{peak:,}"))
    return lines


def bookkeeping() -> list[str]:
    runs = read_results("attribution")["dagster"]
    alone = next(run for run in runs if run["run"] == "one day, landed before")
    many = max(runs, key=lambda run: run["days"])
    a_day = [run["wall_per_day"] * run["outside_our_functions"] for run in (many, alone)]
    return [f"A day costs Dagster's bookkeeping {a_day[0]:.1f} s in a range of days, {a_day[1]:.1f} s alone."]


def queries() -> list[str]:
    result = read_results("queries")
    lines = ["| median of five | ms | CPU ms | load of the machine |", "|---|---|---|---|"]
    for part in (result["rollup"], result["facts"]):
        load = part["machine"]["load_at_start"]
        for question, took in part["questions"].items():
            cpu = f"{took['median_cpu_ms']:,.0f}" if "median_cpu_ms" in took else "-"
            lines.append(f"| {question} ({part['rows']:,} rows) | {took['median_ms']:,.0f} | {cpu} | {load:.0f} |")
    return lines


def ui_history() -> list[str]:
    result = read_results("ui_history")
    events = result["materialisations"] + result["evaluations"]
    years = "A year" if result["years"] == 1 else f"{result['years']} years"
    lines = [
        f"{years} of {result['sources']} sources, each day materialised and judged ({result['materialisations']:,} materialisations,"
        f" {result['evaluations']:,} evaluations, {result['history_mb']:.0f} MB, {result['history_mb'] * 1e3 / events:.1f} KB an event), on"
        f" a machine with a load of {result['machine']['load_at_start']:.0f}:",
        "",
        "| the page asks for | ms | the first time |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {question} | {figures['median_ms']:.0f} | {figures['first_ms']:.0f} |"
        for question, figures in result["queries"].items()
    ]


def deliveries() -> list[str]:
    result = read_results("deliveries")
    new, stores, again, year = (
        result[name] for name in ("nothing new", "nothing new on object stores", "restated", "a year")
    )
    lines = ["| | |", "|---|---|"]
    lines.append(
        f"| a look at {new['months']} months of {new['sources']} sources with nothing new | {new['wall_s']:.1f} s in all, one listing a source |"
    )
    lines.append(
        f"| the same on S3, Azure Blob and Google (their servers on loopback) | {stores['s3 requests a look']} requests in all:"
        f" {stores['s3 requests a look, aws']} for AWS (uri one level above its export), {stores['s3 requests a look, azure']} for each"
        f" other; {stores['s3 requests of the first look']} at the first look after landing |"
    )
    lines.append(
        f"| the days of a month of {WORDS[again['rows']]} rows restated in 3 days, against all its days | {again['days_ratio']:.2f} of the CPU |"
    )
    lines.append(
        f"| the same with landing, which reads the delivered month again | {again['all_ratio']:.2f} of the CPU |"
    )
    lines.append(
        f"| a backfill of {year['days']} days of {year['rows_a_day']:,} rows through Dagster | {year['wall_s']:.0f} s,"
        f" {year['s_a_day']:.2f} s a day, {year['share_outside_percent']:.0f} % of it outside our own work; {year['event_log_mb']:.0f} MB of"
        " event log |"
    )
    return lines


def cold_start() -> list[str]:
    found = read_results("deliveries")["cold start"]
    told = ", ".join(
        f"{step} {found[f'{step}, requests']:,} requests and {found[f'{step}, wall_s']:.0f} s"
        for step in ("the first look", "rollup", "publishing")
    )
    return [
        f"A machine that has nothing yet, on a lake in S3 (its server on loopback, a busy machine) of {found['days']} days of"
        f" {found['sources']} sources with {found['rows_a_day']:,} rows a day: {told}; {found['mb_fetched']:.0f} MB were fetched."
    ]


STEPS = {
    "session": "application started",
    "landing": "landing, from the delivered files",
    "facts": "facts",
    "gates on facts": "gates on facts",
    "rollup": "rollup and its neighbours",
    "gates on the rollup": "gates on the rollup",
}


def engines() -> list[str]:
    sizes = read_results("engines")["sizes"].values()
    heads = [f"{engine}, {WORDS[size['rows']]}" for size in sizes for engine in ("DuckDB", "Spark")]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    sides = [{step["step"]: step["cpu_s"] for step in size[engine]} for size in sizes for engine in ("duckdb", "spark")]
    for step, name in STEPS.items():
        cells = [shown(side.get(step)) for side in sides]
        lines.append(f"| {name} | {' | '.join(cells)} |".replace("|  |", "| |"))
    sums = [size["totals"][engine]["cpu_s"] for size in sizes for engine in ("duckdb", "spark")]
    lines.append(f"| sum, without the start | {' | '.join(f'**{each:,.1f}**' for each in sums)} |")
    return lines


def hosts() -> list[str]:
    found = read_results("hosts")
    one, two = found["one"], found["two"]
    rows = " + ".join(f"{source} {count:,}" for source, count in found["rows"].items())
    of_each = " and ".join(f"{host['wall_seconds']:.1f} s ({', '.join(host['sources'])})" for host in two["hosts"])
    return [
        f"A month of {rows} rows, a core for each host: landed in {one['landed_wall_s']:.1f} s by one, in {two['landed_wall_s']:.1f} s"
        f" by two ({of_each}), facts and rollup in {two['built_wall_s']:.1f} s by one of them. Two hosts gain"
        f" {found['gains']['landing']:.2f} times, with facts and rollup {found['gains']['with facts and rollup']:.2f} times, for"
        f" {two['cpu_s'] / one['cpu_s']:.2f} times the CPU."
    ]


def engines_a_row() -> list[str]:
    small, large = read_results("engines")["sizes"].values()
    more = large["rows"] - small["rows"]

    def took(size: Mapping[str, Any], engine: str, landing: bool) -> float:
        steps = size[engine]
        return sum(float(s["cpu_s"]) for s in steps if s["step"] != "session" and (s["step"] == "landing") is landing)

    spark, duck = ((took(large, e, False) - took(small, e, False)) / more * 1e6 for e in ("spark", "duckdb"))
    first = took(small, "spark", False) - spark * small["rows"] / 1e6
    landed = [took(large, engine, True) / large["rows"] * 1e6 for engine in ("spark", "duckdb")]
    return [
        f"So a row of facts, rollup and their gates costs Spark {spark / duck:.0f} times the CPU that it costs DuckDB (from"
        f" {WORDS[small['rows']]} to {WORDS[large['rows']]}: {spark:.0f} against {duck:.1f} µs), and every run some {first:.0f} CPU seconds before"
        f" the first. Landing by the workers costs {landed[0] / landed[1]:.1f} times what it costs here ({landed[0]:.0f} against {landed[1]:.0f} µs a row, of"
        f" {large['files']} files), since days of several files are written twice; the 1 million rows are one file, which is landed here on both."
    ]


def gates() -> list[str]:
    result = read_results("gates")
    lines = ["| planted | right | at stake | held in vain | published in vain |", "|---|---|---|---|---|"]
    lines += [
        f"| {d['says']} | {d['right']} | {float(d['at_stake']):,.2f} | {d['held_in_vain']} | {d['published_in_vain']} |"
        for d in result["defects"]
    ]
    return [*lines, f"| **all** | | | **{result['held_in_vain']}** | **{result['published_in_vain']}** |"]


def gate_shares() -> list[str]:
    """A line a bill: the largest share of a day without each name, of rows and of cost."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_results("gates")["shares"]:
        found.setdefault(line["bill"], []).append(line)
    names = [line["name"] for line in next(iter(found.values()))]
    lines = [f"| bill | days | {' | '.join(names)} | held |", "|---|---" + "|---" * len(names) + "|---|"]
    for bill, of_bill in found.items():
        cells = [
            f"{line['most_rows_percent']:g} / {line['most_cost_percent']:g}" if line["most_rows_percent"] else "0"
            for line in of_bill
        ]
        lines.append(f"| {bill} | {of_bill[0]['days']} | {' | '.join(cells)} | {of_bill[0]['days_held']} |")
    return lines


def explorer() -> list[str]:
    result = read_results("explorer")
    size = result["size"]
    lines = [
        f"A year of {size['facts']:,} facts: {size['days']} days, {size['rollup_rows']:,} rows of rollup, a copy of"
        f" {size['copy_bytes'] / 1e6:,.0f} MB beside its facts. On {result['cores']} cores, for which {result['load']:.0f} processes were"
        " waiting: times are an upper bound, CPU is nearer to the truth.",
        "",
        "| view, asked for the first time | CPU of the server | first paint | with charts | first paint, again | a filter | with charts | its CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = (
        "server_cpu",
        "first_paint",
        "with_charts",
        "first_paint_again",
        "filter",
        "filter_with_charts",
        "filter_cpu",
    )
    lines += [
        f"| {name} | {' | '.join(f'{page[each]:,.0f} ms' for each in order)} |"
        for name, page in result["pages"].items()
    ]
    lines += ["", "| file | until it is there | size |", "|---|---|---|"]
    lines += [
        f"| {name} | {file['file']:,.0f} ms | {file['bytes'] / 1000:,.0f} kB |"
        for name, file in result["files"].items()
    ]
    return lines


def clusters() -> list[str]:
    result = read_results("clusters")
    lines = [
        "| one day | usage landed | bill landed | facts | together | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    told = []
    for size in result["sizes"]:
        together = {}
        for name, what in (("split", "parts, of {pods:,} pods on {nodes:,} nodes"), ("plain", "rows of a bill")):
            steps = [size[name].get(step) for step in ("usage", "raw", "facts")]
            taken = [step["cpu_seconds"] for step in steps if step]
            together[name] = sum(taken)
            cells = [f"{step['cpu_seconds']:,.1f} s" if step else "" for step in steps]
            peak = max(step["peak_mb"] for step in steps if step)
            words = WORDS.get(size["parts"], f"{size['parts'] // 1_000_000} million")
            named = f"{words} {what}".format_map(size[name])
            lines.append(
                f"| {named} | {' | '.join(cells)} | {together[name]:,.1f} s | {peak:,.0f} MB |".replace("|  |", "| |")
            )
        told.append(f"{together['split'] / together['plain']:.1f} times at {words}")
    return [
        *lines, "", f"CPU seconds, on {result['cores']} cores of a busy machine. Parts take {', '.join(told)} what as many rows of a"
        " bill take.",
    ]  # fmt: skip


BLOCKS: Mapping[str, Callable[[], list[str]]] = {
    "attribution.path": path,
    "attribution.growth": growth,
    "attribution.naive": naive,
    "attribution.dagster": bookkeeping,
    "peers": peers,
    "history": history,
    "queries": queries,
    "ui_history": ui_history,
    "explorer": explorer,
    "clusters": clusters,
    "deliveries": deliveries,
    "deliveries.cold_start": cold_start,
    "engines": engines,
    "engines.a_row": engines_a_row,
    "hosts": hosts,
    "gates": gates,
    "gates.shares": gate_shares,
}
