# SPDX-License-Identifier: Apache-2.0
"""Renewals against what a server may show between two looks."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_exporter.actions.renew import Renewal, renew, touch
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.wire import RunningModel

NOW = 1_800_000_000.0


def model(left: float, context: int | None = 4096, name: str = "a:latest") -> RunningModel:
    return RunningModel(name, "d" * 64, NOW + left, 10, 10, context)


class Scripted:
    """Answers one listing after another, the last one for ever, and notes what it is asked."""

    def __init__(self, *listings: Sequence[RunningModel], date: float | None = NOW) -> None:
        self.listings, self.date = list(listings), date
        self.asked: list[tuple[float | None, dict[str, Any]]] = []

    async def ps(self) -> PsAnswer:
        listing = self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
        return PsAnswer(tuple(listing), 200, self.date, None, new_connection=False, body=b"")

    async def preload(
        self,
        model: str,  # noqa: ARG002 - one only
        *,
        patience: float,  # noqa: ARG002 - it is quick
        keep_alive: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.asked.append((keep_alive, dict(options or {})))


def renewed(server: Scripted, keep_alive: float = 600.0, **changes: Any) -> Renewal:
    return asyncio.run(renew(server, "a", keep_alive, wall=lambda: NOW, **changes))


def test_a_shorter_one_is_replaced_with_the_listed_context() -> None:
    server = Scripted([model(100)], [model(100)], [model(300)], [model(600)])
    done = renewed(server)
    assert (done.outcome, done.keep_alive, done.left) == (RenewalOutcome.SET, 600.0, 600.0)
    assert server.asked == [(None, {"num_ctx": 4096}), (600.0, {"num_ctx": 4096})]


def test_other_options_that_are_known_are_carried() -> None:
    server = Scripted([model(100)], [model(100)], [model(300)], [model(600)])
    renewed(server, options=lambda context: {"num_ctx": context, "num_batch": 64})
    assert [options for _, options in server.asked] == [{"num_ctx": 4096, "num_batch": 64}] * 2


@pytest.mark.parametrize("known", [600.0, 602.0, 599.0, 7200.0])
def test_one_that_is_as_long_or_longer_stays(known: float) -> None:
    server = Scripted([model(100)], [model(100)], [model(known)])
    done = renewed(server)
    assert (done.outcome, done.keep_alive) == (RenewalOutcome.LONGER, known)
    assert [keep_alive for keep_alive, _ in server.asked] == [None]


def test_told_so_a_longer_one_is_replaced_as_well() -> None:
    server = Scripted([model(100)], [model(100)], [model(7200)], [model(600)])
    assert renewed(server, may_shorten=True).outcome is RenewalOutcome.SET
    server = Scripted([model(100)], [model(100)], [model(600)])
    assert renewed(server, may_shorten=True).outcome is RenewalOutcome.LONGER


def test_for_ever_needs_no_touch() -> None:
    server = Scripted([model(math.inf)])
    assert renewed(server).outcome is RenewalOutcome.LONGER
    assert server.asked == []


@pytest.mark.parametrize(
    "listings",
    [
        [[model(100)], [model(100.06)]],  # it slides
        [[model(-5)]],  # busy past its deadline
    ],
)
def test_one_in_use_is_not_even_touched(listings: list[list[RunningModel]]) -> None:
    server = Scripted(*listings)
    assert renewed(server).outcome is RenewalOutcome.BUSY
    assert server.asked == []


def test_one_whose_deadline_does_not_move_is_in_use() -> None:
    server = Scripted([model(100)])
    assert renewed(server).outcome is RenewalOutcome.BUSY
    assert [keep_alive for keep_alive, _ in server.asked] == [None]


def test_without_a_context_nothing_can_be_renewed() -> None:
    server = Scripted([model(100, None)])
    assert renewed(server).outcome is RenewalOutcome.UNKNOWN_CONTEXT
    assert server.asked == []


def test_what_leaves_meanwhile_is_absent() -> None:
    assert renewed(Scripted([])).outcome is RenewalOutcome.ABSENT
    assert renewed(Scripted([model(100)], [model(100)], [])).outcome is RenewalOutcome.ABSENT
    server = Scripted([model(100)], [model(100)], [model(300)], [])
    assert renewed(server).outcome is RenewalOutcome.ABSENT


def test_without_a_date_our_own_clock_serves() -> None:
    server = Scripted([model(100)], [model(100)], [model(300)], date=None)
    touched = asyncio.run(touch(server, "a", wall=lambda: NOW))
    assert touched.keep_alive == 300.0


@example(minutes=1, second=1.0 - 1e-16, back=0.0)
@given(
    minutes=st.integers(1, 1440),
    second=st.floats(0, 1, exclude_max=True),
    back=st.floats(0, 30, exclude_max=True),
)
def test_a_keep_alive_is_read_whatever_the_phase_of_the_second(
    minutes: int, second: float, back: float
) -> None:
    """The Date header rounds down, and a part of the keep-alive has passed at the listing."""
    keep_alive = minutes * 60.0
    clock = iter((0.0, back))
    server = Scripted([model(1)], [model(1)], [model(keep_alive + second - back)])
    touched = asyncio.run(touch(server, "a", wall=lambda: NOW, now=lambda: next(clock)))
    assert touched.keep_alive == pytest.approx(keep_alive)
