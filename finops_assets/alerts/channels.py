"""One function a channel. Each sends one notice or raises; whatever goes wrong leaves here without secrets in it."""

from __future__ import annotations

import json
import re
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import parseaddr
from http.client import HTTPMessage
from importlib import import_module
from typing import IO, Any

from finops_assets.alerts.alert import Notice, as_json, body, headline
from finops_assets.base.errors import FinopsError, install
from finops_assets.base.secrets import without_secrets
from finops_assets.settings.alerts import Channel, SlackChannel, SmtpChannel, SnsChannel, WebhookChannel

TIMEOUT_SECONDS = 10.0
SHOWN = 300
"""Characters of an answer that are kept in the history."""
SLACK_MOST, SNS_MOST = 3_000, 60_000
"""Characters that the services take without cutting or charging a message twice."""


class ChannelError(FinopsError):
    """A channel did not take a notice."""


class NotSet(ChannelError):
    """An environment variable that the configuration names is not there."""


class Secrets:
    """The environment as one channel reads it; remembers what it gave, to keep it out of every message."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._given: list[str] = []

    def read(self, name: str, setting: str) -> str:
        """The value of a variable that `setting` names.

        Raises:
            NotSet: it is not set or empty; or it has several lines, which no address and no header can have.
        """
        value = self._environment.get(name, "").strip()
        if not value or "\n" in value or "\r" in value:
            fault = "has several lines" if value else "is not set"
            raise NotSet(
                f"environment variable {name} ({setting}) {fault}; set it for the process that loads finops_assets.definitions"
            )
        self._given.append(value)
        return value

    def removed_from(self, text: str) -> str:
        """Text without the secrets, nor the longer pieces of them: a server may answer with the path it was asked."""
        pieces = {p for value in self._given for p in (value, *re.split(r"[/?&=\s]+", value)) if len(p) >= 8}
        for piece in sorted(pieces | set(self._given), key=len, reverse=True):
            text = text.replace(piece, "***")
        return without_secrets(text)


def name_of(channel: Channel) -> str:
    """What a channel is called in the history and in messages."""
    return channel.name or channel.kind


def send(channel: Channel, notice: Notice, environment: Mapping[str, str]) -> str:
    """Send one notice; returns a remark, empty if everything went well.

    Raises:
        ChannelError: it was not taken, and why. The notice may have arrived all the same: a timeout proves nothing.
    """
    secrets = Secrets(environment)
    with _told_without(secrets):
        match channel:
            case SnsChannel():
                return _sns(channel, notice)
            case SlackChannel():
                return _slack(channel, notice, secrets)
            case WebhookChannel():
                return _webhook(channel, notice, secrets)
            case SmtpChannel():
                return _smtp(channel, notice, secrets)


@contextmanager
def _told_without(secrets: Secrets) -> Iterator[None]:
    """Whatever one channel comes to, the others and the pipeline go on, and no secret is told."""
    try:
        yield
    except ChannelError:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ChannelError(secrets.removed_from(text)[:SHOWN]) from None


@dataclass(frozen=True)
class Letter:
    """Something to be read that is no alert. `id`: the same for each try of it, which mail servers tell twins by."""

    id: str
    subject: str
    text: str
    attached: tuple[str, str]
    """The name and content of an HTML file, for those channels that carry files."""


def post(channel: SlackChannel | SmtpChannel, letter: Letter, environment: Mapping[str, str]) -> str:
    """Send a letter; returns a remark, empty if everything went well.

    Raises:
        ChannelError: it was not taken, and why.
    """
    secrets = Secrets(environment)
    with _told_without(secrets):
        match channel:
            case SlackChannel():
                return _say_in_slack(channel, letter.subject, letter.text, secrets)
            case SmtpChannel():
                mail = _mail(channel, letter.id, letter.subject, letter.text)
                name, content = letter.attached
                mail.add_attachment(content, subtype="html", filename=name)
                return _carry(channel, mail, secrets)


def _sns(channel: SnsChannel, notice: Notice) -> str:
    try:
        boto3, config = import_module("boto3"), import_module("botocore.config")
    except ModuleNotFoundError as error:
        raise ChannelError(f"kind sns needs boto3, which is not installed; run: {install('aws')}") from error
    client = boto3.client(
        "sns",
        region_name=channel.region or channel.topic_arn.split(":")[3] or None,
        endpoint_url=channel.endpoint_url,
        # Retries are the outbox's: those of boto3 would hold up the other channels.
        config=config.Config(
            connect_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 1}
        ),
    )
    alert = notice.alert
    attributes = {
        "event": notice.event,
        "severity": alert.severity,
        "key": alert.key,
        "source": alert.source,
        "department": alert.department,
        "day": alert.day.isoformat() if alert.day else None,
        "id": notice.id,
    }
    ordered = {"MessageGroupId": "alerts", "MessageDeduplicationId": notice.id}
    with closing(client):
        client.publish(
            TopicArn=channel.topic_arn,
            # Subjects are ASCII, at most 100 characters.
            Subject=headline(notice).encode("ascii", "replace").decode()[:100],
            Message=body(notice)[:SNS_MOST],
            MessageAttributes={n: {"DataType": "String", "StringValue": v} for n, v in attributes.items() if v},
            **(ordered if channel.topic_arn.endswith(".fifo") else {}),
        )
    return ""


def _slack(channel: SlackChannel, notice: Notice, secrets: Secrets) -> str:
    return _say_in_slack(channel, headline(notice), body(notice), secrets)


def _say_in_slack(channel: SlackChannel, head: str, text: str, secrets: Secrets) -> str:
    url = secrets.read(channel.webhook_env, "webhook_env")
    _post(url, {"text": f"*{_escaped(head)}*\n{_escaped(text)}"[:SLACK_MOST]}, {}, secrets)
    return ""


def _escaped(text: str) -> str:
    """Slack reads these three as its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _webhook(channel: WebhookChannel, notice: Notice, secrets: Secrets) -> str:
    url = channel.url if channel.url is not None else secrets.read(channel.url_env or "", "url_env")
    headers = {name: secrets.read(env, f"headers_env.{name}") for name, env in channel.headers_env.items()}
    _post(url, as_json(notice), headers, secrets)
    return ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib follows a redirected POST with a GET: the alert would be lost and called delivered."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _post(url: str, content: Mapping[str, Any], headers: Mapping[str, str], secrets: Secrets) -> None:
    if not url.startswith(("https://", "http://")):
        raise ChannelError("the address does not start with https:// or http://")
    request = urllib.request.Request(
        url,
        json.dumps(content, ensure_ascii=False).encode(),
        {"Content-Type": "application/json; charset=utf-8", "User-Agent": "finops_assets", **headers},
        method="POST",
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        with error:
            answer = error.read(4 * SHOWN).decode("utf-8", "replace")
        raise ChannelError(secrets.removed_from(f"HTTP {error.code}: {' '.join(answer.split())}")[:SHOWN]) from None


def _smtp(channel: SmtpChannel, notice: Notice, secrets: Secrets) -> str:
    return _carry(channel, _mail(channel, notice.id, headline(notice), body(notice)), secrets)


def _mail(channel: SmtpChannel, id: str, subject: str, text: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = channel.sender
    mail["To"] = ", ".join(channel.to)
    mail["Subject"] = subject
    mail["Message-ID"] = f"<{id}@{parseaddr(channel.sender)[1].rpartition('@')[2]}>"
    mail.set_content(text)
    return mail


def _carry(channel: SmtpChannel, mail: EmailMessage, secrets: Secrets) -> str:
    context = ssl.create_default_context()
    implicit = channel.port == 465
    with (
        smtplib.SMTP_SSL(channel.host, channel.port, timeout=TIMEOUT_SECONDS, context=context)
        if implicit
        else smtplib.SMTP(channel.host, channel.port, timeout=TIMEOUT_SECONDS)
    ) as server:
        if channel.starttls and not implicit:
            server.starttls(context=context)
        if channel.username_env and channel.password_env:
            server.login(
                secrets.read(channel.username_env, "username_env"), secrets.read(channel.password_env, "password_env")
            )
        refused = server.send_message(mail)
    # The others have it: sending it to all of them again would not help the one.
    return _refusals(refused, secrets) if refused else ""


def _refusals(refused: Mapping[str, tuple[int, bytes]], secrets: Secrets) -> str:
    texts: Iterable[str] = (f"{who}: {code} {text.decode(errors='replace')}" for who, (code, text) in refused.items())
    return secrets.removed_from(f"not taken for {'; '.join(texts)}")[:SHOWN]
