"""Text that others wrote, made safe to show: names of files and columns, tags, messages of services."""

from __future__ import annotations

import re
import shlex
from decimal import Decimal

# Control characters, what turns the direction of writing, what has no width, halves of a pair. Not the line's end, the tab
# and the joiners of scripts and emoji.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Text in which nothing acts on a terminal, a header or a reader's eye without being seen.

    >>> visible("\x1b[31mred\u202e, caf\u00e9\n") == "\\x1b[31mred\\u202e, caf\u00e9\n"
    True
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def json_text(text: str) -> str:
    r"""JSON in which nothing acts on a terminal that it is printed to; it says the same.

    >>> json_text('"gpj\u202e, caf\u00e9"') == '"gpj\\u202e, caf\u00e9"'
    True
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str, most: int) -> str:
    """As `visible`, in one line of at most so many characters.

    >>> one_line("a\\r\\nBcc: b@example.com", 9)
    'a Bcc: b…'
    """
    line = " ".join(visible(" ".join(text.split())).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def bytes_of(size: str) -> int:
    """A size as settings write it, `800MB` or `1.5 GB`, in bytes.

    >>> bytes_of("1.5 GB")
    1500000000
    """
    return int(Decimal(size[:-2]) * {"MB": 10**6, "GB": 10**9}[size[-2:]])


_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#|!~&$]|(?<=[a-z]):(?=//)|(?<=www)\.|@")


def markdown(text: str, most: int = 120) -> str:
    """Text that Markdown shows as it was written, in a cell of a table too: one line, no longer than so many characters.

    >>> print(markdown("a|b <i> __x__ https://example.com"))
    a\\|b \\<i\\> \\_\\_x\\_\\_ https\\://example.com
    """
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text, most))


_FORMULA = tuple("=+-@\t\r")


def no_formula(text: str) -> str:
    r"""Text for a cell of a CSV that people open: what a spreadsheet would run gets an apostrophe before it (OWASP).

    >>> no_formula('=HYPERLINK("http://example.com")'), no_formula("a=b"), no_formula("-")
    ('\'=HYPERLINK("http://example.com")', 'a=b', '-')
    """
    return f"'{text}" if len(text) > 1 and text.lstrip("'").startswith(_FORMULA) else text


def with_formula(text: str) -> str:
    """What `no_formula` was given."""
    return text[1:] if text.startswith("'") and no_formula(text[1:]) == text else text


def command(name: str, *arguments: str) -> str:
    """A command of ours as it can be pasted into a shell, whatever its arguments are.

    >>> command("deliveries accept", "aws", "bill [1].csv")
    "finops deliveries accept aws 'bill [1].csv'"
    >>> command("deliveries accept", "aws", "-x.csv")
    'finops deliveries accept -- aws -x.csv'
    """
    ends = ["--"] if any(argument.startswith("-") for argument in arguments) else []
    return f"finops {name} {shlex.join([*ends, *arguments])}"


def counted(rows: int) -> str:
    """A number of rows in words.

    >>> counted(1), counted(1200)
    ('1 row', '1,200 rows')
    """
    return "1 row" if rows == 1 else f"{rows:,} rows"


def money(value: Decimal) -> str:
    """An exact amount without trailing zeros.

    >>> money(Decimal("1.500000"))
    '1.5'
    """
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
