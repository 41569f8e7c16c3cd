"""Alerts end to end: real runs, real servers on loopback, and the time given by the test."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from dagster import AssetCheckEvaluation
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from finops_assets.alerts.alert import PAYLOAD, Alert, Notice, Observation, OpenAlert, as_json
from finops_assets.alerts.channels import ChannelError, send
from finops_assets.alerts.deliveries import delivery_observations, late_sources
from finops_assets.alerts.dispatch import GIVE_UP_AFTER, Dispatched, dispatch, wants
from finops_assets.alerts.history import AlertHistory, HistoryError, Row
from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.demo import Incident
from finops_assets.graph import run_alerts as collect
from finops_assets.graph.assets import raw as assets_raw
from finops_assets.graph.keys import BUILD_STEP
from finops_assets.graph.run_range import QUIET
from finops_assets.graph.sensors.alerts import alerts_sensor, tick
from finops_assets.platform import Platform
from finops_assets.settings.alerts import Alerts, Channel, SlackChannel, SmtpChannel, WebhookChannel
from finops_assets.settings.load import parse_settings
from finops_assets.settings.model import Settings
from finops_assets.storage.ledger import DayTotals, Generation, Ledger
from finops_assets_tests.running import Graph, persistent_instance, settings_for, small_estate

FIRST, BAD, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)
NOW = datetime(2026, 9, 4, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = f"check raw/gcp:complete {BAD}"
SECRET = "T0B1-verysecrettoken-9f8e7d"
AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


# --- servers


@dataclass
class Inbox:
    """An HTTP server that keeps what it is sent; with another status it refuses, and says what it was asked."""

    url: str = ""
    status: int = 200
    asked: int = 0
    taken: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    def events(self) -> list[str]:
        return [message["event"] for message in self.taken]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with http_server() as inbox:
        yield inbox


@contextmanager
def http_server() -> Iterator[Inbox]:
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.asked += 1
            if inbox.status == 200:
                inbox.taken.append(json.loads(content))
                inbox.headers.append(dict(self.headers))
            self.send_response(inbox.status)
            if inbox.status == 302:
                self.send_header("Location", inbox.url)
            self.end_headers()
            if inbox.status != 200:
                self.wfile.write(f"no: {self.path} {dict(self.headers)}".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        inbox.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield inbox
        finally:
            server.shutdown()
            thread.join()


class Mailbox:
    """An SMTP server that keeps what it is sent."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.to: list[list[str]] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        self.to.append(list(envelope.rcpt_tos))
        return "250 OK"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def smtp_server(port: int) -> Iterator[Mailbox]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


@dataclass
class Topic:
    """An SNS topic with a queue behind it."""

    arn: str
    endpoint: str
    queue: str
    sqs: Any

    def take(self) -> list[dict[str, Any]]:
        """The messages since the last call."""
        found: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture(scope="module")
def topic() -> Iterator[Topic]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        place = {"region_name": "eu-central-1", "endpoint_url": f"http://{host}:{port}"}
        with closing(boto3.client("sns", **place)) as sns, closing(boto3.client("sqs", **place)) as sqs:
            arn = sns.create_topic(Name="alerts")["TopicArn"]
            queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
            queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
            try:
                yield Topic(arn, place["endpoint_url"], queue, sqs)
            finally:
                server.stop()


# --- platforms


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """Three days run once, the second held because Google's export of it is incomplete. Tests only look at it."""
    root = tmp_path_factory.mktemp("held")
    small_estate(root, FIRST, LAST, incidents=[Incident("gcp", BAD, "incomplete")])
    with persistent_instance(root / "dagster") as instance:
        graph = Graph(only_gcp(settings_for(root, FIRST)), instance)
        assert not graph.run(FIRST, LAST).success
        yield graph


def with_channels(settings: Settings, folder: Path, *channels: Channel, re_alert_hours: float | None = 24) -> Platform:
    """The platform with these channels and a history of its own in `folder`."""
    alerts = Alerts(channels=channels, re_alert_hours=re_alert_hours)
    return Platform(settings.model_copy(update={"alerts": alerts, "warehouse": folder / "warehouse.duckdb"}))


def only_gcp(settings: Settings) -> Settings:
    """One source is enough to hold a day, and a run of it is quicker."""
    return settings.model_copy(update={"sources": tuple(s for s in settings.sources if s.name == "gcp")})


def history_of(platform: Platform) -> AlertHistory:
    return AlertHistory.beside(platform.settings.warehouse)


def rows(platform: Platform) -> dict[str, Row]:
    with history_of(platform).opened() as opened:
        return {row.alert.key: row for row in opened.rows()}


@dataclass
class Watch:
    """The sensor's ticks, with its cursor as Dagster keeps it."""

    platform: Platform
    instance: dg.DagsterInstance
    environment: Mapping[str, str] = field(default_factory=dict)
    cursor: str | None = None
    errors: list[str] = field(default_factory=list)

    def tick(self, now: datetime) -> Dispatched:
        self.cursor, done = tick(self.platform, self.instance, self.cursor, now, self.environment, self.errors.append)
        return done


def webhook(inbox: Inbox, **changes: Any) -> WebhookChannel:
    return WebhookChannel(**{"kind": "webhook", "url": inbox.url} | changes)


# --- a held day


