"""Why a step or a run failed, in the words of the error that our code raised."""

from __future__ import annotations

import re

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

# How the names of the errors begin that Dagster wraps around what an asset raised.
_WRAPPERS = ("Dagster", "RetryRequested")
# Our errors are sentences; of an error of others its class is half of what it says.
_CLASS_OF_OURS = re.compile(r"(finops_assets(\.\w+)+|dagster\._core\.definitions\.events\.Failure): ")


def why_step_failed(failure: dg.StepFailureData) -> str | None:
    """The sentence of a failed step; None: no reason was recorded."""
    told = failure.user_failure_data
    return told.description if told and told.description else why(failure.error)


def why(error: SerializableErrorInfo | None) -> str | None:
    """The sentence of an error: ours, not what is wrapped around it, nor what caused it, which says less."""
    while error is not None and error.cause is not None and (error.cls_name or "").startswith(_WRAPPERS):
        error = error.cause
    if error is None:
        return None
    text = error.message.strip()
    found = _CLASS_OF_OURS.match(text)
    return text[found.end() :] if found else text
