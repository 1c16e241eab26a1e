# SPDX-License-Identifier: Apache-2.0
"""The watcher on a machine of values. Scans find deaths there, as on Mac and Windows."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ollama_exporter.host.processes.find_server import ServerAddress
from ollama_exporter.host.processes.watcher import (
    FIRST_PAUSE,
    NOT_FOUND_YET,
    PATIENCE,
    ProcessWatcher,
)
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import (
    ProcessesScanned,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
)
from tests.support.exporting import Records, same_logger, until
from tests.support.machine import FakeMachine, NoWeights, hexed, process, runner
from tests.support.timelines import GivenTimeline

SERVER = process(100)
SEEN = ProcessesSeen(0.0, seen=True)


class Lookup(NoWeights):
    """A lookup that knows what a test says."""

    weights: frozenset[str] = frozenset()

    def resident_weights(self) -> frozenset[str]:
        """Return it."""
        return self.weights


@dataclass(slots=True)
class Scene:
    """A watcher at work, and what it told."""

    machine: FakeMachine
    log: Records
    told: list[Any] = field(default_factory=list)
    scanned: list[ProcessesScanned] = field(default_factory=list)
    now: float = 0.0
    up: bool = True
    lookup: Lookup = field(default_factory=Lookup)
    defects: int = 0
    clock_reads: int = 0
    watcher: ProcessWatcher | None = None

    def tell(self, fact: Any) -> None:
        """Keep a fact; completed scans are counted."""
        if isinstance(fact, ProcessesScanned):
            self.scanned.append(fact)
        else:
            self.told.append(fact)

    def facts(self) -> list[Any]:
        """Return and clear what was reported since the last call."""
        told, self.told[:] = list(self.told), []
        return told

    async def scans(self, times: int = 3) -> list[Any]:
        """Wait for so many scans; return what was told. Each reads the clock four times at most."""
        target = self.clock_reads + 4 * (times + 1)
        await until(lambda: self.clock_reads >= target)
        return self.facts()

    def moment(self) -> float:
        """Return the moment."""
        self.clock_reads += 1
        return self.now


def defect(scene: Scene) -> None:
    scene.defects += 1


@asynccontextmanager
async def watching(machine: FakeMachine, **changes: Any) -> AsyncIterator[Scene]:
    with same_logger() as logger:
        log = Records()
        logger.setLevel(logging.INFO)
        logger.addHandler(log)
        scene = Scene(machine, log, **changes)
        watcher = scene.watcher = ProcessWatcher(
            machine,
            ServerAddress("127.0.0.1", 11434),
            scene.lookup,
            reporter=Reporter(fact=scene.tell, error=lambda: defect(scene)),
            timeline=GivenTimeline(scene.moment),
            up=lambda: scene.up,
            every=0.003,
        )
        task = asyncio.create_task(watcher.run())
        try:
            yield scene
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def reasons(scene: Scene) -> list[str]:
    return [str(vars(r).get("why", r.getMessage())) for r in scene.log.records]


def run(story: Callable[[], Any]) -> None:
    asyncio.run(story())


def serving(*children: Any) -> FakeMachine:
    machine = FakeMachine(listening={100: True})
    machine.add(SERVER, *children)
    return machine


def test_after_that_they_are_seen_everybody_is_told_with_the_same_moment() -> None:
    async def story() -> None:
        async with watching(serving(process(101, runner("a"), parent=100)), now=50.0) as scene:
            await until(lambda: len(scene.told) == 3)
            assert scene.told == [
                ProcessesSeen(50.0, seen=True),
                ProcessStarted(50.0, 1.0, 100, None),
                ProcessStarted(50.0, 1.0, 101, hexed("a")),
            ]
            assert reasons(scene) == ["Watching processes"]

    run(story)


def test_births_and_deaths_are_told_once() -> None:
    async def story() -> None:
        machine = serving()
        async with watching(machine) as scene:
            await until(lambda: len(scene.told) == 2)
            scene.facts()
            scene.now = 10.0
            machine.add(process(101, runner("a"), start=9.5, parent=100))
            await until(lambda: scene.told)
            assert await scene.scans() == [ProcessStarted(10.0, 9.5, 101, hexed("a"))]
            scene.now = 20.0
            await scene.scans()
            scene.now = 21.0
            del machine.living[101]
            await until(lambda: scene.told)
            assert await scene.scans() == [ProcessExited(21.0, 101, alive=20.0)]

    run(story)


def test_a_pid_that_is_used_again_between_two_scans_is_noticed() -> None:
    async def story() -> None:
        machine = serving(process(101, runner("a"), start=2.0, parent=100))
        async with watching(machine) as scene:
            await until(lambda: len(scene.told) == 3)
            scene.facts()
            machine.add(process(101, runner("b"), start=8.0, parent=100))
            await until(lambda: len(scene.told) == 2)
            assert [type(fact) for fact in scene.told] == [ProcessExited, ProcessStarted]
            assert scene.told[1].weights == hexed("b")

    run(story)


def test_the_next_life_of_the_server_is_found() -> None:
    async def story() -> None:
        machine = serving(process(101, runner("a"), parent=100))
        async with watching(machine) as scene:
            await until(lambda: len(scene.told) == 3)
            scene.facts()
            machine.living = {200: process(200, start=5.0)}
            machine.listening = {200: True}
            scene.now = 5.0
            await until(lambda: len(scene.told) == 3)
            told = scene.facts()
            assert {(type(fact), fact.pid) for fact in told[:2]} == {
                (ProcessExited, 100),
                (ProcessExited, 101),
            }
            assert told[2] == ProcessStarted(5.0, 5.0, 200, None)

    run(story)


def test_a_server_that_answers_and_is_not_to_be_seen_is_said_once() -> None:
    async def story() -> None:
        machine = FakeMachine(hidden="a wall")
        async with watching(machine) as scene:
            await until(lambda: scene.told)
            scene.now = 1000.0
            assert await scene.scans(10) == [ProcessesSeen(0.0, seen=False)]
            assert reasons(scene) == ["a wall"]
            assert scene.watcher is not None
            assert scene.watcher.why_not == "a wall"

    run(story)


def test_nothing_is_said_of_a_server_that_is_down() -> None:
    async def story() -> None:
        machine = FakeMachine()
        async with watching(machine, up=False) as scene:
            assert await scene.scans(10) == []
            assert reasons(scene) == []
            assert scene.watcher is not None
            assert scene.watcher.why_not == NOT_FOUND_YET
            machine.add(SERVER)
            machine.listening[100] = True
            scene.up = True  # only now: it is looked for at once, however long it was down
            await until(lambda: scene.told)
            assert scene.told[0] == SEEN
            assert not scene.watcher.why_not

    run(story)


def test_when_it_answers_on_and_is_not_found_again_sight_is_lost_and_comes_back() -> None:
    async def story() -> None:
        machine = serving(process(101, runner("a"), start=2.0, parent=100))
        async with watching(machine) as scene:
            await until(lambda: len(scene.told) == 3)
            scene.facts()
            del machine.living[100]
            await until(lambda: scene.told)
            assert [type(fact) for fact in await scene.scans()] == [ProcessExited]
            scene.now += 2.0
            assert await scene.scans() == []
            scene.now += PATIENCE
            await until(lambda: scene.told)
            assert scene.facts() == [ProcessesSeen(scene.now, seen=False)]
            machine.add(process(300, start=9.0), process(301, runner("b"), parent=300))
            machine.listening[300] = True
            scene.now += 100.0
            await until(lambda: len(scene.told) == 3)
            assert [type(f) for f in scene.told] == [ProcessesSeen, ProcessStarted, ProcessStarted]
            assert len(reasons(scene)) == 3

    run(story)


def test_of_several_servers_the_names_of_weights_tell() -> None:
    async def story() -> None:
        machine = FakeMachine(listening={100: None, 200: None})
        machine.add(SERVER, process(200), process(201, runner("b"), parent=200))
        async with watching(machine) as scene:
            assert scene.watcher is not None
            await asyncio.wait_for(scene.lookup.started.wait(), PATIENCE)
            assert not scene.watcher.is_visible
            scene.lookup.weights = frozenset({hexed("b")})
            scene.now = 10.0
            await until(lambda: scene.watcher is not None and scene.watcher.is_visible)
            assert scene.told[-1].pid == 201

    run(story)


def test_what_a_runner_uses_is_read_of_that_very_process() -> None:
    async def story() -> None:
        machine = serving(process(101, runner("a"), start=2.0, parent=100))
        async with watching(machine) as scene:
            assert scene.watcher is not None
            await until(lambda: len(scene.told) == 3)
            used = scene.watcher.usage(101)
            assert used is not None
            assert used.resident == 1000
            assert scene.watcher.usage(999) is None

    run(story)


@dataclass(slots=True)
class Broken(FakeMachine):
    """Fails once."""

    error: Exception = field(default_factory=RuntimeError)  # what no reader may raise

    def children(self, pid: int) -> Iterable[int] | None:
        if self.hidden is None:
            self.hidden = "failed"
            raise self.error
        return super(Broken, self).children(pid)  # a slotted dataclass is made twice


def test_an_internal_error_loses_sight_for_a_moment_and_the_watch_goes_on() -> None:
    async def story() -> None:
        machine = Broken(listening={100: True})
        machine.add(SERVER)
        async with watching(machine) as scene:
            await until(lambda: scene.log.count("Failed to watch processes"))
            assert scene.defects == 1
            assert scene.facts()[-1] == ProcessesSeen(0.0, seen=False)
            scene.now += FIRST_PAUSE
            await until(lambda: scene.told)
            assert scene.told[0] == ProcessesSeen(FIRST_PAUSE, seen=True)

    run(story)


def test_out_of_files_is_a_line_and_no_defect() -> None:
    async def story() -> None:
        machine = Broken(listening={100: True}, error=OSError(errno.EMFILE, "Too many open files"))
        machine.add(SERVER)
        async with watching(machine) as scene:
            await until(lambda: scene.log.count("Processes cannot be watched"))
            assert scene.defects == 0
            assert scene.log.count("Failed to watch processes") == 0
            assert scene.facts()[-1] == ProcessesSeen(0.0, seen=False)
            scene.now += FIRST_PAUSE
            await until(lambda: scene.told)
            assert scene.told[0] == ProcessesSeen(FIRST_PAUSE, seen=True)

    run(story)
