"""Digests: a job each, which sends one, and its schedule."""

import os

import dagster as dg

from finops_assets.alerts.channels import ChannelError
from finops_assets.base.errors import FinopsError
from finops_assets.evaluate.page.digest import send_digest
from finops_assets.platform import Platform
from finops_assets.settings.digests import Digest


def digest_job(digest: Digest) -> dg.JobDefinition:
    """The job that sends one, three times at most where the channel does not take it."""

    @dg.op(
        name=f"send_{digest.name}",
        description=f"The newest month of what {digest.group} sees, to the channel {digest.channel}.",
        retry_policy=dg.RetryPolicy(
            max_retries=2, delay=60, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
        ),
    )
    def send(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
        try:
            letter, remark = send_digest(platform.settings, digest, os.environ)
        except ChannelError:
            raise
        except FinopsError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.info(f"sent: {letter.subject}{f' ({remark})' if remark else ''}")

    @dg.job(name=f"digest_{digest.name}", description=f"Sends {digest.group} its month ({digest.channel}).")
    def job() -> None:
        send()

    return job


def digest_schedule(digest: Digest, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """When it goes out."""
    return dg.ScheduleDefinition(
        name=f"digest_{digest.name}",
        job=job,
        cron_schedule=digest.cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"The month's page of {digest.group}, by {digest.channel}.",
    )