def test_a_held_day_is_told_once_on_each_of_four_channels_and_again_after_the_window(
    held: Graph, tmp_path: Path, inbox: Inbox, topic: Topic
) -> None:
    port = free_port()
    with smtp_server(port) as mailbox, http_server() as slack:
        settings = parse_settings(
            f"""
first_day: {FIRST}
lake: lake
warehouse: {tmp_path / "w.duckdb"}
published: published.duckdb
sources: [{{name: gcp, uri: estate/gcp, layout: gcs-export}}]
dimensions: {{team: {{keys: [team]}}}}
alerts:
  ui: https://dagster.example
  re_alert_hours: 12
  channels:
    - {{kind: sns, topic_arn: "{topic.arn}", endpoint_url: "{topic.endpoint}"}}
    - {{kind: slack, webhook_env: SLACK}}
    - {{kind: webhook, url_env: HOOK, headers_env: {{Authorization: TOKEN}}}}
    - {{kind: smtp, host: 127.0.0.1, port: {port}, sender: f@x.example, to: [a@x.example, b@x.example], starttls: false}}
""",
            held.settings.lake.parent / "finops.yaml",
        )
        watch = Watch(
            Platform(settings), held.instance, {"SLACK": slack.url, "HOOK": inbox.url, "TOKEN": f"Bearer {SECRET}"}
        )
        assert watch.tick(NOW).sent == {"sns": 1, "slack": 1, "webhook": 1, "smtp": 1}
        assert watch.errors == []

        (told,) = inbox.taken
        assert (told["event"], told["severity"], told["key"], told["source"]) == ("open", "CRITICAL", KEY, "gcp")
        assert told["day"] == "2026-09-02"
        assert "Incomplete" in told["text"]
        assert "Next:" in told["text"]
        assert told["figures"]["rows_not_complete"] > 0
        assert re.fullmatch(r"https://dagster\.example/runs/[0-9a-f-]+", told["link"])
        assert inbox.headers[0]["Authorization"] == f"Bearer {SECRET}"

        (message,) = topic.take()
        assert message["Subject"] == "CRITICAL: raw/gcp:complete failed, 2026-09-02"
        assert "source: gcp" in message["Message"]
        attributes = {name: a["Value"] for name, a in message["MessageAttributes"].items()}
        assert (attributes["severity"], attributes["source"], attributes["key"]) == ("CRITICAL", "gcp", KEY)

        assert slack.taken[0]["text"].startswith("*CRITICAL: raw/gcp:complete failed, 2026-09-02*\n")
        assert mailbox.mails[0]["Subject"] == "CRITICAL: raw/gcp:complete failed, 2026-09-02"
        assert mailbox.to == [["a@x.example", "b@x.example"]]

        for later in (timedelta(seconds=30), HOUR, 11 * HOUR):
            assert watch.tick(NOW + later).sent == {}
        # Seen again from the start, as when Dagster forgot the cursor: still the same alert.
        watch.cursor = None
        assert watch.tick(NOW + 11 * HOUR).sent == {}

        assert watch.tick(NOW + 12 * HOUR).sent == {"sns": 1, "slack": 1, "webhook": 1, "smtp": 1}
        assert [(m["event"], m["key"]) for m in inbox.taken] == [("open", KEY), ("reminder", KEY)]
        assert mailbox.mails[1]["Subject"] == "CRITICAL, still open: raw/gcp:complete failed, 2026-09-02"
    row = rows(watch.platform)[KEY]
    assert row.resolved_at is None
    assert row.last_sent_at == NOW + 12 * HOUR
    assert {name: (d["ok"], d["attempts"]) for name, d in row.deliveries.items()} == dict.fromkeys(
        ("sns", "slack", "webhook", "smtp"), (True, 2)
    )


@pytest.mark.long
def test_a_healed_day_is_resolved_told_and_published(tmp_path: Path, inbox: Inbox) -> None:
    small_estate(tmp_path, BAD, BAD, incidents=[Incident("gcp", BAD, "incomplete")])
    with persistent_instance(tmp_path / "dagster") as instance:
        settings = only_gcp(settings_for(tmp_path, BAD))
        graph = Graph(settings.model_copy(update={"alerts": Alerts(channels=(webhook(inbox),))}), instance)
        watch, now = Watch(graph.platform, instance), datetime(2026, 9, 3, 9, tzinfo=UTC)
        graph.run(BAD)
        watch.tick(now)
        small_estate(tmp_path, BAD, BAD, deliver=False).deliver("gcp", "2026-09", generation=2)
        assert graph.run(BAD).success
        watch.tick(now + HOUR)
        watch.tick(now + 2 * HOUR)
    assert [(m["event"], m["key"]) for m in inbox.taken] == [("open", KEY), ("resolved", KEY)]
    assert inbox.taken[1]["resolved_at"] > inbox.taken[0]["detected_at"]
    assert "raw/gcp, 2026-09-02" in inbox.taken[1]["note"]
    row = rows(watch.platform)[KEY]
    assert row.resolved_at is not None
    assert row.resolved_at > row.detected_at

    with graph.platform.warehouse.writing() as connection:
        assert history_of(graph.platform).copy_to(connection) == 1
        found = connection.execute(
            "SELECT alert_key, severity, source, day, resolved_at > detected_at,"
            " CAST(json_extract(deliveries, '$.webhook.ok') AS BOOLEAN) FROM alert_history"
        ).fetchall()
    assert found == [(KEY, "CRITICAL", "gcp", BAD, True, True)]


def test_the_sensor_in_dagster(held: Graph, tmp_path: Path, inbox: Inbox) -> None:
    platform = with_channels(held.settings, tmp_path, webhook(inbox, sources=("gcp",), min_severity="CRITICAL"))
    sensor = alerts_sensor(platform)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    cursor = None
    for _ in range(2):
        with dg.build_sensor_context(instance=held.instance, cursor=cursor) as context:
            data = sensor.evaluate_tick(context)
        assert data.skip_message is not None
        cursor = data.cursor
    # By the real clock the sources are late, too: the estate ended long ago.
    assert sorted(m["key"] for m in inbox.taken) == [KEY, "late gcp"]


# --- channels that fail


def test_a_channel_that_is_down_gets_its_alert_later_and_the_others_get_theirs_now(
    held: Graph, tmp_path: Path, inbox: Inbox
) -> None:
    port = free_port()
    with http_server() as broken:
        broken.status = 503
        platform = with_channels(
            held.settings,
            tmp_path,
            webhook(broken, name="broken"),
            *Alerts.model_validate(
                {
                    "channels": [
                        {
                            "kind": "smtp",
                            "host": "127.0.0.1",
                            "port": port,
                            "sender": "f@x.example",
                            "to": ["a@x.example"],
                            "starttls": False,
                        }
                    ]
                }
            ).channels,
            webhook(inbox),
        )
        watch = Watch(platform, held.instance)
        done = watch.tick(NOW)
        assert done.sent == {"webhook": 1}
        assert done.errors["broken"].startswith("HTTP 503")
        assert "ConnectionRefusedError" in done.errors["smtp"]
        assert [m.split(":")[1].strip() for m in watch.errors] == ["channel broken", "channel smtp"]
        row = rows(platform)[KEY]
        assert {n: d["ok"] for n, d in row.deliveries.items()} == {"broken": False, "smtp": False, "webhook": True}
        assert row.deliveries["broken"]["last_error"].startswith("HTTP 503")

        assert watch.tick(NOW + timedelta(seconds=30)).errors == {}, "a minute has not passed: not tried again"
        assert broken.asked == 1
        watch.tick(NOW + timedelta(seconds=60))
        assert broken.asked == 2
        watch.tick(NOW + timedelta(seconds=120))
        assert broken.asked == 2, "the second wait is two minutes"
        broken.status = 200
        with smtp_server(port) as mailbox:
            assert watch.tick(NOW + timedelta(seconds=180)).sent == {"broken": 1, "smtp": 1}
        assert len(mailbox.mails) == len(broken.taken) == len(inbox.taken) == 1
        deliveries = rows(platform)[KEY].deliveries
        assert {n: (d["ok"], d["attempts"]) for n, d in deliveries.items()} == {
            "broken": (True, 3),
            "smtp": (True, 3),
            "webhook": (True, 1),
        }


