"""Who takes part in a charge: the provider of 1.0 to 1.3, and the service and host provider that follow it.

FOCUS 1.3 split ProviderName and PublisherName into ServiceProviderName, HostProviderName and InvoiceIssuerName, and 1.4
removed them (Version Migration Guidance). Bought directly all are the same company; what a vendor sells through a
cloud's marketplace had ProviderName = cloud and PublisherName = vendor, and has service provider = vendor, host = cloud.

A company goes by several names ("AWS", "Amazon Web Services, Inc."). providers.csv says how those of the clouds begin;
of any other company the legal form is left out. Without that, half of a cloud's own services were a marketplace's.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

_LEGAL = r"[,.]?\s+(inc|incorporated|llc|ltd|limited|corp|corporation|co|company|gmbh|ag|sarl|s\.a\.r\.l|sas|bv|b\.v|plc|pte|pty)\.?$"


@cache
def _beginnings() -> dict[str, tuple[str, ...]]:
    """Cloud, as it names itself in ProviderName -> how its companies' names begin, in lower case."""
    result: dict[str, tuple[str, ...]] = {}
    with (files("finops_assets.focus") / "providers.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            result[row["provider"]] = (*result.get(row["provider"], ()), row["begins"])
    return result


def _known(name: str, otherwise: str) -> str:
    whens = " ".join(
        rf"WHEN regexp_matches(lower(trim({name})), '^({'|'.join(begins)})\b') THEN '{provider}'"
        for provider, begins in _beginnings().items()
    )
    return f"CASE {whens} ELSE {otherwise} END"


def company(name: str) -> str:
    """SQL: a cloud's own short name for any of its companies; every other name as it is."""
    return _known(name, name)


def same_company(one: str, other: str) -> str:
    """SQL: do two names stand for one company?"""

    def key(name: str) -> str:
        return _known(name, f"regexp_replace(lower(trim({name})), '{_LEGAL}', '')")

    return f"({one} = {other} OR {key(one)} = {key(other)})"


def provider_before(default: str) -> str:
    """SQL: what ProviderName would have said of a row of FOCUS 1.4; NULL for a row without participants.

    It named who made the service available for purchase. That is the one of them that the source is of (`default`, SQL),
    else the one that issues the invoice; where a reseller issues it, the host.
    """
    service, host, issuer = "ServiceProviderName", "HostProviderName", "InvoiceIssuerName"
    return f"""
        CASE
            WHEN {service} IS NULL AND {host} IS NULL THEN NULL
            WHEN {same_company(service, default)} THEN {company(service)}
            WHEN {same_company(host, default)} THEN {company(host)}
            WHEN {same_company(service, issuer)} THEN {company(service)}
            WHEN {same_company(host, issuer)} THEN {company(host)}
            ELSE coalesce({_known(issuer, "NULL")}, {company(f"coalesce({host}, {service})")})
        END
    """
