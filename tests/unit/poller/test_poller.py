# SPDX-License-Identifier: Apache-2.0
"""The poller on virtual time, with a client that answers from a list."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.poller.poll_schedule import AFTER_REQUEST, Cadence
from ollama_exporter.poller.poller import INVENTORY_INTERVAL, SCRAPE_WAIT, Poller, Sinks
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.residency.events import Event, Evidence, Found, Reason, Unloaded, View
from ollama_exporter.residency.facts import Fact, ProcessesScanned, RequestAnswered, RequestStarted
from ollama_exporter.residency.tracker import Tracker
from tests.support.timelines import GivenTimeline
from tests.support.virtual import now, run_virtually


@dataclass(slots=True)
class Listed:
    """A client; `takes`: seconds of one answer; `fault`: raised instead of an answer."""

    takes: float = 0.0
    fault: Exception | None = None
    inventory_fault: Exception | None = None
    models: tuple[RunningModel, ...] = ()
    polls: list[float] = field(default_factory=list)
    inventories: list[float] = field(default_factory=list)
    known_version: str = "0.33.0"
    at_once: int = 0

    async def ps(self) -> PsAnswer:
        """Answer."""
        self.polls.append(now())
        self.at_once += 1
        assert self.at_once == 1
        await asyncio.sleep(self.takes)
        self.at_once -= 1
        if self.fault is not None:
            raise self.fault
        return PsAnswer(self.models, 200, None, None, len(self.polls) == 1, b"")

    async def version(self) -> str:
        """Answer."""
        self.inventories.append(now())
        if self.inventory_fault is not None:
            raise self.inventory_fault
        return self.known_version

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Answer."""
        return (InstalledModel("a:latest", "ab", 7, remote=False),)


def poller(
    client: Listed,
    sinks: Sinks | None = None,
    *,
    cadence: Callable[[], Cadence] = lambda: Cadence(10.0),
) -> Poller:
    return Poller(
        client,
        Tracker(window=60.0),
        cadence,
        sinks or Sinks(),
        timeline=GivenTimeline(now, ahead=1000.0),
        jitter=lambda: 0.0,
    )


