# SPDX-License-Identifier: Apache-2.0
"""Tells whether what stands before a line of a log was put there by a program. Pure.

Journals, supervisors, containers and collectors write dates, hosts, pods, programs, pids, levels
and brackets before a line, in any order and language. So the rule is not a list of formats: it
looks at the kinds of words. The output of a runner may contain anything, even a line of a log that
a user has pasted, so prose must not pass.
"""

import re
from typing import Final

LONGEST_DECORATION: Final = 512  # characters
LONGEST_COLOURED: Final = 16 * 1024  # characters in which colours are looked for
MOST_WORDS: Final = 4  # plain ones: a weekday and a month, a host, a program
MOST_WORDS_AFTER: Final = 2
STARTS: Final = ("time=", "ts=")

_COLOUR: Final = re.compile(r"\x1b\[[\d;]{0,16}m")
_START: Final = re.compile(r"(?<![\w.])(?:time|ts)=(?=\S)")
# Labels and structured data in brackets may contain anything; a field of the journal is no word.
_SET_ASIDE: Final = re.compile(
    r"\{[^{}]{0,256}\}|\[[^\[\]=]{0,64}=[^\[\]]{0,256}\]|(?<!\S)MESSAGE=(?=$|\s)"
)
_TOKEN: Final = re.compile(r"""[^\s\[\](){}<>|'\u203a]+""")  # the last is stern's arrow
_CLOCK: Final = re.compile(r"\d\d?:\d\d")
_DATE: Final = re.compile(r"\d{1,4}[-/.]\d\d?[-/.]\d{1,4}|\d{9}|\d\.\d{3}|@[0-9a-f]{16}")
_NEUTRAL: Final = re.compile(
    r"(?:trace|debu?g|info|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|default|stdout|stderr|"
    r"am|pm|a\.m\.|p\.m\.|[FP])$",
    re.IGNORECASE,
)
_ZONE: Final = re.compile(r"[A-Z]{1,5}$|[A-Z]\w{1,20}/\w{1,20}$")
_ENDS: Final = tuple(":]|>)},\u203a")


def skip_decorations(text: str) -> str:
    """Return a line of the server without what stands before it; other lines as they are."""
    if "\x1b" in text[:LONGEST_COLOURED]:
        text = _COLOUR.sub("", text[:LONGEST_COLOURED]) + text[LONGEST_COLOURED:]
    if text.startswith(STARTS):
        return text
    found = _START.search(text, 0, LONGEST_DECORATION + len(STARTS[0]))
    if found is None or not is_decoration(text[: found.start()]):
        return text
    return text[found.start() :]


def is_decoration(before: str) -> bool:
    """Return whether a program, and not a person, wrote this before a line."""
    before = _SET_ASIDE.sub(" ", before.removeprefix("\ufeff"))
    if "=" in before or '"' in before:
        return False
    tokens = [x for x in (t.strip(":,;-*#·") for t in _TOKEN.findall(before)) if x]
    if not tokens:
        return not before.strip()
    kinds = "".join(map(_kind, tokens))
    stamp = min((at for at in map(kinds.find, "cdp") if at >= 0), default=-1)
    if stamp < 0:  # only levels, and the program's own name with its pid
        return "w" not in kinds and ("n" not in kinds or "o" in kinds)
    return _has_few_words(kinds, tokens, stamp=stamp, closed=before.rstrip().endswith(_ENDS))


def _has_few_words(kinds: str, tokens: list[str], *, stamp: int, closed: bool) -> bool:
    """Return whether the plain words are no more than those of a date, a host and a program."""
    first, last = kinds[:stamp].count("w"), kinds[stamp:]
    if first and kinds[stamp] == "c" and "n" not in kinds[:stamp]:
        return False  # "at 19:00": a name of a month has a day beside it
    if first > (1 if kinds[stamp] in "dp" else 3):
        return False
    after = sum(
        kind == "w" and not ("c" in kinds[: stamp + at] and _ZONE.match(tokens[stamp + at]))
        for at, kind in enumerate(last)
    )
    date = _words_of_a_date(last)
    if first + after > MOST_WORDS or after - date > MOST_WORDS_AFTER:
        return False
    return closed or last[-1] != "w" or after == date or (after == 1 and kinds[stamp] == "p")


def _words_of_a_date(kinds: str) -> int:
    """Return how many words belong to a date that begins with its day, before its time."""
    return kinds[: kinds.index("c")].count("w") if "c" in kinds else 0


def _kind(token: str) -> str:
    """Return what a word is.

    `c`: a time of day, `d`: a date or a number that is a moment, `p`: a pod or a path, `o`: the
    program itself, ` `: a level, a stream or the like, `n`: another one with a digit, `w`: a word.
    """
    if _CLOCK.search(token):
        return "c"
    if _DATE.search(token):
        return "d"
    has_digit = any(letter.isdigit() for letter in token)
    if has_digit and any(mark in token for mark in "-/@"):
        return "p"
    if "ollama" in token.lower():
        return "o"
    if has_digit:
        return "n"
    return " " if _NEUTRAL.match(token) else "w"