def test_problem_and_end_arrive_in_order_when_the_channel_was_down_for_both(tmp_path: Path, inbox: Inbox) -> None:
    history, settings = AlertHistory(tmp_path / "h.sqlite"), Alerts(channels=(webhook(inbox),))
    inbox.status = 500
    dispatch(history, settings, [seen("a")], NOW, {})
    dispatch(history, settings, [seen("a", fine=True, at=NOW + HOUR)], NOW + HOUR, {})
    assert inbox.taken == []
    inbox.status = 200
    dispatch(history, settings, [], NOW + 3 * HOUR, {})
    assert inbox.events() == ["open", "resolved"]


def test_a_dead_channel_rests_after_two_failures_and_is_given_up_after_a_week(tmp_path: Path, inbox: Inbox) -> None:
    history, settings = AlertHistory(tmp_path / "h.sqlite"), Alerts(channels=(webhook(inbox),))
    errors: list[str] = []
    inbox.status = 500
    dispatch(history, settings, [seen(f"a{n}") for n in range(5)], NOW, {}, errors.append)
    assert inbox.asked == 2
    inbox.status = 200
    assert dispatch(history, settings, [], NOW + GIVE_UP_AFTER + HOUR, {}, errors.append).sent == {"webhook": 5}
    assert "5 notices given up" in errors[-1]
    assert inbox.events() == ["reminder"] * 5, "what was given up, and is still open, is told as a reminder"


def test_what_is_queued_for_a_channel_that_is_no_longer_configured_is_given_up(tmp_path: Path, inbox: Inbox) -> None:
    history, errors = AlertHistory(tmp_path / "h.sqlite"), list[str]()
    inbox.status = 500
    dispatch(history, Alerts(channels=(webhook(inbox),)), [seen("a")], NOW, {})
    dispatch(history, Alerts(), [], NOW + HOUR, {}, errors.append)
    assert errors == ["alerts: channel webhook: 1 notices given up; alert_history says which"]
    with history.opened() as opened:
        (row,) = opened.rows()
    assert row.deliveries["webhook"]["last_error"].startswith(
        "given up: no such channel in finops.yaml any more. HTTP 500"
    )


def test_a_redirect_is_a_failure(inbox: Inbox) -> None:
    inbox.status = 302
    with pytest.raises(ChannelError, match="HTTP 302"):
        send(webhook(inbox), notice(), {})


def test_a_recipient_that_is_refused_does_not_keep_the_mail_from_the_others() -> None:
    port = free_port()
    with smtp_server(port) as mailbox:
        (channel,) = Alerts.model_validate(
            {
                "channels": [
                    {
                        "kind": "smtp",
                        "host": "127.0.0.1",
                        "port": port,
                        "sender": "f@x.example",
                        "to": ["nobody@x.example", "a@x.example"],
                        "starttls": False,
                    }
                ]
            }
        ).channels
        assert send(channel, notice(), {}) == "not taken for nobody@x.example: 550 no such user"
    assert mailbox.to == [["a@x.example"]]


def test_sns_without_boto3_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    (channel,) = Alerts.model_validate(
        {"channels": [{"kind": "sns", "topic_arn": "arn:aws:sns:eu-west-1:1:a"}]}
    ).channels
    with pytest.raises(ChannelError, match=r"uv pip install -e '\.\[aws\]'"):
        send(channel, notice(), {})


def test_sns_says_why_it_refuses(topic: Topic) -> None:
    (channel,) = Alerts.model_validate(
        {"channels": [{"kind": "sns", "topic_arn": f"{topic.arn}-gone", "endpoint_url": topic.endpoint}]}
    ).channels
    with pytest.raises(ChannelError, match="NotFound"):
        send(channel, notice(), {})


# --- secrets


@pytest.mark.parametrize("kind", ["slack", "webhook"])
def test_secrets_stand_neither_in_history_nor_in_logs(held: Graph, tmp_path: Path, inbox: Inbox, kind: str) -> None:
    inbox.status = 500  # it answers with the path and the headers that it was asked with
    channel: Channel = SlackChannel(kind="slack", webhook_env="HOOK")
    if kind == "webhook":
        channel = WebhookChannel(kind="webhook", url_env="HOOK", headers_env={"Authorization": "TOKEN"})
    platform = with_channels(held.settings, tmp_path, channel)
    address = f"{inbox.url}/services/{SECRET}/x?key={SECRET[::-1]}"
    watch = Watch(platform, held.instance, {"HOOK": address, "TOKEN": f"Bearer {SECRET}"})
    done = watch.tick(NOW)
    assert "HTTP 500: no: " in watch.errors[0]
    everywhere = [
        *watch.errors,
        str(done),
        repr(rows(platform)),
        history_of(platform).path.read_bytes().decode("latin-1"),
    ]
    for text in everywhere:
        assert SECRET not in text
        assert SECRET[::-1] not in text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", r"environment variable HOOK \(webhook_env\) is not set"),
        (f"http://x/{SECRET}\nX: y", "has several lines"),
        (f"file:///etc/{SECRET}", "does not start with https://"),
        (f"http://127.0.0.1:notaport/{SECRET}", "nonnumeric port|InvalidURL|ValueError"),
        ("http://", "no host given"),
    ],
)
def test_a_wrong_address_is_explained_without_showing_it(value: str, says: str) -> None:
    with pytest.raises(ChannelError, match=says) as caught:
        send(SlackChannel(kind="slack", webhook_env="HOOK"), notice(), {"HOOK": value})
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


# --- filters


def seen(key: str, fine: bool = False, at: datetime = NOW, **changes: Any) -> Observation:
    alert = Alert(**{"key": key, "severity": "CRITICAL", "title": f"{key} failed", "text": "text"} | changes)
    return Observation(key, at, None if fine else alert)


def notice(**changes: Any) -> Notice:
    alert = Alert(
        "key", "CRITICAL", "title\nof two lines", "text ü < &", "aws", "mobile", BAD, {"rows": 3}, "https://ui"
    )
    return replace(Notice("0a", "open", alert, NOW), **changes)


