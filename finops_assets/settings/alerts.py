"""night and alerts: what is expected by when, and who is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from finops_assets.settings.section import Endpoint, EnvName, Name, Section, UtcTime

Severity = Literal["INFO", "WARNING", "CRITICAL"]
Cron = Annotated[str, Field(pattern=r"^\s*\S+\s+\S+\s+\S+\s+\S+\s+\S+\s*$")]


class Night(Section):
    """What is expected of the night."""

    deadline: UtcTime = "08:00"
    """By when each source must have delivered the UTC day before; later it is called late."""
    export_check: Cron = "0,30 5-7 * * *"
    """Cron (UTC) of the export check: every source is looked at and what is new is landed."""
    last_check: Cron = "0 8 * * *"
    """Cron (UTC) of the night's last export check."""
    watch_seconds: Annotated[int, Field(ge=5)] = 120
    """How often each source's sensor lists manifests, at the most."""


MailAddress = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]


class AnyChannel(Section):
    """What every channel has: its name in the history, and which alerts it wants. An empty filter wants all."""

    name: Name | None = None
    """None: the channel is called as its kind."""
    alerts: bool = True
    """false: no alerts, but the digests that name the channel."""
    min_severity: Severity = "WARNING"
    """Less serious alerts are not sent here."""
    sources: tuple[str, ...] = ()
    """Only alerts about these sources."""
    departments: tuple[str, ...] = ()
    """Only alerts about these departments."""


class SnsChannel(AnyChannel):
    """A topic of Amazon SNS; credentials come as boto3 finds them."""

    kind: Literal["sns"]
    topic_arn: Annotated[str, Field(pattern=r"^arn:[^:]+:sns:[^:]*:[^:]*:.+$")]
    """The topic."""
    region: str | None = None
    """None: that of the ARN."""
    endpoint_url: Endpoint | None = None
    """Of an emulator."""


class SlackChannel(AnyChannel):
    """An incoming webhook of Slack. Its address is a secret."""

    kind: Literal["slack"]
    webhook_env: EnvName
    """Holds the webhook's address."""


class WebhookChannel(AnyChannel):
    """An HTTP address that takes the JSON of docs/reference/alerts.md."""

    kind: Literal["webhook"]
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """The address, if it is no secret."""
    url_env: EnvName | None = None
    """Holds the address, if it is one."""
    headers_env: Mapping[str, EnvName] = Field(default_factory=dict)
    """Header -> the environment variable that holds its value."""


class SmtpChannel(AnyChannel):
    """Mail."""

    kind: Literal["smtp"]
    host: str
    """The mail server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """465: TLS from the start."""
    sender: MailAddress
    """Who the mail is from."""
    to: tuple[MailAddress, ...] = Field(min_length=1)
    """Who gets it."""
    username_env: EnvName | None = None
    """Holds the user's name, if the server wants one."""
    password_env: EnvName | None = None
    """Holds the password."""
    starttls: bool = True
    """Go over to TLS before anything else is said."""


Channel = Annotated[SnsChannel | SlackChannel | WebhookChannel | SmtpChannel, Field(discriminator="kind")]


CHANNEL_KINDS: Mapping[str, type[AnyChannel]] = {
    "sns": SnsChannel,
    "slack": SlackChannel,
    "webhook": WebhookChannel,
    "smtp": SmtpChannel,
}


class Alerts(Section):
    """Who is told of what. Without channels alerts are only kept in `alert_history`."""

    channels: tuple[Channel, ...] = ()
    """Where notices go."""
    re_alert_hours: Annotated[float, Field(gt=0)] | None = 24
    """An alert that is still open is sent again after this long; null: never."""
    waiting_hours: Annotated[float, Field(gt=0)] = 6
    """How long a delivery may wait for its missing files before it is a warning."""
    ui: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """The address of Dagster's UI, for links."""