async def for_a_while(polling: Poller, seconds: float) -> None:
    task = asyncio.create_task(polling.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


LISTED = RunningModel("a:latest", "ab", 900.0, 7, 7, 4096)
REFUSED = TargetError(FailureReason.REFUSED, "refused")


def test_polls_come_at_the_interval_from_start_to_start() -> None:
    async def main() -> None:
        client = Listed(takes=3.0)
        polling = poller(client)
        await for_a_while(polling, 35)
        assert client.polls == [0, 10, 20, 30]
        assert polling.is_up()
        assert polling.published().server.last_duration == 3
        assert polling.published().server.last_success == 1033

    run_virtually(main())


def test_failures_back_off_up_to_the_interval_and_are_counted_by_reason() -> None:
    async def main() -> None:
        client = Listed(fault=REFUSED)
        polling = poller(client)
        await for_a_while(polling, 25)
        assert client.polls == [0, 2, 6, 14, 24]
        assert polling.published().server.failures == {FailureReason.REFUSED: 5}
        assert not polling.is_up()
        assert polling.published().server.last_success is None
        assert client.inventories == []

    run_virtually(main())


def test_an_unforeseen_exception_is_a_counted_failure_and_the_polls_go_on() -> None:
    async def main() -> None:
        errors: list[None] = []
        client = Listed(fault=RuntimeError("a defect"))
        polling = poller(client, Sinks(errors=lambda: errors.append(None)))
        await polling.poll()
        assert polling.published().server.failures == {FailureReason.MALFORMED: 1}
        assert len(errors) == 1
        client.fault = None
        await polling.poll()
        assert polling.is_up()

    run_virtually(main())


@pytest.mark.parametrize("sink", ["on_poll", "on_change"])
def test_a_raising_sink_is_counted_and_the_polls_go_on(sink: str) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(sink)

    async def main() -> None:
        errors: list[None] = []
        sinks = Sinks(errors=lambda: errors.append(None))
        getattr(sinks, sink).append(broken)
        client = Listed()
        await for_a_while(poller(client, sinks), 25)
        assert client.polls == [0, 10, 20]
        assert len(errors) == 3

    run_virtually(main())


def test_a_raising_sink_costs_no_other_sink_and_no_other_event() -> None:
    async def main() -> None:
        errors: list[None] = []
        heard: list[str] = []
        sinks = Sinks(errors=lambda: errors.append(None))

        def broken(event: Event) -> None:
            raise RuntimeError(event)

        def broken_change(events: tuple[Event, ...], _: View) -> None:
            raise RuntimeError(events)

        def hear(event: Event) -> None:
            assert isinstance(event, Found)
            heard.append(event.model.name)

        sinks.on_event += [broken, hear]
        sinks.on_change += [broken_change, lambda events, _: heard.append(f"{len(events)} events")]
        client = Listed(models=(LISTED, replace(LISTED, name="b:latest")))
        await poller(client, sinks).poll()
        assert heard == ["a:latest", "b:latest", "2 events"]
        assert len(errors) == 3

    run_virtually(main())


def test_a_raising_sink_of_the_inventory_costs_no_other_sink() -> None:
    async def main() -> None:
        errors: list[None] = []
        heard: list[int] = []
        sinks = Sinks(errors=lambda: errors.append(None))

        def broken(installed: tuple[InstalledModel, ...]) -> None:
            raise RuntimeError(installed)

        sinks.on_installed += [broken, lambda installed: heard.append(len(installed))]
        polling = poller(Listed(), sinks)
        await for_a_while(polling, 1)
        assert (heard, len(errors), polling.published().server.version) == ([1], 1, "0.33.0")

    run_virtually(main())


def test_callers_join_the_poll_under_way() -> None:
    async def main() -> None:
        client = Listed(takes=1.0)
        polling = poller(client)
        await asyncio.gather(polling.poll(), polling.poll(), polling.poll())
        assert client.polls == [0]

    run_virtually(main())


@pytest.mark.parametrize(("takes", "waited"), [(0.2, 0.2), (5.0, SCRAPE_WAIT)])
def test_a_scrape_waits_for_a_poll_but_not_long(takes: float, waited: float) -> None:
    async def main() -> None:
        client = Listed(takes=takes)
        polling = poller(client)
        await asyncio.gather(polling.refresh(), polling.refresh())
        assert now() == pytest.approx(waited)
        assert client.polls == [0]
        await asyncio.sleep(takes)

    run_virtually(main())


def test_a_scrape_polls_only_if_the_last_poll_is_not_fresh() -> None:
    async def main() -> None:
        client = Listed()
        polling = poller(client)
        for _ in range(7):
            await polling.refresh()
            await asyncio.sleep(1)
        assert client.polls == [0, 5]

    run_virtually(main())


def test_a_fact_brings_the_next_poll_forward() -> None:
    async def main() -> None:
        client = Listed()
        polling = poller(client)
        task = asyncio.create_task(polling.run())
        await asyncio.sleep(4)
        polling.on_fact(RequestStarted(now(), 1, "a:latest", stop=True))
        await asyncio.sleep(2)
        assert client.polls == [0, pytest.approx(4 + AFTER_REQUEST)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(main())


def test_what_happened_before_the_end_of_a_poll_is_processed_before_it() -> None:
    async def main() -> None:
        model = replace(LISTED, expires_at=300.0)
        client, unloads, sinks = Listed(models=(model,)), list[Unloaded](), Sinks()
        sinks.on_event.append(lambda e: unloads.append(e) if isinstance(e, Unloaded) else None)
        polling = poller(client, sinks)
        await polling.poll()
        await asyncio.sleep(5)
        client.models = ()
        stop = RequestStarted(5.0, 1, "a:latest", keep_alive=0.0, stop=True)
        sinks.catch_up.append(lambda: polling.on_fact(stop))  # it waited for its turn
        await polling.poll()
        assert [(e.reason, e.evidence) for e in unloads] == [
            (Reason.STOPPED, (Evidence.STOP_CALL,))
        ]

    run_virtually(main())


def test_a_scan_that_settles_nothing_publishes_nothing() -> None:
    async def main() -> None:
        polling = poller(Listed())
        await polling.poll()
        published = polling.published()
        for _ in range(5):
            polling.on_fact(ProcessesScanned(now(), now()))
            await asyncio.sleep(1)
        assert polling.published() is published

    run_virtually(main())


@pytest.mark.parametrize(("answered", "polls"), [(None, [0, 5 + AFTER_REQUEST]), (4.9, [0])])
def test_a_request_that_waits_for_a_listed_model_is_looked_after(
    answered: float | None, polls: list[float]
) -> None:
    async def main() -> None:
        client = Listed()
        client.models = (LISTED,)
        polling = poller(client)
        task = asyncio.create_task(polling.run())
        await asyncio.sleep(4)
        polling.on_fact(RequestStarted(now(), 1, "a:latest"))
        await asyncio.sleep(0.9)
        if answered is not None:
            polling.on_fact(RequestAnswered(now(), 1))
        await asyncio.sleep(2)
        assert client.polls == [pytest.approx(at) for at in polls]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(main())


def test_a_shorter_interval_counts_at_once() -> None:
    async def main() -> None:
        client, intervals = Listed(), [100.0]
        polling = poller(client, cadence=lambda: Cadence(intervals[0]))
        task = asyncio.create_task(polling.run())
        await asyncio.sleep(4)
        intervals[0] = 10.0
        polling.reschedule()
        await asyncio.sleep(7)
        assert client.polls == [0, 10]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(main())


def test_version_and_installed_models_are_asked_for_rarely() -> None:
    async def main() -> None:
        client = Listed()
        polling = poller(client)
        await for_a_while(polling, 2 * INVENTORY_INTERVAL + 5)
        assert client.inventories == [0, INVENTORY_INTERVAL, 2 * INVENTORY_INTERVAL]
        assert polling.published().server.version == "0.33.0"
        assert polling.published().server.installed == (("a:latest", 7),)

    run_virtually(main())


@pytest.mark.parametrize("fault", [REFUSED, RuntimeError("a defect")])
def test_a_failed_inventory_is_tried_again_soon_and_harms_no_poll(fault: Exception) -> None:
    async def main() -> None:
        client = Listed(inventory_fault=fault)
        polling = poller(client)
        task = asyncio.create_task(polling.run())
        await asyncio.sleep(1)
        client.inventory_fault = None
        await asyncio.sleep(INVENTORY_INTERVAL / 2)
        assert polling.published().server.version == "0.33.0"
        assert len(client.inventories) == 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(main())


def test_nothing_is_asked_of_a_server_that_is_down() -> None:
    async def main() -> None:
        client = Listed()
        polling = poller(client)
        task = asyncio.create_task(polling.run())
        await asyncio.sleep(1)
        client.fault = REFUSED
        await asyncio.sleep(2 * INVENTORY_INTERVAL)
        assert client.inventories == [0]
        client.fault = None
        await asyncio.sleep(20)
        assert len(client.inventories) == 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(main())


def test_a_poll_that_is_cancelled_with_its_poller_ends() -> None:
    async def main() -> None:
        polling = poller(Listed(takes=1000.0))
        await for_a_while(polling, 1)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(main())


def test_the_log_says_which_server_does_not_answer_and_masks_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        client = Listed(fault=TargetError(FailureReason.REFUSED, "refused \x1b]0;own\x07"))
        polling = Poller(
            client,
            Tracker(window=60.0),
            lambda: Cadence(10.0),
            Sinks(),
            timeline=GivenTimeline(now),
            jitter=lambda: 0.0,
            url="http://ops:secret@box:11434",
        )
        await polling.poll()
        client.fault = None
        await polling.poll()

    with caplog.at_level("INFO"):
        run_virtually(main())
    down, up = (r for r in caplog.records if r.getMessage().startswith("Server "))
    said = vars(down)
    assert (said["url"], said["reason"]) == ("http://***@box:11434", "refused")
    assert "--ollama.url" in said["hint"]
    assert said["err"].isprintable()
    assert vars(up)["url"] == "http://***@box:11434"


def test_a_version_of_any_length_is_a_short_label() -> None:
    async def main() -> None:
        polling = poller(Listed(known_version="9\x1b[31m" * 30_000))
        await for_a_while(polling, 1)
        version = polling.published().server.version
        assert version is not None
        assert len(version) < 200
        assert version.isprintable()

    run_virtually(main())


class Defective(Tracker):
    """A tracker that raises now and then."""

    broken = True

    def observe(self, fact: Fact) -> tuple[Event, ...]:
        if self.broken:
            raise ZeroDivisionError("a defect of ours")
        return super().observe(fact)


def test_a_defect_of_the_tracker_is_counted_and_the_polls_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[int] = []

    async def main() -> None:
        client, tracker = Listed(models=(LISTED,)), Defective(window=60.0)
        polling = Poller(
            client,
            tracker,
            lambda: Cadence(10.0),
            Sinks(errors=lambda: errors.append(1)),
            timeline=GivenTimeline(now, ahead=1000.0),
            jitter=lambda: 0.0,
        )
        await for_a_while(polling, 25)
        assert (len(client.polls), polling.is_up()) == (3, True)
        assert polling.published().view.models == ()
        tracker.broken = False
        await for_a_while(polling, 15)
        assert [state.name for state in polling.published().view.models] == ["a:latest"]

    run_virtually(main())
    assert len(errors) >= 3
    assert "Tracker failed to process a fact" in caplog.text