@pytest.mark.parametrize(
    ("filters", "alert", "wanted"),
    [
        ({}, {"severity": "WARNING"}, True),
        ({}, {"severity": "INFO"}, False),
        ({"min_severity": "INFO"}, {"severity": "INFO"}, True),
        ({"min_severity": "CRITICAL"}, {"severity": "WARNING"}, False),
        ({"sources": ["aws"]}, {"source": "aws"}, True),
        ({"sources": ["aws"]}, {"source": "gcp"}, False),
        ({"sources": ["aws"]}, {}, False),
        ({"departments": ["mobile"]}, {"department": "mobile"}, True),
        ({"departments": ["mobile"]}, {"department": "data"}, False),
        ({"departments": ["mobile"], "sources": ["aws"]}, {"department": "mobile"}, False),
    ],
)
def test_filters(filters: dict[str, Any], alert: dict[str, Any], wanted: bool) -> None:
    channel = SlackChannel(kind="slack", webhook_env="X", **filters)
    found = seen("a", **alert).alert
    assert found is not None
    assert wants(channel, found) is wanted


def test_each_channel_gets_what_it_wants(tmp_path: Path, inbox: Inbox) -> None:
    with http_server() as aws_only:
        settings = Alerts(channels=(webhook(inbox), webhook(aws_only, name="aws", sources=("aws",))))
        both = [seen("a", source="aws"), seen("b", source="gcp"), seen("c")]
        done = dispatch(AlertHistory(tmp_path / "h.sqlite"), settings, both, NOW, {})
        assert done.sent == {"webhook": 3, "aws": 1}
        assert [m["key"] for m in aws_only.taken] == ["a"]


# --- once


def test_older_observations_change_nothing(tmp_path: Path, inbox: Inbox) -> None:
    history, settings = AlertHistory(tmp_path / "h.sqlite"), Alerts(channels=(webhook(inbox),))
    dispatch(history, settings, [seen("a", fine=True, at=NOW)], NOW, {})
    dispatch(history, settings, [seen("a", at=NOW - HOUR)], NOW, {})
    assert inbox.taken == []
    wave = [seen("a", at=NOW + HOUR), seen("a", fine=True, at=NOW + 2 * HOUR)]
    dispatch(history, settings, wave, NOW + 3 * HOUR, {})
    dispatch(history, settings, wave, NOW + 4 * HOUR, {})
    assert inbox.taken == [], "what came and went between two ticks is in the history, and nobody is called for it"
    with history.opened() as opened:
        assert [(r.detected_at, r.resolved_at) for r in opened.rows()] == [(NOW + HOUR, NOW + 2 * HOUR)]


def test_a_rise_in_severity_is_told_at_once_and_a_return_is_a_new_alert(tmp_path: Path, inbox: Inbox) -> None:
    history, settings = AlertHistory(tmp_path / "h.sqlite"), Alerts(channels=(webhook(inbox),), re_alert_hours=None)
    steps = [
        seen("a", severity="WARNING"),
        seen("a", severity="CRITICAL", at=NOW + HOUR),
        seen("a", severity="WARNING", at=NOW + 2 * HOUR),
        seen("a", fine=True, at=NOW + 3 * HOUR),
        seen("a", at=NOW + 4 * HOUR),
    ]
    for step in steps:
        dispatch(history, settings, [step], step.at, {})
    dispatch(history, settings, [], NOW + 1000 * HOUR, {})
    assert [(m["event"], m["severity"]) for m in inbox.taken] == [
        ("open", "WARNING"),
        ("open", "CRITICAL"),
        ("resolved", "WARNING"),
        ("open", "CRITICAL"),
    ]
    assert len({m["id"] for m in inbox.taken}) == 4
    with history.opened() as opened:
        assert len(opened.rows()) == 2


def test_a_new_channel_learns_what_is_open(tmp_path: Path, inbox: Inbox) -> None:
    history = AlertHistory(tmp_path / "h.sqlite")
    dispatch(history, Alerts(), [seen("a"), seen("b"), seen("b", fine=True, at=NOW + HOUR)], NOW, {})
    dispatch(history, Alerts(channels=(webhook(inbox),)), [], NOW + HOUR, {})
    assert [m["key"] for m in inbox.taken] == ["a"]


def test_a_history_from_the_future_or_damaged_is_explained(tmp_path: Path) -> None:
    (tmp_path / "bad.sqlite").write_text("this is not a database, and long enough to be looked at as one" * 10)
    with (
        pytest.raises(HistoryError, match=r"bad\.sqlite.*move it away"),
        AlertHistory(tmp_path / "bad.sqlite").opened(),
    ):
        pass
    with pytest.raises(HistoryError, match="cannot be opened"), AlertHistory(tmp_path / "bad.sqlite" / "x").opened():
        pass


# --- other causes


