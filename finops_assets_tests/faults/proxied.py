"""S3, Azure Blob Storage and Google Cloud Storage behind a proxy that hinders: as a source's place, and as the lake's."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb

from finops_assets_tests.emulators import (
    Place,
    Unavailable,
    azure_place,
    azure_server,
    gcs_place,
    gcs_server,
    s3_place,
    s3_server,
)
from finops_assets_tests.faults.bill import SOURCES, Bill, Figures, truth_of
from finops_assets_tests.faults.project import SHIPPED, Done, Fault, Project, compared, told
from finops_assets_tests.faults.proxy import FAULTS, Plan, Proxy, proxied
from finops_assets_tests.faults.table import Row

KINDS = ("S3", "Azure", "GCS")
SHARE = 0.2
"""Of the requests that are struck, where not all are."""
HUNG = 600.0
"""Seconds: clients wait for a store that says to come later, but not for ever."""
MOST_REQUESTS = 2_000
"""A run of so small a bill that asks more than this tries again without end."""


@dataclass
class Stage:
    """A store with its proxy, and two places on it: written directly, and seen through the proxy."""

    kind: str
    proxy: Proxy
    direct: str
    place: Callable[[], Place]

    def place_through(self) -> tuple[Place, str, dict[str, str]]:
        """A new place, the endpoint that the product is told, and its environment."""
        place = self.place()
        environment = dict(place.environment)
        for name, value in environment.items():
            environment[name] = value.replace(self.direct, self.proxy.endpoint)
        return place, self.proxy.endpoint if place.endpoint_url else "", environment


@contextmanager
def stage(kind: str, scratch: Path) -> Iterator[Stage]:
    """A store's server and its proxy.

    Raises:
        Unavailable: the server cannot be started here.
    """
    with ExitStack() as stack:
        match kind:
            case "S3":
                direct, make = stack.enter_context(s3_server()), s3_place
            case "Azure":
                folder = scratch / "azurite"
                folder.mkdir(parents=True, exist_ok=True)
                direct, make = stack.enter_context(azure_server(folder)), azure_place
            case _:
                direct, make = stack.enter_context(gcs_server()), gcs_place
        proxy = stack.enter_context(proxied(direct))
        yield Stage(kind, proxy, direct, lambda: make(direct))


def stores(
    scratch: Path,
    seed: int,
    say: Callable[[str], None] = print,
    kinds: tuple[str, ...] = KINDS,
    faults: tuple[str, ...] = (*FAULTS, "down", "etag", "late"),
    roles: tuple[str, ...] = ("source", "lake"),
    work: Callable[[Project], Done] | None = None,
) -> list[Row]:
    """Every fault at every store in both roles; a row for each store. `work` is one run, by default of another process."""
    rows = []
    for kind in kinds:
        row = Row(f"{kind} behind a proxy that hinders")
        try:
            with stage(kind, scratch / kind) as at:
                for role in roles:
                    _of_role(at, role, scratch / kind / role, seed, faults, row, say, work)
        except Unavailable as reason:
            row.skipped = str(reason).replace(str(Path.home()), "~")
        say(
            f"{row.name}: {row.tried} tried, {len(row.faults)} found{f', skipped: {row.skipped}' if row.skipped else ''}"
        )
        rows.append(row)
    return rows


def _of_role(
    at: Stage,
    role: str,
    folder: Path,
    seed: int,
    faults: tuple[str, ...],
    row: Row,
    say: Callable[[str], None],
    work: Callable[[Project], Done] | None,
) -> None:
    place, endpoint, environment = at.place_through()
    told_endpoint = f", endpoint_url: '{endpoint}'" if endpoint else ""
    bill = Bill(seed, days=2)
    if role == "source":
        sources = {name: f"uri: '{place.uri}/{name}'{told_endpoint}" for name in SOURCES}
        project = Project(folder / "project", bill, sources=sources, environment=environment)
    else:
        lake = f"{{uri: '{place.uri}/lake'{told_endpoint}}}"
        project = Project(folder / "project", bill, lake=lake, environment=environment)
    project.make()
    serving = Serving(project)
    try:
        _try(at, role, project, place, serving if work is None else work, faults, seed, row, say)
    finally:
        serving.close()


def _try(
    at: Stage,
    role: str,
    project: Project,
    place: Place,
    work: Callable[[Project], Done],
    faults: tuple[str, ...],
    seed: int,
    row: Row,
    say: Callable[[str], None],
) -> None:
    bill = project.bill

    def deliver(version: int) -> Figures:
        bill.deliver(project.exports, version)
        if role == "source":
            for name, file in SOURCES.items():
                place.put(f"{name}/{file}", (project.exports / name / file).read_bytes())
        return truth_of(project.exports)

    def deliver_into(figures: list[Figures], version: int) -> None:
        figures.append(deliver(version))

    before = deliver(1)
    at.proxy.plan = Plan()
    done = work(project)
    if role == "lake" and done.code == 1 and "takes no notice of If-Match" in done.said:
        row.figures["a lake on it"] = "refused with a sentence: the emulator knows no conditions"
        return
    if done.code != 0:
        raise RuntimeError(f"a clean run ended with {done.code}: {done.said}")
    version = 1
    for fault in faults:
        if fault == "etag" and role == "lake":
            continue  # nobody but us writes a lake; two machines that do are tested elsewhere
        version += 1
        after = deliver(version)
        allowed = [before, after]
        plan = Plan(kind=fault, share=SHARE, seed=seed)
        match fault:
            case "down":
                plan = Plan(kind="503", share=1.0, seed=seed)
            case "late":
                plan = Plan(stale_lists=3)
                plan.listings = at.proxy.plan.listings
            case "etag":
                newer: list[Figures] = []
                plan = Plan(before_read=partial(deliver_into, newer, version + 1))
                version += 1
        at.proxy.plan = plan
        hindered = work(project)
        if fault == "etag" and newer:
            after = newer[0]
            allowed.append(after)
        days = sorted({key[0] for key in after})
        trial = f"{at.kind} as {role}, {fault}"
        found = told(hindered, (0, 1))
        if hindered.code == 1 and "error " not in hindered.said:
            found.append(Fault("unclear", f"no sentence: {hindered.said[-500:]!r}"))
        if fault == "down" and hindered.code == 0:
            found.append(Fault("silent", "exit code 0, although nothing could be asked"))
        if plan.asked["requests"] > MOST_REQUESTS:
            found.append(Fault("hung", f"{plan.asked['requests']} requests"))
        found += compared(_rollup(project), allowed, days, "meanwhile, rollup of")
        last = Plan()
        last.listings = plan.listings
        at.proxy.plan = last
        mended = work(project)
        found += told(mended, (0,))
        found += compared(_rollup(project), [after], days, "at the end, rollup of")
        row.count("ended with an error that was told" if hindered.code else "went through")
        row.count("requests struck", plan.asked["struck"] + plan.asked["stale"])
        row.add(trial, found, mended.seconds)
        say(f"{trial}: {plan.asked['struck'] + plan.asked['stale']} of {plan.asked['requests']} requests struck, exit"
            f" code {hindered.code} after {hindered.seconds:.0f} s: {hindered.said.strip()[-200:]!r}")  # fmt: skip
        for one in found:
            say(f"    {one.kind}: {one.what}")
        before = after


class Serving:
    """A process that does the work of a project whenever it is asked; one that hangs is ended and started anew."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.popen: subprocess.Popen[str] | None = None

    def __call__(self, project: Project) -> Done:
        """One run of the work."""
        began = time.monotonic()
        if self.popen is None:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "finops_assets_tests.faults.without_dagster", "finops.yaml"],
                cwd=project.folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(SHIPPED)} | dict(project.environment),
            )  # fmt: skip
        assert self.popen.stdin
        assert self.popen.stdout
        days = sorted({key[0].isoformat() for key in truth_of(project.exports)})
        print(*days, file=self.popen.stdin, flush=True)
        said = ""
        while select.select([self.popen.stdout], [], [], began + HUNG - time.monotonic())[0]:
            line = self.popen.stdout.readline()
            if not line:
                break
            if line.startswith('{"code"'):
                answer = json.loads(line)
                return Done(answer["code"], time.monotonic() - began, 0, said + answer["said"])
            said += line
        self.close()
        return Done(None, time.monotonic() - began, 0, said)

    def close(self) -> None:
        """End the process."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.communicate()
            self.popen = None


def _rollup(project: Project) -> Figures:
    """The pipeline's own rollup: nothing is published here."""
    with closing(duckdb.connect(str(project.folder / "warehouse.duckdb"), read_only=True)) as connection:
        return {
            (day, team, currency): (int(rows), billed, effective)
            for day, team, currency, rows, billed, effective in connection.execute(
                "SELECT charge_date, team, BillingCurrency, sum(row_count), sum(billed_cost), sum(effective_cost)"
                " FROM daily_cost_by_team GROUP BY 1, 2, 3"
            ).fetchall()
        }
