"""digests: the month's page of what a group sees, sent to it on a schedule."""

from __future__ import annotations

from pydantic import Field

from finops_assets.settings.alerts import Cron
from finops_assets.settings.section import Name, Section


class Digest(Section):
    """One group's page, by mail (whole) or Slack (in short). docs/guides/report.md"""

    name: Name
    """What its job and schedule are called: `digest_<name>`."""
    group: str = Field(min_length=1)
    """The group of `access` whose cost it tells of."""
    channel: str = Field(min_length=1)
    """One of alerts.channels, of kind smtp or slack."""
    cron: Cron = "0 7 * * 1"
    """When, in UTC."""
