"""Digests: the month's page of what a group sees, by a real mail server and a webhook, through Dagster and the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.definitions import build_definitions
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets_tests.alerts.test_alerts import Inbox, Mailbox, http_server, smtp_server
from finops_assets_tests.emulators import free_port
from finops_assets_tests.explore.served import FORMULA, SETTINGS, published_platform

pytestmark = pytest.mark.slow
POST = """
access: {{web-leads: [shop/web], finance: all, nobody: [gone]}}
alerts:
  channels:
    - {{kind: smtp, host: 127.0.0.1, port: {port}, sender: f@x.example, to: [web@x.example], starttls: false, alerts: false}}
    - {{kind: slack, webhook_env: FINOPS_SLACK, alerts: false}}
digests:
  - {{name: web, group: web-leads, channel: smtp, cron: "30 6 * * 1"}}
  - {{name: all, group: finance, channel: slack}}
  - {{name: gone, group: nobody, channel: slack}}
"""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, port: int) -> Platform:
    return published_platform(tmp_path_factory.mktemp("digests"), POST.format(port=port))


@pytest.fixture
def mailbox(port: int) -> Iterator[Mailbox]:
    with smtp_server(port) as mailbox:
        yield mailbox


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with http_server() as inbox:
        monkeypatch.setenv("FINOPS_SLACK", inbox.url)
        yield inbox


def test_a_group_gets_the_page_of_its_own_cost_by_mail(platform: Platform, mailbox: Mailbox) -> None:
    definitions = build_definitions(platform.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        assert definitions.resolve_job_def("digest_web").execute_in_process(instance=instance).success
    [mail] = mailbox.mails
    assert mailbox.to == [["web@x.example"]]
    assert mail["Subject"] == "Cloud cost, October 2026: shop/web"
    _, text, page = mail.walk()
    said = text.get_payload(decode=True).decode()
    assert "USD: 431.10 spent" in said
    assert "shop / web: 431.10" in said
    assert page.get_filename() == "cloud-cost-2026-10-web.html"
    html = page.get_payload(decode=True).decode()
    assert "431.10" in html
    for other in ("api", FORMULA, "total month"):
        assert other not in said
        assert f">{other}<" not in html
    schedule = definitions.resolve_schedule_def("digest_web")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 6 * * 1", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_slack_gets_it_in_short_and_only_when_it_is_sent(platform: Platform, slack: Inbox) -> None:
    config = str(platform.settings.warehouse.with_name("finops.yaml"))

    def run(*arguments: str) -> tuple[int, str]:
        told = CliRunner().invoke(app, ["report", "digest", *arguments, "-c", config])
        return told.exit_code, told.output

    code, shown = run("all")
    assert (code, slack.asked) == (0, 0)
    assert "shop / api" in shown
    code, sent = run("all", "--send")
    assert code == 0
    assert "sent to the channel slack" in sent
    [message] = slack.taken
    assert message["text"].startswith("*Cloud cost, October 2026: all cost*\n")
    assert "Without figures" not in message["text"], "a source is missing on a day, no day is"
    slack.status = 500
    code, refused = run("all", "--send")
    assert code == 1
    assert "HTTP 500" in refused
    assert slack.url not in refused, "a webhook's address is a secret"
    code, nothing = run("gone")
    assert code == 1
    assert "nothing was reported" in nothing
    assert "digests: web, all, gone" in run("other")[1]


def test_what_cannot_be_sent_is_a_failed_run_that_says_why(platform: Platform, slack: Inbox) -> None:
    definitions = build_definitions(platform.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def("digest_gone").execute_in_process(instance=instance, raise_on_error=False)
    [failed] = [event for event in done.all_events if event.event_type_value == "STEP_FAILURE"]
    assert "nothing was reported" in str(failed.event_specific_data)
    assert slack.asked == 0


def test_the_page_of_a_group_is_a_file_of_its_own(platform: Platform, tmp_path: Path) -> None:
    config = str(platform.settings.warehouse.with_name("finops.yaml"))
    file = tmp_path / "web.html"
    done = CliRunner().invoke(app, ["report", "html", "--group", "web-leads", "-o", str(file), "-c", config])
    assert done.exit_code == 0, done.output
    assert "431.10" in file.read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, ["report", "html", "--group", "web-leads", "-c", config])
    assert (refused.exit_code, "needs --output" in refused.output) == (1, True)


@pytest.mark.parametrize(
    ("digest", "says"),
    [
        ("{name: a, group: other, channel: smtp}", "digests[0].group: found 'other'; allowed: finance, nobody, web-leads"),
        ("{name: a, group: finance, channel: pager}", "digests[0].channel: found 'pager'; allowed: slack, smtp"),
        ("{name: a, group: finance, channel: smtp, cron: often}", "digests[0].cron"),
    ],
)  # fmt: skip
def test_a_digest_that_cannot_go_out_is_told_when_it_is_read(tmp_path: Path, digest: str, says: str) -> None:
    text = SETTINGS + POST.format(port=25)
    head = text[: text.index("digests:")]
    with pytest.raises(ConfigError) as told:
        parse_settings(f"{head}digests: [{digest}]\n", tmp_path / "finops.yaml")
    assert says in str(told.value)
