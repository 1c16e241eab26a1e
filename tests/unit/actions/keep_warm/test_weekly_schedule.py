# SPDX-License-Identifier: Apache-2.0
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from ollama_exporter.actions.keep_warm.weekly_schedule import schedule
from ollama_exporter.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = "Mon-Fri 08:00-18:00 Europe/Berlin"


def at(text: str, zone: ZoneInfo = BERLIN, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("written", "moment", "holds"),
    [
        (OFFICE, "2026-11-25T08:00", True),  # a Wednesday
        (OFFICE, "2026-11-25T07:59", False),
        (OFFICE, "2026-11-25T17:59", True),
        (OFFICE, "2026-11-25T18:00", False),
        (OFFICE, "2026-11-28T12:00", False),
        ("Sat,Mon 10:00-11:00 Europe/Berlin", "2026-11-28T10:30", True),
        ("Sun-Tue 10:00-11:00 Europe/Berlin", "2026-11-24T10:30", True),
        ("Sun-Tue 10:00-11:00 Europe/Berlin", "2026-11-25T10:30", False),
        ("00:00-24:00 Europe/Berlin", "2026-11-28T23:59", True),
        ("Fri 22:00-06:00 Europe/Berlin", "2026-11-27T23:00", True),
        ("Fri 22:00-06:00 Europe/Berlin", "2026-11-28T05:59", True),  # of Friday's window
        ("Fri 22:00-06:00 Europe/Berlin", "2026-11-28T06:00", False),
        ("Fri 22:00-06:00 Europe/Berlin", "2026-11-27T05:00", False),
    ],
)
def test_a_window_holds_by_the_clock_on_the_wall(written: str, moment: str, holds: bool) -> None:  # noqa: FBT001 - a column of the table
    assert schedule("s", written).contains(at(moment)) is holds


def test_a_zone_is_what_the_hours_are_read_in() -> None:
    moment = at("2026-07-01T08:30", ZoneInfo("UTC"))
    assert schedule("s", "08:00-09:00 UTC").contains(moment)
    assert schedule("s", "10:00-11:00 Europe/Berlin").contains(moment)


def test_an_hour_that_the_clock_skips_does_not_come() -> None:
    window = schedule("s", "02:00-03:00 Europe/Berlin")
    begin = at("2026-03-29T00:00")
    assert not any(window.contains(begin + 60 * minute) for minute in range(6 * 60))
    begin = at("2026-03-30T00:00")
    assert sum(window.contains(begin + 60 * minute) for minute in range(6 * 60)) == 60


def test_an_hour_that_comes_twice_holds_twice() -> None:
    window = schedule("s", "02:00-03:00 Europe/Berlin")
    assert window.contains(at("2026-10-25T02:30"))
    assert window.contains(at("2026-10-25T02:30", fold=1))
    begin = at("2026-10-25T00:00")
    assert sum(window.contains(begin + 60 * minute) for minute in range(6 * 60)) == 120


def test_several_windows_hold_each() -> None:
    both = schedule("s", ["Mon-Fri 08:00-12:00 UTC", "Mon-Fri 13:00-17:00 UTC"])
    utc = ZoneInfo("UTC")
    assert both.contains(at("2026-11-25T09:00", utc))
    assert not both.contains(at("2026-11-25T12:30", utc))
    assert both.contains(at("2026-11-25T13:00", utc))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Mon-Fri 08:00-18:00", "its time zone"),
        ("08:00-18:00", "its time zone"),
        ("Mon-Fri 08:00-18:00 Europe/Atlantis", "of the IANA database"),
        ("Mon-Fri 08:00-18:00 ../etc/passwd", "of the IANA database"),
        ("Mon-Fri 08:00-08:00 UTC", "00:00-24:00 is a whole day"),
        ("Mon-Fri 08:00-25:00 UTC", "00:00-24:00 is a whole day"),
        ("Mon-Fri 08:60-18:00 UTC", "00:00-24:00 is a whole day"),
        ("Mon-Fri 8-18 UTC", "hours are 08:00-18:00"),
        ("Mon-Fri UTC", "hours are 08:00-18:00"),
        ("Monday 08:00-18:00 UTC", "days are Mon to Sun"),
        ("Mon-Fri 08:00-18:00 UTC please", "must be days, hours and a time zone"),
        ("", "hours are"),
        ([], "must be days"),
        ([5], "must be days"),
        (5, "must be days"),
        (["Mon-Wed 08:00-18:00 UTC", "Wed 17:00-19:00 UTC"], "overlaps with another window"),
        (["Sun 22:00-02:00 UTC", "Mon 01:00-03:00 UTC"], "overlaps with another window"),
    ],
)
def test_what_is_no_schedule_is_said_in_one_line(written: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        schedule("keep-warm.models.m.schedule", written)
    assert str(caught.value).startswith("keep-warm.models.m.schedule: ")
    assert "\n" not in str(caught.value)
