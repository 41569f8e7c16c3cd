"""finops init: a project's folder, from what lies at the places of the bills."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
import yaml

from finops_assets.base.errors import FinopsError
from finops_assets.base.files import replacing
from finops_assets.cli.common import explained, out
from finops_assets.cli.deployment import (
    NEXT,
    STATE,
    Deployment,
    bills_of_this_machine,
    deployment_files,
    shipped,
    within,
)
from finops_assets.evaluate.budgets.plan import COLUMNS as BUDGET_COLUMNS
from finops_assets.focus.normal import normal_key
from finops_assets.ingest.inspect import Inspection, inspect_all
from finops_assets.settings.load import DEFAULT_CONFIG, parse_settings
from finops_assets.storage.scope import scope_days

SHIPPED = ("dagster.yaml", "workspace.yaml")
"""As they are in the project's own folder."""
DIMENSIONS = {
    "department": ("department", "dept", "business_unit"),
    "team": ("team", "squad", "owner_team"),
    "environment": ("environment", "env", "stage"),
    "cost_center": ("cost_center", "cc"),
}
REQUIRED = ("department", "team")
OTHER_KEYS = 12


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder; made if there is none")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Where bills lie, as for `finops sources inspect`; can be repeated. Asked for if none is given"
        ),
    ] = None,
    first_day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The first day of all figures; by default that of the oldest delivery"),
    ] = None,
    lake: Annotated[
        str | None,
        typer.Option(help="Where days are kept: a folder, s3://, az:// or gs://; by default beside the warehouse"),
    ] = None,
    owner: Annotated[str, typer.Option(help="Shown on every asset: team:NAME, or an e-mail address")] = "team:finops",
    endpoint_url: Annotated[str | None, typer.Option(help="Of an S3-compatible store or an emulator")] = None,
    deployment: Annotated[Deployment | None, typer.Option(help="Write also what keeps it running there")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there")] = False,
) -> None:
    """Look at the places of the bills and write a project's files: finops.yaml, dagster.yaml, workspace.yaml, budgets.csv.

    Nothing that is there is replaced, unless --overwrite says so, and nothing is run.
    """
    with explained():
        names = [DEFAULT_CONFIG, *SHIPPED, "budgets.csv", ".gitignore"]
        if deployment:
            names.append("finops.service" if deployment == "systemd" else "deploy")
        there = [name for name in names if (folder / name).exists()]
        if there and not overwrite:
            raise FinopsError(
                f"{folder.absolute()} has {', '.join(there)} already; choose another folder, or replace them with --overwrite"
            )
        found = _looked_at(source or _asked(), endpoint_url)
        day = first_day.date() if first_day else _first_day(found)
        contained, bills = deployment in ("compose", "kubernetes"), bills_of_this_machine(found)
        text = _configuration(found, day, lake, owner, STATE if contained else None, bills if contained else None)
        # What is wrong with it is told before anything is written.
        settings = parse_settings(text, folder / DEFAULT_CONFIG)
        content = {
            DEFAULT_CONFIG: text,
            "budgets.csv": f"{','.join(BUDGET_COLUMNS)}\n",
            ".gitignore": ".finops/\n.dagster/\n.tmp_dagster_home_*/\n*.env\n",
        } | {name: shipped(name) for name in SHIPPED}
        if deployment:
            kept = settings.lake.absolute() if isinstance(settings.lake, Path) else None
            any_store = kept is None or any("://" in source.uri for source in settings.sources)
            content |= deployment_files(deployment, folder, kept, bills, any_store, (DEFAULT_CONFIG, "budgets.csv"))
        for name, written in content.items():
            with replacing(folder / name) as temporary:
                temporary.write_text(written, encoding="utf-8")
        for each in settings.sources:
            out.print(f"{each.name}: {each.layout} at {each.uri}", soft_wrap=True)
        end = datetime.now(UTC).date() + timedelta(days=1)
        out.print(f"Written to {folder.absolute()}: {', '.join(names)}. Next, there:\n", soft_wrap=True)
        commands = [f"finops {each}" for each in ("config check", "sources check", f"run {day} {end}", "ui")]
        for command in NEXT[deployment] if deployment else commands:
            out.print(f"  {command}", soft_wrap=True, highlight=False)


