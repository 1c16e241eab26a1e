# SPDX-License-Identifier: Apache-2.0
"""Weekly windows such as `Mon-Fri 08:00-18:00 Europe/Berlin`, in the local time of a zone.

An hour that the local clock skips is not in the window, and one that it repeats is in it twice. A
window past midnight belongs to the day on which it begins.
"""

import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from ollama_exporter.errors import ConfigError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY: Final = 24 * 60  # minutes
WEEK: Final = 7 * DAY
TIMES: Final = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
EXAMPLE: Final = "Mon-Fri 08:00-18:00 Europe/Berlin"
FORM: Final = f"accepted: days, hours and a time zone, such as {EXAMPLE}"


class Window(Struct, frozen=True):
    """Days on which it begins (0: Monday), and minutes of the day. `end` may be past 24:00."""

    days: frozenset[int]
    begin: int
    end: int
    zone: str

    def contains(self, at: float) -> bool:
        """Return whether a time, in Unix seconds, is in the window."""
        local = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        if local.weekday() in self.days and self.begin <= minute < self.end:
            return True
        before = (local.weekday() - 1) % 7
        return before in self.days and minute + DAY < self.end


class Schedule(Struct, frozen=True):
    """All windows of a model. `text`: as the operator wrote them."""

    windows: tuple[Window, ...]
    text: str

    def contains(self, at: float) -> bool:
        """Return whether a time, in Unix seconds, is in one of the windows."""
        return any(window.contains(at) for window in self.windows)


def schedule(name: str, value: object) -> Schedule:
    """Parse one window or a list of windows. Raises ConfigError."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise ConfigError(name, value, FORM)
    windows = [_window(name, text) for text in texts]
    owners: dict[tuple[str, int], int] = {}  # zone and minute of its week -> index of the window
    for index, window in enumerate(windows):
        for minute in _minutes(window):
            if owners.setdefault((window.zone, minute), index) != index:
                raise ConfigError(name, texts[index], "overlaps with another window of the model")
    return Schedule(tuple(windows), "; ".join(map(str, texts)))


def _minutes(window: Window) -> set[int]:
    return {
        (day * DAY + minute) % WEEK
        for day in window.days
        for minute in range(window.begin, window.end)
    }


def _window(name: str, text: object) -> Window:
    if not isinstance(text, str):
        raise ConfigError(name, text, FORM)
    words = text.split()
    days = frozenset(range(7))
    if words and not words[0][0].isdigit():
        days = _days(name, text, words.pop(0))
    begin, end = _hours(name, text, words.pop(0) if words else "")
    if not words:
        raise ConfigError(
            name, text, f"accepted: a window with its time zone at the end, such as {EXAMPLE}"
        )
    if len(words) > 1:
        raise ConfigError(name, text, FORM)
    return Window(days, begin, end, _zone(name, words[0]))


def _days(name: str, text: str, word: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ConfigError(name, text, f"{FORM}; days are Mon to Sun, Mon-Fri or Mon,Wed")
        low, high = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(low, high + 1 if high >= low else high + 8)}
    return frozenset(found)


def _hours(name: str, text: str, word: str) -> tuple[int, int]:
    match = TIMES.fullmatch(word)
    if match is None:
        raise ConfigError(name, text, f"{FORM}; hours are 08:00-18:00")
    hours = [int(match[1]), int(match[3])]
    minutes = [int(match[2]), int(match[4])]
    begin, end = (hour * 60 + minute for hour, minute in zip(hours, minutes, strict=True))
    if max(minutes) >= 60 or begin >= DAY or end > DAY or begin == end:  # noqa: PLR2004 - minutes of an hour
        raise ConfigError(name, text, f"{FORM}; 00:00-24:00 is a whole day")
    return begin, end if end > begin else end + DAY


def _zone(name: str, word: str) -> str:
    try:
        ZoneInfo(word)
    except (KeyError, ValueError, OSError) as err:  # unknown; ../etc; a folder
        accepted = "a time zone of the IANA database, such as Europe/Berlin or UTC"
        raise ConfigError(name, word, accepted) from err
    return word
