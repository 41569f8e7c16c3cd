"""finops.yaml as it is now, beside what this process was loaded with.

Runs are processes of their own and read the file anew; the daemon's sensors stand in the process that built the asset
graph from it. What does not shape the graph they follow in place. Where the graph would be another, they ask for nothing
until it is loaded anew: a run that they asked for would find other sources than they looked at.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from finops_assets.base.errors import ConfigError, FinopsError, Mistake
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.settings.model import Settings

IN_PLACE = frozenset(
    {
        "tag_policy", "sparse_groups", "plausibility", "acknowledged", "anomalies", "alerts", "engine", "wait_minutes",
    }
)  # fmt: skip
"""What sensors follow as it is now, besides `night.deadline`. All else is built into the asset graph."""


class SettingsChanged(FinopsError):
    """finops.yaml is not what this process was loaded with."""


def in_force(platform: Platform) -> Platform:
    """The platform by finops.yaml as it is now.

    Raises:
        SettingsChanged: the asset graph would be another, or the file cannot be used.
    """
    if platform.file is None:
        return platform
    try:
        now = _read(platform.file)
    except ConfigError as error:
        raise SettingsChanged(
            f"{platform.file.name} was changed and cannot be used, so nothing is asked for. Mend it"
            f" (`finops config check`).\n{error}"
        ) from error
    differing = reloads(platform.settings, now)
    if differing:
        raise SettingsChanged(
            f"{platform.file.name} was changed ({', '.join(differing)}) since Dagster loaded it, so nothing is asked for:"
            " the asset graph is still that of before. Next: reload it in the UI (Deployment, Reload), or start"
            " `dagster dev` (`make ui`) again"
        )
    return platform if now == platform.settings else replace(platform, settings=now)


def reloads(loaded: Settings, now: Settings) -> list[str]:
    """The entries of finops.yaml that differ and that the asset graph is built from."""
    same_night = now.night.model_copy(update={"deadline": loaded.night.deadline})
    before, after = loaded, now.model_copy(update={"night": same_night})
    return [
        name for name in Settings.model_fields if name not in IN_PLACE and getattr(before, name) != getattr(after, name)
    ]


def _read(file: Path) -> Settings:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), [Mistake("(file)", f"cannot be read: {error}")]) from error
    return _parsed(text, file)


@lru_cache(maxsize=2)
def _parsed(text: str, file: Path) -> Settings:
    return parse_settings(text, file)
