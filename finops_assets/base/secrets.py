"""Text without the secrets that stood in it: user names, tokens, signatures of addresses."""

from __future__ import annotations

import re

USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


_QUERY = re.compile(r"(?<=://)([^\s?'\"<>]*)\?[^\s'\"<>]*(?<![.,;:)])", re.IGNORECASE)


_NAMED = re.compile(
    r"\b(AccountKey|SharedAccessKey|SharedAccessSignature|sig|X-Amz-Signature|X-Amz-Security-Token|X-Goog-Signature)="
    r"[^\s;&'\"<>]+|\b(Authorization: *(?:Basic|Bearer)|Bearer) +[^\s'\"<>]{8,}",
    re.IGNORECASE,
)


_KEY = re.compile(
    r"\b(?:sk|rk|pk)-[A-Za-z0-9_-]{16,}|\bgh[a-z]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bdapi[0-9a-f]{32}\b"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*)?"
)
"""Keys of vendors and tokens, by how they begin."""


def without_keys(text: str) -> str:
    """A text with what looks like a vendor's key taken out, else as it is.

    >>> without_keys("team sk-proj-0123456789abcdefXYZ, task-force")
    'team ***, task-force'
    """
    return _KEY.sub("***", text)


def without_secrets(text: str) -> str:
    """A URI, or a text with URIs in it, as it may be shown: user and password removed, the query of an address, which may
    be a token, the keys of connection strings and of vendors.

    >>> without_secrets("https://acme.blob.core.windows.net/c?sv=1&sig=abc: denied")
    'https://acme.blob.core.windows.net/c: denied'
    >>> without_secrets("AccountName=acme;AccountKey=abc==;EndpointSuffix=x")
    'AccountName=acme;AccountKey=***;EndpointSuffix=x'
    """

    def named(found: re.Match[str]) -> str:
        return f"{found[1]}=***" if found[1] else f"{found[2]} ***"

    return without_keys(_NAMED.sub(named, _QUERY.sub(r"\1", USER_INFO.sub("", text))))
