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


def without_secrets(text: str) -> str:
    """A URI, or a text with URIs in it, as it may be shown: user and password removed, the query of an address, which may
    be a token, and the keys of connection strings.

    >>> without_secrets("https://acme.blob.core.windows.net/c?sv=1&sig=abc: denied")
    'https://acme.blob.core.windows.net/c: denied'
    >>> without_secrets("AccountName=acme;AccountKey=abc==;EndpointSuffix=x")
    'AccountName=acme;AccountKey=***;EndpointSuffix=x'
    """

    def named(found: re.Match[str]) -> str:
        return f"{found[1]}=***" if found[1] else f"{found[2]} ***"

    return _NAMED.sub(named, _QUERY.sub(r"\1", USER_INFO.sub("", text)))