def _asked() -> list[str]:
    """The places that a person at a terminal gives, one after the other."""
    if not sys.stdin.isatty():
        raise FinopsError(
            "no place of bills is named: --source s3://…, az://…, gs://…, or a folder; it can be repeated"
        )
    given: list[str] = []
    while True:
        told = (
            "Where do bills lie? (s3://…, az://…, gs://…, or a folder)" if not given else "Another place? (empty: no)"
        )
        place = typer.prompt(told, default="" if given else None, show_default=False)
        if not place.strip():
            return given
        given.append(place.strip())


def _looked_at(places: Iterable[str], endpoint_url: str | None) -> list[Inspection]:
    found = [inspection for place in places for inspection in inspect_all(place, endpoint_url)]
    for each in found:
        if each.problem:
            out.print(f"note: {each.uri}: {each.problem}", soft_wrap=True)
    return found


def _first_day(found: Sequence[Inspection]) -> date:
    """The first day that a delivery names or holds; where nothing says one, the first of the month before this."""
    named = [days[0] for each in found for d in each.deliveries if (days := scope_days(d.scope))]
    held = [s.first_charge.date() for each in found if (s := each.sample) and s.first_charge]
    if not named and not held:
        return (datetime.now(UTC).date().replace(day=1) - timedelta(days=1)).replace(day=1)
    return min([*named, *held])


def _configuration(
    found: Sequence[Inspection],
    first_day: date,
    lake: str | None,
    owner: str,
    state: PurePosixPath | None = None,
    bills: Path | None = None,
) -> str:
    """finops.yaml; `state` is where a container writes, and `bills` the folder that it has for them."""
    kept, shown = (state, state / "published") if state else (PurePosixPath(".finops"), PurePosixPath(".finops"))
    seen = _tag_keys(found)
    read = {normal_key(key): name for name, keys in DIMENSIONS.items() for key in keys}
    carried = {read.get(normal_key(key)) for key in seen}
    untold = [name for name in DIMENSIONS if name not in carried]
    notes = []
    if other := [key for key in seen if normal_key(key) not in read]:
        notes.append(f"# Other tag keys of the bills: {', '.join(map(_text, other[:OTHER_KEYS]))}")
    if seen and untold:
        notes.append(f"# No key of the bills carries {' or '.join(untold)} yet: finops tags suggest-aliases")
    required = [name for name in REQUIRED if name not in untold] if seen else list(REQUIRED)
    listed = "\n".join(f"  {name}: {{keys: [{', '.join(keys)}]}}" for name, keys in DIMENSIONS.items())
    return "\n".join(
        [
            "# finops_assets: the one place of configuration. Relative paths are relative to this file.",
            "# Every setting, with type and default: docs/reference/settings.md. `finops config check` says every mistake at once.",
            "",
            f"first_day: {first_day}            # the first UTC day of all figures",
            f"lake: {_text(lake or str(kept / 'lake'))}",
            f"warehouse: {kept / 'warehouse.duckdb'}   # written by the pipeline alone",
            f"published: {shown / 'finops.duckdb'}      # the copy for people and BI tools",
            f"owner: {_text(owner)}",
            "budgets: budgets.csv",
            "",
            _sources(found, bills).rstrip(),
            "",
            "# Tag keys that may carry a dimension: the first with a usable value wins. Case, `user:` and punctuation do not count.",
            "dimensions:",
            listed,
            *notes,
            "",
            "tag_policy:                      # percent of a day's cost without the dimension: docs/guides/gates.md",
            f"  required: [{', '.join(required)}]",
            "",
        ]
    )


def _tag_keys(found: Sequence[Inspection]) -> list[str]:
    """The tag keys of the bills, the most frequent first."""
    rows: dict[str, int] = {}
    for each in found:
        for key, count in each.sample.tag_keys if each.sample else ():
            rows[key] = rows.get(key, 0) + count
    return sorted(rows, key=lambda key: (-rows[key], key))


def _sources(found: Sequence[Inspection], bills: Path | None) -> str:
    entries: list[dict[str, Any]] = []
    for each in found:
        [entry] = yaml.safe_load(each.yaml)["sources"]
        taken = {other["name"] for other in entries}
        name, number = entry["name"], 2
        while entry["name"] in taken:
            entry["name"], number = f"{name}_{number}", number + 1
        entries.append(entry | {"uri": within(entry["uri"], bills)})
    return yaml.safe_dump({"sources": entries}, sort_keys=False, width=200, allow_unicode=True)


def _text(value: str) -> str:
    return str(yaml.safe_dump(value, width=1_000)).splitlines()[0]
