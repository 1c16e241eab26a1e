# SPDX-License-Identifier: Apache-2.0
"""Text that others wrote, made safe for a terminal, a log line and the query of a URL.

Model names, errors of servers and texts of recordings may hold escape sequences, line ends, and
characters that reorder what is shown.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

# Categories C (control, format, surrogate, private use, unassigned) and the two separators. The
# zero-width joiner is one of them: an emoji made with it shows as its parts.
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
# To the last @: a password may have one. It may be escaped, and the scheme may be missing.
_AT: Final = r"(?:@|%40|\N{FULLWIDTH COMMERCIAL AT}|\N{SMALL COMMERCIAL AT})"
_USER_INFO: Final = re.compile(rf"(?<=://)[^/\s]{{1,4096}}{_AT}", re.IGNORECASE)
_BARE_USER_INFO: Final = re.compile(
    rf"(?<![^\s'\"(=,])[^\s/@:'\"(=,]{{1,256}}:[^\s/'\",]{{1,256}}{_AT}", re.IGNORECASE
)
_BEFORE_HOST: Final = re.compile(rf"^.*{_AT}", re.DOTALL | re.IGNORECASE)
# What a URL carries behind its path may be a key or a token. A short number is none.
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[^\s'\"<>]{1,4096}", re.IGNORECASE)
_FIELD: Final = re.compile(r"([?&;#])([\w.~%-]{1,64}+=)?+(?!\d{1,6}(?![^&;#]))[^&;#]{1,4096}")
_QUERY: Final = re.compile(r"(?<=[?#]).*", re.DOTALL)
_PORT: Final = re.compile(r"(?<=[^:/]):(?!\d{1,9}(?:/|$))[^:/]{1,4096}")  # a password, if no number
LONGEST: Final = 4096


def clean(text: str, *, limit: int = LONGEST) -> str:
    """Return a text on one line in which every character is printable, cut at `limit`."""
    cut = text if len(text) <= limit else f"{text[:limit]}…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else _visible(char) for char in cut)


def printable_lines(text: str) -> str:
    """Return a text in which all but line ends and tabs is printable."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else _visible(char) for char in text
    )


def mask_user_info(text: str) -> str:
    """Return a text in which the secrets of each URL and of `user:password@` are masked.

    Those are the user info and what stands behind `?` and `#`.
    """
    masked = _BARE_USER_INFO.sub("***@", _USER_INFO.sub("***@", text))
    return _URL.sub(_mask_query, masked) if "://" in masked else masked


def mask_address(text: str) -> str:
    """Return an address or URL of which only scheme, host, port and path are shown."""
    shown = _QUERY.sub("***", _BEFORE_HOST.sub("***@", text))
    return shown if "[" in shown or "::" in shown else _PORT.sub(":***", shown)


def query(fields: Mapping[str, str]) -> str:
    """Return the query of a URL. Bytes of a command line that are not UTF-8 become `?`."""
    return urlencode(fields, errors="replace")


def _mask_query(found: re.Match[str]) -> str:
    return _FIELD.sub(r"\1\2***", found[0])


def _visible(char: str) -> str:
    """Return a character that is not printable as an escape."""
    if char in "\t\n\r":
        return " "
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - surrogates cannot be encoded
        return _REPLACEMENT
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the plane
