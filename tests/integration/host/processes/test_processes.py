# SPDX-License-Identifier: Apache-2.0
"""The watcher on real processes: those of the simulated server, and no other test's."""

import asyncio
import os
import platform
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from ollama_exporter.host.processes.command_lines import weights_in
from ollama_exporter.host.processes.find_server import ServerAddress
from ollama_exporter.host.processes.pidfd import PidfdWatch
from ollama_exporter.host.processes.procfs import ProcFs
from ollama_exporter.host.processes.psutil_reader import PsutilReader
from ollama_exporter.host.processes.reader import Reader
from ollama_exporter.host.processes.watcher import ProcessWatcher
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import ProcessesSeen, ProcessExited, ProcessStarted
from ollama_exporter.simulator.process_manager import ProcessManager, runner_command
from tests.support.exporting import until
from tests.support.loops import LOOPS, run_on
from tests.support.machine import NoWeights, hexed
from tests.support.patience import PATIENCE
from tests.support.timelines import GivenTimeline

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="real processes need Linux")
Facts = list[Any]


def command(letter: str, generation: Any = "new") -> list[str]:
    """Return the command line of a runner of these weights."""
    return runner_command(generation, hexed(letter), 34000)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Yield a listening socket: who holds it is the server."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        yield sock


@dataclass(slots=True)
class Scene:
    """A watcher of real processes."""

    watcher: ProcessWatcher
    told: Facts = field(default_factory=list)
    clock_reads: list[float] = field(default_factory=list)

    async def scans(self) -> None:
        """Wait for some scans since the server was found. Each reads the clock."""
        await until(lambda: self.watcher.is_visible)
        target = len(self.clock_reads) + 8
        await until(lambda: len(self.clock_reads) >= target)

    async def another_born(self) -> None:
        """Wait for the birth of one more runner."""
        before = len(self.born())
        await until(lambda: len(self.born()) > before)

    def born(self) -> Facts:
        """Return the births of runners so far."""
        started = [x for x in self.told if isinstance(x, ProcessStarted)]
        return [fact for fact in started if fact.weights is not None]

    def servers(self) -> Facts:
        """Return the births of servers so far."""
        started = [x for x in self.told if isinstance(x, ProcessStarted)]
        return [fact for fact in started if fact.weights is None]

    def died(self) -> Facts:
        """Return the deaths so far."""
        return [fact for fact in self.told if isinstance(fact, ProcessExited)]


@asynccontextmanager
async def processes(listener: socket.socket) -> AsyncIterator[ProcessManager]:
    manager = await ProcessManager.start(listener.fileno())
    try:
        yield manager
    finally:
        await manager.stop("SIGKILL")