def test_a_failed_step_is_told_and_ends_when_its_day_runs_through(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_estate(tmp_path, FIRST, BAD)
    monkeypatch.setattr(assets_raw, "INGESTION_RETRY", dg.RetryPolicy(max_retries=1))  # no waiting
    with dg.DagsterInstance.ephemeral() as instance:  # quicker to make
        graph = Graph(only_gcp(settings_for(tmp_path, FIRST, not_required=["gcp"])), instance)
        watch = Watch(with_channels(graph.settings, tmp_path, webhook(inbox)), instance)
        damaged = graph.platform.lake.record("gcp", "scopes", "2026-09")
        damaged.parent.mkdir(parents=True)
        damaged.write_text("{", encoding="utf-8")
        assert not graph.run(FIRST, None, [["raw", "gcp"]]).success
        now = datetime(2026, 9, 2, 9, tzinfo=UTC)
        watch.tick(now)
        told = {m["key"]: m for m in inbox.taken}
        assert told.keys() == {f"step raw__gcp {FIRST}", "delivery gcp (ledger)"}
        assert told[f"step raw__gcp {FIRST}"]["severity"] == "CRITICAL"
        assert told[f"step raw__gcp {FIRST}"]["source"] == "gcp"
        assert "is damaged" in told[f"step raw__gcp {FIRST}"]["text"]
        assert "cloud_cost_facts and daily_cost_by_team did not run" in told[f"step raw__gcp {FIRST}"]["text"]
        damaged.unlink()
        inbox.taken.clear()
        assert graph.run(FIRST, BAD, [["raw", "gcp"]]).success, "a range that holds the day"
        watch.tick(now + HOUR)
        assert {(m["event"], m["key"]) for m in inbox.taken} == {
            ("resolved", f"step raw__gcp {FIRST}"),
            ("resolved", "delivery gcp (ledger)"),
        }

        # One run a tick comes to the same history.
        monkeypatch.setattr(collect, "RUNS_A_TICK", 1)
        slow = Watch(with_channels(graph.settings, tmp_path / "slow"), instance)
        for _ in range(3):
            slow.tick(now + HOUR)
        assert slow.cursor == watch.cursor
        expected = rows(watch.platform)[f"step raw__gcp {FIRST}"]
        found = rows(slow.platform)[f"step raw__gcp {FIRST}"]
        assert (found.detected_at, found.resolved_at) == (expected.detected_at, expected.resolved_at)


def test_a_check_that_only_warns_is_a_warning(tmp_path: Path) -> None:
    small_estate(tmp_path, BAD, BAD, incidents=[Incident("gcp", BAD, "incomplete")])
    with dg.DagsterInstance.ephemeral() as instance:  # quicker to make
        graph = Graph(only_gcp(settings_for(tmp_path, BAD, not_required=["gcp"])), instance)
        assert graph.run(BAD, None, [["raw", "gcp"]]).success
        watch = Watch(with_channels(graph.settings, tmp_path), instance)
        watch.tick(datetime(2026, 9, 3, 9, tzinfo=UTC))
    assert {key: row.alert.severity for key, row in rows(watch.platform).items()} == {KEY: "WARNING"}


def delivered(state: Any, scope: str = "2026-09", days: tuple[date, ...] = (), **changes: Any) -> Generation:
    totals = DayTotals(3, {"USD": Decimal(1)}, {"USD": Decimal(1)}, "f")
    entry = Generation(scope, f"g-{state}", state, NOW, reason="the manifest lists a file that is missing")
    return replace(entry, days=dict.fromkeys(days, totals), **changes)


def test_refused_and_waiting_deliveries(tmp_path: Path) -> None:
    platform = Platform(settings_for(tmp_path, FIRST, not_required=["azure"]))
    Ledger(platform.lake, "aws").enter(delivered("refused"))
    Ledger(platform.lake, "azure").enter(delivered("refused"))
    Ledger(platform.lake, "gcp").enter(delivered("waiting"))

    def severities(now: datetime, opened: list[OpenAlert]) -> dict[str, str]:
        return {o.key: o.alert.severity if o.alert else "fine" for o in delivery_observations(platform, now, opened)}

    first = list(delivery_observations(platform, NOW, []))
    opened = [OpenAlert(o.alert, o.at) for o in first if o.alert]
    told = {"delivery aws 2026-09": "CRITICAL", "delivery azure 2026-09": "WARNING", "delivery gcp 2026-09": "INFO"}
    assert severities(NOW, []) == told
    assert "a file that is missing" in opened[0].alert.text
    # The ledger renews seen_at whenever it looks again: the wait counts from the alert.
    Ledger(platform.lake, "gcp").enter(delivered("waiting", seen_at=NOW + 6 * HOUR))
    Ledger(platform.lake, "aws").enter(delivered("live"))
    assert severities(NOW + 7 * HOUR, opened) == told | {
        "delivery aws 2026-09": "fine",
        "delivery gcp 2026-09": "WARNING",
    }
    platform.lake.record("azure", "scopes", "2026-09").write_text("{", encoding="utf-8")
    assert severities(NOW, [])["delivery azure (ledger)"] == "CRITICAL"


def test_a_reason_of_any_length_leaves_room_for_what_to_do(tmp_path: Path) -> None:
    platform = Platform(settings_for(tmp_path, FIRST))
    Ledger(platform.lake, "aws").enter(delivered("refused"))
    [short] = [o.alert for o in delivery_observations(platform, NOW, []) if o.alert]
    Ledger(platform.lake, "aws").enter(delivered("refused", reason="a file is missing, " * 1_000))
    [long] = [o.alert for o in delivery_observations(platform, NOW, []) if o.alert]
    assert len(long.text) > 2_000
    assert long.text[-70:] == short.text[-70:]


def test_late_sources(tmp_path: Path) -> None:
    platform = Platform(settings_for(tmp_path, FIRST, "night: {deadline: 07:30}\n", not_required=["azure"]))
    early = platform.settings.sources[0].model_copy(update={"deadline": "05:00"})
    platform = Platform(platform.settings.model_copy(update={"sources": (early, *platform.settings.sources[1:])}))
    incomplete = (("2026-09-02T00:00:00+00:00", "2026-09-03T00:00:00+00:00", False),)
    Ledger(platform.lake, "aws").enter(delivered("live", days=(FIRST,)))
    Ledger(platform.lake, "azure").enter(delivered("live", days=(FIRST, BAD, LAST)))
    Ledger(platform.lake, "gcp").enter(delivered("live", days=(FIRST, BAD), sectors=incomplete))

    def late(text: str) -> dict[str, tuple[str, date | None]]:
        found = late_sources(platform, datetime.fromisoformat(text))
        return {a.key: (a.severity, a.day) for a in found}

    assert late("2026-09-03T04:59:00+00:00") == {}
    assert late("2026-09-03T05:00:00+00:00") == {"late aws": ("WARNING", BAD)}
    assert late("2026-09-03T09:30:00+02:00") == {"late aws": ("WARNING", BAD), "late gcp": ("WARNING", BAD)}
    assert late("2026-09-04T08:00:00+00:00") == {"late aws": ("CRITICAL", LAST), "late gcp": ("CRITICAL", LAST)}
    assert late("2026-09-01T08:00:00+00:00") == {}, "nothing is due before the first day"


@pytest.mark.long
def test_untagged_cost_is_told_by_source_to_those_who_want_that_source(tmp_path: Path, inbox: Inbox) -> None:
    gate = f"check cloud_cost_facts:untagged_within_threshold {BAD}"
    small_estate(tmp_path, BAD, BAD, incidents=[Incident(s, BAD, "untagged") for s in ("aws", "azure")])
    lenient = "  sources: {azure: {department: {warn_above: 100, block_above: 100}, team: {warn_above: 100, block_above: 100}}}\n"
    with http_server() as azure_only, persistent_instance(tmp_path / "dagster") as instance:
        channels = (webhook(inbox), webhook(azure_only, name="azure", sources=("azure",), min_severity="CRITICAL"))
        graph = Graph(settings_for(tmp_path, BAD, not_required=["aws"]), instance)
        graph.run(BAD)
        watch = Watch(with_channels(graph.settings, tmp_path, *channels), instance)
        watch.tick(NOW)
        told = {m["key"]: m for m in inbox.taken if m["key"].startswith(gate)}
        assert {key: (m["source"], m["severity"]) for key, m in told.items()} == {
            f"{gate} aws": ("aws", "WARNING"),
            f"{gate} azure": ("azure", "CRITICAL"),
        }
        assert "source azure: 100.0 %" in told[f"{gate} azure"]["text"]
        assert "Next: tag the resources" in told[f"{gate} azure"]["text"]
        assert "source aws" not in told[f"{gate} azure"]["text"]
        assert {n.split()[1] for n in told[f"{gate} azure"]["figures"]} == {"azure"}
        assert [m["key"] for m in azure_only.taken if "cloud_cost_facts" in m["key"]] == [f"{gate} azure"]

        # One source heals, the other does not.
        inbox.taken.clear()
        Graph(settings_for(tmp_path, BAD, lenient, not_required=["aws"]), instance).run(BAD)
        watch.tick(NOW + HOUR)
        assert [(m["event"], m["source"]) for m in inbox.taken if m["key"].startswith(gate)] == [("resolved", "azure")]


@pytest.mark.long
def test_a_refused_delivery_is_one_alert_with_the_days_that_it_holds_and_delays(tmp_path: Path, inbox: Inbox) -> None:
    estate = small_estate(tmp_path, FIRST, LAST, deliver=False)
    estate.deliver("gcp", "2026-09", through=BAD)
    with persistent_instance(tmp_path / "dagster") as instance:
        graph = Graph(only_gcp(settings_for(tmp_path, FIRST)), instance)
        watch = Watch(with_channels(graph.settings, tmp_path, webhook(inbox)), instance)
        assert graph.run(FIRST, BAD).success
        watch.tick(NOW - HOUR * 24)
        assert inbox.taken == []
        # The next delivery lost a day, and the day that is due with it.
        estate.deliver("gcp", "2026-09", through=FIRST, generation=2)
        assert not graph.run(FIRST, BAD).success
        watch.tick(NOW)
        assert [(m["event"], m["key"], m["severity"]) for m in inbox.taken] == [
            ("open", "delivery gcp 2026-09", "CRITICAL")
        ]
        text = inbox.taken[0]["text"]
        assert "It holds 2 days (2026-09-01..2026-09-02)" in text
        assert f"{BAD} is its newest whole day, {LAST} was due by 08:00 UTC" in text
        # Delivered whole, and run again: one end of one alert.
        inbox.taken.clear()
        estate.deliver("gcp", "2026-09", generation=3)
        assert graph.run(FIRST, LAST).success
        watch.tick(NOW + HOUR)
        assert [(m["event"], m["key"]) for m in inbox.taken] == [("resolved", "delivery gcp 2026-09")]


def test_a_late_source_whose_delivery_then_comes_broken_is_told_by_the_delivery(tmp_path: Path, inbox: Inbox) -> None:
    graph_settings = only_gcp(settings_for(tmp_path, FIRST))
    with dg.DagsterInstance.ephemeral() as instance:
        watch = Watch(with_channels(graph_settings, tmp_path, webhook(inbox)), instance)
        ledger = Ledger(watch.platform.lake, "gcp")
        ledger.enter(delivered("live", days=(FIRST,)))
        watch.tick(NOW)
        ledger.enter(delivered("waiting"))
        watch.tick(NOW + HOUR)
    assert [(m["event"], m["key"], m["severity"]) for m in inbox.taken] == [
        ("open", "late gcp", "CRITICAL"),
        ("open", "delivery gcp 2026-09", "CRITICAL"),
        ("resolved", "late gcp", "CRITICAL"),
    ]
    assert inbox.taken[2]["note"] == "Told by the alert delivery gcp 2026-09."


def test_a_source_that_is_one_departments_bill_is_told_to_that_department(held: Graph, tmp_path: Path) -> None:
    with http_server() as mobile, http_server() as data:
        platform = with_channels(
            held.settings,
            tmp_path,
            webhook(mobile, name="mobile", departments=("mobile",)),
            webhook(data, name="data", departments=("data",)),
        )
        [gcp] = platform.settings.sources
        settings = platform.settings.model_copy(update={"sources": (gcp.model_copy(update={"department": "mobile"}),)})
        Watch(Platform(settings), held.instance).tick(NOW)
        assert [(m["key"], m["department"]) for m in mobile.taken] == [(KEY, "mobile")]
        assert data.taken == []


# --- the command line and the documents


def test_the_command_line(tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_for(tmp_path, FIRST)
    config = tmp_path / "finops.yaml"
    config.write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: aws, uri: estate/aws, layout: files}]\ndimensions: {team: {keys: [team]}}\n"
        "alerts:\n  channels:\n"
        "    - {kind: webhook, name: hook, url_env: ALERTS_TEST_HOOK, min_severity: CRITICAL}\n"
        "    - {kind: slack, webhook_env: ALERTS_TEST_SLACK}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("ALERTS_TEST_HOOK", inbox.url)
    monkeypatch.delenv("ALERTS_TEST_SLACK", raising=False)

    def finops(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["alerts", *arguments, "--config", str(config)])
        return result.exit_code, " ".join(result.output.split())

    code, text = finops("list")
    assert code == 0
    assert "none were ever looked for: Dagster's daemon collects them, with the sensor `alerts`" in text
    assert "`make ui`" in text
    code, text = finops("test")
    assert code == 1
    assert "sent hook" in text
    assert "failed slack: environment variable ALERTS_TEST_SLACK (webhook_env) is not set" in text
    assert inbox.events() == ["test"]

    history = AlertHistory(tmp_path / "w.alerts.sqlite")
    dispatch(history, Alerts(), [seen("a"), seen("b", at=NOW - 48 * HOUR, severity="WARNING")], NOW, {})
    code, text = finops("list", "--since", "2026-09-03")
    assert "CRITICAL 2026-09-04 09:00 open a failed" in text
    assert "b failed" not in text
    assert finops("close", "a failed") == (0, "closed")
    code, text = finops("list", "--open")
    assert "b failed" in text
    assert "a failed" not in text
    code, text = finops("close", "a")
    assert (code, "no open alert 'a'; open: b" in text) == (1, True)


