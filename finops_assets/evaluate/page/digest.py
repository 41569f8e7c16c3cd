"""What a group gets in the post: the newest month's page of what it sees."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from finops_assets.alerts.channels import Letter, name_of, post
from finops_assets.base.errors import FinopsError
from finops_assets.cost.reach import group_reach, narrowed
from finops_assets.evaluate.page.gather import gather
from finops_assets.evaluate.page.render import render_html, render_text
from finops_assets.settings.alerts import SlackChannel, SmtpChannel
from finops_assets.settings.digests import Digest
from finops_assets.settings.model import Settings


def letter(settings: Settings, digest: Digest) -> Letter:
    """The newest month of the published copy, as the digest's group sees it.

    Raises:
        NoFigures: the group has no cost in it, or nothing is reported.
        FinopsError: there is no published copy.
    """
    if not settings.published.is_file():
        raise FinopsError(f"{settings.published} is not there yet; run days first (`finops run FROM TO`)")
    reach = group_reach(settings.access, digest.group)
    with narrowed(settings.published, reach) as connection:
        figures = gather(connection)
    subject = f"Cloud cost, {figures.month.first:%B %Y}: {reach.told()}"
    text = render_text(figures)
    # Another version of the figures is another letter.
    mark = hashlib.sha256(f"{digest.name} {subject} {text}".encode()).hexdigest()[:32]
    name = f"cloud-cost-{figures.month.first:%Y-%m}-{digest.name}.html"
    return Letter(mark, subject, text, (name, render_html(figures)))


def send_digest(settings: Settings, digest: Digest, environment: Mapping[str, str]) -> tuple[Letter, str]:
    """Send it; returns what was sent, and a remark of the channel, empty if everything went well.

    Raises:
        FinopsError: there is nothing to send.
        ChannelError: the channel did not take it.
    """
    [channel] = [c for c in settings.alerts.channels if name_of(c) == digest.channel]
    assert isinstance(channel, SlackChannel | SmtpChannel), "checked when finops.yaml was read"
    written = letter(settings, digest)
    return written, post(channel, written, environment)
