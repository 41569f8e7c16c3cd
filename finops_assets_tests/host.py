"""A host that does the daemon's work, as a process: `python -m finops_assets_tests.host FOLDER`.

The folder has its finops.yaml and its dagster.yaml. It is `ready` when it has loaded both, begins when `go` is there,
looks with the sensors of all sources and runs what they ask for, until nothing is left to do; `asked` says what it ran.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from finops_assets.definitions import build_definitions
from finops_assets.graph.sensors.deliveries import ACTIVE
from finops_assets.ingest.landing import unknown_deliveries
from finops_assets.ingest.raw_days import changed_days
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets_tests.running import perform

RUN_KEY_TAG = "dagster/run_key"


def work(folder: Path) -> list[str]:
    """Look and run until nothing is left; returns the run keys of what this host ran, in order."""
    settings = load_settings(folder / "finops.yaml")
    sources = [source.name for source in settings.sources]
    definitions = build_definitions(settings)
    done: list[str] = []
    with dg.DagsterInstance.from_config(str(folder), "dagster.yaml") as instance:
        (folder / "ready").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        while True:
            asked = [r for source in sources for r in look(definitions, instance, f"watch_{source}")]
            asked = asked or [r for r in look(definitions, instance, "follow") if r.job_name == "daily"]
            for request in asked:
                # As the daemon does: what has this key was asked for already.
                tags = {**request.tags, RUN_KEY_TAG: str(request.run_key)}
                if instance.get_runs_count(dg.RunsFilter(tags={RUN_KEY_TAG: tags[RUN_KEY_TAG]})):
                    continue
                done.append(tags[RUN_KEY_TAG])
                perform(definitions, instance, request, tags)
            active = instance.get_runs_count(dg.RunsFilter(statuses=ACTIVE))
            if not asked and not active and not left(Platform(settings)):
                return done
            time.sleep(0.05)


def look(definitions: dg.Definitions, instance: dg.DagsterInstance, name: str) -> list[dg.RunRequest]:
    """What a sensor asks for now."""
    sensor = definitions.resolve_sensor_def(name)
    resources = {"platform": definitions.resources["platform"]} if definitions.resources else {}
    with dg.build_sensor_context(instance=instance, definitions=definitions, resources=resources) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def left(platform: Platform) -> bool:
    """Is there a delivery to land, or a day to run?"""
    first, today = platform.settings.first_day, datetime.now(UTC).date()
    return any(
        unknown_deliveries(platform.lake, source, first) or changed_days(platform.lake, source, first, today)
        for source in platform.settings.sources
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    home = Path(sys.argv[1])
    (home / "asked").write_text(json.dumps(work(home)), encoding="utf-8")