@pytest.mark.parametrize(
    ("yaml", "path", "says"),
    [
        ("channels: [{kind: pigeon}]", "alerts.channels[0].kind", "found 'pigeon'; allowed: slack, smtp, sns, webhook"),
        ("channels: [{url: x}]", "alerts.channels[0]", "has no kind; allowed: slack"),
        ("channels: [{kind: slack}]", "alerts.channels[0].webhook_env", "is missing"),
        ("channels: [{kind: slack, webhook_evn: A}]", "alerts.channels[0].webhook_evn", "did you mean 'webhook_env'?"),
        ("channels: [{kind: slack, webhook_env: A, sources: [oci]}]", "alerts.channels[0].sources[0]", "allowed: aws"),
        (
            "channels: [{kind: slack, webhook_env: A, min_severity: LOUD}]",
            "alerts.channels[0].min_severity",
            "'CRITICAL'",
        ),
        ("channels: [{kind: webhook}]", "alerts.channels[0]", "exactly one of url and url_env"),
        (
            "channels: [{kind: slack, webhook_env: A}, {kind: slack, webhook_env: B}]",
            "alerts.channels[1].name",
            "again",
        ),
        ("channels: [{kind: sns, topic_arn: alerts}]", "alerts.channels[0].topic_arn", "found 'alerts'"),
        (
            "channels: [{kind: smtp, host: h, sender: a@b, to: [x@y], username_env: U}]",
            "alerts.channels[0]",
            "together",
        ),
        ("re_alert_hours: 0", "alerts.re_alert_hours", "found 0"),
        ("re_alert_hors: 1", "alerts.re_alert_hors", "did you mean 're_alert_hours'?"),
    ],
)
def test_mistakes_in_the_settings(tmp_path: Path, yaml: str, path: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_for(tmp_path, FIRST, f"alerts: {{{yaml}}}\n")
    found = {m.path: m for m in caught.value.mistakes}
    assert says in found[path].message
    assert found[path].line


def test_a_secret_pasted_where_its_name_belongs_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be the name of an environment variable") as caught:
        settings_for(tmp_path, FIRST, f"alerts: {{channels: [{{kind: slack, webhook_env: 'https://x/{SECRET}'}}]}}\n")
    assert SECRET not in str(caught.value)


def test_times_of_day(tmp_path: Path) -> None:
    assert settings_for(tmp_path, FIRST, "night: {deadline: 10:30}\n").night.deadline == "10:30"
    with pytest.raises(ConfigError, match=r"night\.deadline: found '24:00'"):
        settings_for(tmp_path, FIRST, "night: {deadline: 24:00}\n")


def test_every_field_of_the_json_says_what_it_means() -> None:
    assert list(PAYLOAD) == list(as_json(notice(resolved_at=NOW)))


# --- every alert can end


DAYS = dg.DailyPartitionsDefinition(start_date=str(FIRST))
RANGE = f"{FIRST}..{LAST}"


@dataclass
class Toy:
    """A raw asset by day and its check, that fail when told to: what Dagster writes of them is real, and quickly had."""

    instance: dg.DagsterInstance
    broken: bool = True

    def run(self, first: date | None = None, last: date | None = None) -> dg.ExecuteInProcessResult:
        @dg.asset(key=["raw", "gcp"], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
        def bill(context) -> None:  # type: ignore[no-untyped-def]  # Dagster reads the name of the type alone
            assert context.partition_keys
            if self.broken:
                raise ValueError("a broken file")

        tags = {}
        if first and last:
            tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
        job = dg.Definitions(assets=[bill], jobs=[dg.define_asset_job("daily")]).resolve_job_def("daily")
        key = str(first) if first and not last else None
        return job.execute_in_process(
            instance=self.instance, partition_key=key, tags=tags, run_config=QUIET, raise_on_error=False
        )


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[tuple[Toy, Watch]]:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = with_channels(settings_for(tmp_path, FIRST), tmp_path)
        yield Toy(instance), Watch(platform, instance)


def still_open(watch: Watch) -> set[str]:
    """Keys of what is open of runs and checks; nothing was delivered, so that all sources are late."""
    watch.tick(NOW)
    with history_of(watch.platform).opened() as opened:
        return {o.alert.key for o in opened.open_alerts().values() if not o.alert.key.startswith("late ")}


def test_a_failure_without_a_day_ends_when_a_day_runs_through(toy: tuple[Toy, Watch]) -> None:
    """As of checks that the UI executes without a partition: no run is ever the same again."""
    runs, watch = toy
    assert not runs.run().success
    assert still_open(watch) == {"step raw__gcp"}
    runs.broken = False
    assert runs.run(FIRST).success
    assert still_open(watch) == set()
    [row] = [r for key, r in rows(watch.platform).items() if key == "step raw__gcp"]
    assert row.note == f"step raw__gcp ran through for {FIRST}."


def test_a_failed_range_ends_when_its_days_ran_through_in_pieces(toy: tuple[Toy, Watch]) -> None:
    runs, watch = toy
    assert not runs.run(FIRST, LAST).success
    assert still_open(watch) == {f"step raw__gcp {RANGE}"}
    assert not runs.run(BAD).success
    assert still_open(watch) == {f"step raw__gcp {RANGE}", f"step raw__gcp {BAD}"}
    runs.broken = False
    assert runs.run(FIRST).success
    assert still_open(watch) == {f"step raw__gcp {RANGE}", f"step raw__gcp {BAD}"}, "the last day was not run again"
    assert runs.run(LAST).success
    assert still_open(watch) == {f"step raw__gcp {BAD}"}, "the day that failed again has an alert of its own"
    assert runs.run(BAD, LAST).success
    assert still_open(watch) == set()
    runs.broken = True
    assert not runs.run(FIRST, LAST).success
    assert still_open(watch) == {f"step raw__gcp {RANGE}"}, "what ran through before it failed again does not count"


def test_pieces_that_come_in_one_look_with_the_failure_count(toy: tuple[Toy, Watch]) -> None:
    runs, watch = toy
    runs.run(FIRST, LAST)
    runs.broken = False
    runs.run(FIRST, BAD)
    assert still_open(watch) == {f"step raw__gcp {RANGE}"}
    runs.run(BAD, LAST)
    assert still_open(watch) == set()


def test_a_run_that_broke_off_before_its_first_step_ends_with_what_another_job_built(toy: tuple[Toy, Watch]) -> None:
    runs, watch = toy
    runs.broken = False
    days = {"dagster/asset_partition_range_start": str(FIRST), "dagster/asset_partition_range_end": str(LAST)}
    lost = runs.instance.add_run(dg.DagsterRun("nightly", status=dg.DagsterRunStatus.STARTING, tags=days))
    runs.instance.report_run_failed(lost, "its process is gone")
    assert still_open(watch) == {f"job nightly {RANGE}"}
    text = rows(watch.platform)[f"job nightly {RANGE}"].alert.text
    assert "its process is gone" in text

    @dg.asset(name=BUILD_STEP, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def build() -> None:
        pass

    defs = dg.Definitions(assets=[build], jobs=[dg.define_asset_job("other")])
    for day in (FIRST, BAD, LAST):
        assert still_open(watch) == {f"job nightly {RANGE}"}
        defs.resolve_job_def("other").execute_in_process(
            instance=runs.instance, partition_key=str(day), run_config=QUIET
        )
    assert still_open(watch) == set()


def test_a_check_that_was_told_without_a_day_ends_when_it_passes_on_one(toy: tuple[Toy, Watch]) -> None:
    runs, watch = toy
    with history_of(watch.platform).opened() as opened, opened.writing():
        opened.enter([Observation(key, NOW - HOUR, warning(key)) for key in ("check raw/gcp:ok", "check raw/gcp:okay")])

    @dg.asset(key=["raw", "gcp"], partitions_def=DAYS)
    def bill(context) -> None:  # type: ignore[no-untyped-def]  # Dagster reads the name of the type alone
        context.log_event(
            AssetCheckEvaluation(
                asset_key=dg.AssetKey(["raw", "gcp"]), check_name="ok", passed=True, metadata={}, partition=str(BAD)
            )
        )

    dg.materialize([bill], instance=runs.instance, partition_key=str(BAD), run_config=QUIET)
    assert still_open(watch) == {"check raw/gcp:okay"}


def warning(key: str, **changes: Any) -> Alert:
    return Alert(key, "WARNING", "title", "text", **changes)


CHECKS = {"tag_coverage": {"other"}, "raw/gcp": {"complete"}}


def test_alerts_of_what_is_configured_no_more_end(tmp_path: Path) -> None:
    platform = with_channels(settings_for(tmp_path, FIRST), tmp_path)
    before = FIRST - timedelta(days=1)
    gone: dict[str, dict[str, Any]] = {
        f"check raw/old:complete {FIRST}": {"source": "old", "day": FIRST},
        f"check cloud_cost_facts:untagged {FIRST} old": {"source": "old", "day": FIRST},
        "delivery old 2026-09": {"source": "old"},
        "late old": {"source": "old", "day": FIRST},
        f"check raw/gcp:complete {before}": {"source": "gcp", "day": before},
        "check tag_coverage:target_reached": {},
        "budget mobile/ios month 2026-09-01": {"department": "mobile"},
        "budgets digest mobile": {"department": "mobile"},
        f"step reports__units {FIRST}..{FIRST}": {},
    }
    stays: dict[str, dict[str, Any]] = {
        f"check raw/gcp:complete {FIRST}": {"source": "gcp", "day": FIRST},
        "check tag_coverage:other": {},
        "check another/asset:check": {},
        "step publish": {},
    }
    with history_of(platform).opened() as opened, opened.writing():
        opened.enter(
            [Observation(key, NOW - HOUR, warning(key, **fields)) for key, fields in {**gone, **stays}.items()]
        )
    with dg.DagsterInstance.ephemeral() as instance:
        tick(platform, instance, None, NOW, {}, print, CHECKS, None, {"publish"})
    found = rows(platform)
    assert {key for key, row in found.items() if row.resolved_at} == set(gone)
    assert found["late old"].note == "finops.yaml has no source old any more."
    assert found[f"step reports__units {FIRST}..{FIRST}"].note == "There is no step reports__units any more."
    assert found[f"check raw/gcp:complete {before}"].note == f"{before} is before first_day ({FIRST}) now."


# --- hostile text

HOSTILE = (
    "x<!channel> <https://evil.example|here> *b* <script>alert(1)</script>\r\nBcc: all@example.com\n\x1b[31mred\u202etxt"
    '\udc80 \x00 "; DROP TABLE alerts; --'
)


def test_hostile_names_are_harmless_on_every_channel(tmp_path: Path, inbox: Inbox) -> None:
    port = free_port()
    with http_server() as slack, smtp_server(port) as mailbox:
        channels = (
            webhook(inbox),
            SlackChannel(kind="slack", webhook_env="SLACK"),
            SmtpChannel(
                kind="smtp", host="127.0.0.1", port=port, starttls=False, sender="f@e.example", to=("a@e.example",)
            ),
        )
        platform = with_channels(settings_for(tmp_path, FIRST), tmp_path, *channels)
        key = f"delivery gcp {HOSTILE}"
        alert = Alert(
            key, "CRITICAL", f"delivery {HOSTILE} refused", f"file {HOSTILE} is bad", figures={"scope": HOSTILE}
        )
        for now, seen in ((NOW, alert), (NOW + HOUR, None)):
            done = dispatch(
                history_of(platform), platform.settings.alerts, [Observation(key, now, seen, note=HOSTILE)], now,
                {"SLACK": slack.url}, print,
            )  # fmt: skip
            assert (done.errors, set(done.sent.values())) == ({}, {1})
    for taken in inbox.taken:
        for text in (taken["key"], taken["title"], taken["text"], taken["note"], taken["figures"]["scope"]):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", text)
        assert not {"\n", "\r"} & {*taken["title"], *taken["key"]}
    assert inbox.events() == ["open", "resolved"]
    for taken in slack.taken:
        assert "<" not in taken["text"].replace("&lt;", "")
        assert "\x1b" not in taken["text"]
    for mail in mailbox.mails:
        assert mail["Bcc"] is None
        assert mail.get_content_type() == "text/plain"
        assert "\n" not in str(make_header(decode_header(mail["Subject"]))).replace("\n ", " ")
    assert mailbox.to == [["a@e.example"]] * 2


def test_an_alert_of_a_hostile_scope_stays_one_alert_and_ends(tmp_path: Path) -> None:
    platform = Platform(settings_for(tmp_path, FIRST))
    scope = "a\u202eb  c\x1b" + "long" * 40
    Ledger(platform.lake, "gcp").enter(delivered("refused", scope))
    history = history_of(platform)
    for now in (NOW, NOW + HOUR):
        with history.opened() as opened, opened.writing():
            known = [*opened.open_alerts().values()]
            opened.enter(delivery_observations(platform, now, known))
            assert len(opened.open_alerts()) == 1
    [row] = rows(platform).values()
    assert row.resolved_at is None
    assert len(row.alert.title) <= 200
    assert len(row.alert.key) <= 500
    Ledger(platform.lake, "gcp").enter(delivered("live", scope, days=(FIRST,)))
    with history.opened() as opened, opened.writing():
        opened.enter(delivery_observations(platform, NOW + 2 * HOUR, [*opened.open_alerts().values()]))
        assert not opened.open_alerts()


def test_keys_that_differ_in_what_is_not_seen_stay_apart() -> None:
    long = "x" * 600
    assert len({Observation(k, NOW).key for k in ("a b", "a  b", "a\tb", "a\nb", f"{long}1", f"{long}2")}) == 6


@pytest.mark.parametrize(
    "text",
    [
        f"cannot list https://acme.blob.core.windows.net/c?sv=2024&sig={SECRET}: denied",
        f"s3://key:{SECRET}@bucket/x is not there",
        f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={SECRET};EndpointSuffix=x",
        f"GET HTTPS://a.example/x?X-Amz-Signature={SECRET} said Authorization: Bearer {SECRET}",
        f"header Bearer {SECRET}",
    ],
)
def test_a_secret_in_an_error_is_in_no_alert(text: str) -> None:
    alert = Alert("k", "WARNING", text, text, link=None)
    notice = Notice("1", "resolved", alert, NOW, NOW, Observation("k", NOW, note=text).note)
    assert SECRET not in json.dumps(as_json(notice))
    assert alert.title