@asynccontextmanager
async def watching(
    listener: socket.socket, *, every: float = 0.02, reader: Reader | None = None
) -> AsyncIterator[Scene]:
    told: Facts = []
    clock_reads: list[float] = []

    def moment() -> float:
        clock_reads.append(time.time())
        return clock_reads[-1]

    watcher = ProcessWatcher(
        reader or ProcFs(time.time),
        ServerAddress("127.0.0.1", listener.getsockname()[1]),
        NoWeights(),
        reporter=Reporter(fact=cast("Any", told.append), error=pytest.fail),
        timeline=GivenTimeline(moment),
        up=lambda: True,
        every=every,
    )
    task = asyncio.create_task(watcher.run())
    try:
        yield Scene(watcher, told, clock_reads)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def runs_a_model(procfs: ProcFs, server: int) -> bool:
    children = map(procfs.process, procfs.children(server) or ())
    return any(weights_in(child.command) for child in children if child is not None)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Run on each kind of loop; no descriptor may be left by what watches."""

    def on_that_loop(story: Any) -> None:
        run_on(request.param, story)

    return on_that_loop


def test_our_own_server_is_found_and_its_runners_live_and_die(
    listener: socket.socket, run: Callable[[Any], None]
) -> None:
    async def story() -> None:
        async with processes(listener) as server, watching(listener) as scene:
            await until(lambda: scene.watcher.is_visible)
            first, second = scene.told[:2]
            assert isinstance(first, ProcessesSeen)
            assert (second.pid, second.weights) == (server.pid, None)
            assert 0 <= second.at - second.born < 10
            server.set_runners({1: command("a"), 2: command("b")})
            await until(lambda: len(scene.born()) == 2)
            assert {fact.weights for fact in scene.born()} == {hexed("a"), hexed("b")}
            server.set_runners({2: command("b")})
            await until(scene.died)
            (death,) = scene.died()
            assert death.pid == next(x.pid for x in scene.born() if x.weights == hexed("a"))
            assert death.alive is None
            used = scene.watcher.usage(scene.born()[1].pid)
            assert used is None or used.resident > 0

    run(story())


def test_a_death_is_known_without_a_scan(
    listener: socket.socket, run: Callable[[Any], None]
) -> None:
    async def story() -> None:
        async with processes(listener) as server:
            server.set_runners({1: command("a")})
            procfs = ProcFs(time.time)  # the only scan must find the runner
            await until(lambda: runs_a_model(procfs, server.pid))
            async with watching(listener, every=3600.0) as scene:
                await until(scene.born)
                os.kill(scene.born()[0].pid, signal.SIGKILL)
                await until(scene.died)

    run(story())


def test_a_server_that_is_killed_takes_its_runners_with_it_and_the_next_is_found(
    listener: socket.socket, run: Callable[[Any], None]
) -> None:
    async def story() -> None:
        server = await ProcessManager.start(listener.fileno())
        async with watching(listener) as scene:
            server.set_runners({1: command("a"), 2: command("b")})
            await until(lambda: len(scene.born()) == 2)
            await server.stop("SIGKILL")
            await until(lambda: len(scene.died()) == 3)
            async with processes(listener) as successor:  # within the same second
                await until(lambda: len(scene.servers()) == 2)
                assert scene.servers()[1].pid == successor.pid
                successor.set_runners({1: command("c")})
                await until(lambda: len(scene.born()) == 3)
            await until(lambda: len(scene.died()) == 5)
            assert [x for x in scene.told if isinstance(x, ProcessesSeen)] == scene.told[:1]

    run(story())


def test_a_zombie_is_dead(listener: socket.socket, run: Callable[[Any], None]) -> None:
    async def story() -> None:
        async with processes(listener) as server:
            server.set_runners({1: command("a")})
            async with watching(listener) as scene:
                await until(scene.born)
                pid = scene.born()[0].pid
                os.kill(server.pid, signal.SIGSTOP)  # so that nobody takes note of its end
                try:
                    os.kill(pid, signal.SIGKILL)
                    await until(scene.died)
                    assert Path(f"/proc/{pid}/stat").read_text("ascii").split()[2] == "Z"  # noqa: ASYNC240 - memory
                    await scene.scans()
                    assert len(scene.born()) == len(scene.died()) == 1
                finally:
                    os.kill(server.pid, signal.SIGCONT)
            async with watching(listener) as scene:  # and one that was dead before is never told
                await scene.scans()
                assert scene.born() == []

    run(story())


@pytest.mark.parametrize("kind", ["new", "old"])
def test_hundreds_of_births_and_deaths_leave_no_descriptor_and_no_wrong_fact(
    listener: socket.socket, kind: str
) -> None:
    """Those that die before they are seen are not told; those that are told die once."""

    async def story() -> None:
        before = open_descriptors()
        manager = await ProcessManager.start(listener.fileno())
        async with watching(listener, every=0.005) as scene:
            await until(lambda: scene.watcher.is_visible)
            for number in range(0, 400, 10):
                manager.set_runners(
                    {n: command("ab"[n % 2], kind) for n in range(number, number + 10)}
                )
                if number % 20:
                    await asyncio.sleep(0.012)
                else:  # one of them is told, however busy the machine is
                    await scene.another_born()
            manager.set_runners(
                {400: command("c")}
            )  # the last: whoever was before it is gone by then
            async with asyncio.timeout(PATIENCE):
                while not scene.born() or scene.born()[-1].weights != hexed("c"):  # noqa: ASYNC110 - hundreds take their time
                    await asyncio.sleep(0.05)
            manager.set_runners({})
            await until(lambda: len(scene.born()) == len(scene.died()))
            told = scene.told[2:]
        await manager.stop("SIGTERM")
        living: set[int] = set()
        for fact in told:
            if isinstance(fact, ProcessStarted):
                assert fact.pid not in living
                living.add(fact.pid)
            elif isinstance(fact, ProcessExited):
                living.remove(fact.pid)
        assert living == set()
        assert len(scene.born()) > 20
        await until(lambda: open_descriptors() <= before)

    asyncio.run(story())


def test_where_no_death_can_be_noticed_at_once_scans_find_it(listener: socket.socket) -> None:
    async def story() -> None:
        reader = ProcFs(time.time)
        reader.slow = True
        reader.pidfds = False
        async with processes(listener) as server, watching(listener, reader=reader) as scene:
            server.set_runners({1: command("a")})
            await until(scene.born)
            server.set_runners({})
            await until(scene.died)
            (death,) = scene.died()
            assert death.alive is not None
            assert scene.born()[0].at <= death.alive <= death.at

    asyncio.run(story())


def test_psutil_tells_the_same(listener: socket.socket) -> None:
    """The reader of Mac and Windows, on this system."""

    async def story() -> None:
        reader = PsutilReader(GivenTimeline(time.time))
        async with processes(listener) as server, watching(listener, reader=reader) as scene:
            server.set_runners({1: command("a")})
            await until(scene.born)
            assert scene.told[1].pid == server.pid
            assert abs(scene.told[1].born - time.time()) < 30
            pid = scene.born()[0].pid
            used = scene.watcher.usage(pid)
            assert used is not None
            assert used.resident > 0
            server.set_runners({})
            await until(scene.died)
            assert scene.died()[0].pid == pid
            assert scene.watcher.usage(pid) is None

    asyncio.run(story())


def test_psutil_finds_nothing_where_nothing_is() -> None:
    reader = PsutilReader(GivenTimeline(time.time))
    nobody = 2**22 + 5
    assert reader.process(nobody) is None
    assert reader.children(nobody) is None
    assert reader.is_listening(nobody, "127.0.0.1", 1) is None
    assert reader.why_hidden() is None


def test_another_server_is_left_alone(listener: socket.socket) -> None:
    """As many tests run at once as there are cores, each with a server of its own."""

    async def story() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as other:
            async with processes(other), watching(listener) as scene:
                await until(lambda: scene.told)
                assert scene.told == [ProcessesSeen(scene.told[0].at, seen=False)]

    asyncio.run(story())


def test_a_sandbox_that_forbids_descriptors_of_processes_leaves_scans() -> None:
    pidfds = PidfdWatch(possible=False)
    pidfds.open(os.getpid())
    assert not pidfds.is_open(os.getpid())
    assert not pidfds.has_exited(os.getpid())
    pidfds.close(os.getpid())


def test_who_is_gone_already_is_not_held() -> None:
    async def story() -> None:
        pidfds = PidfdWatch()
        pidfds.open(2**22 + 5)  # beyond every pid
        assert not pidfds.is_open(2**22 + 5)
        pidfds.open(os.getpid())
        pidfds.open(os.getpid())
        assert not pidfds.has_exited(os.getpid())
        pidfds.close_all()
        assert not pidfds.is_open(os.getpid())

    asyncio.run(story())
