# SPDX-License-Identifier: Apache-2.0
"""Probes of URLs over real sockets: what may be reached, and everything that must not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import time

import httpx
import pytest

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ProbeRefusedError, TooManyTargetsError
from ollama_exporter.fleet.checked_address import NameResolver
from ollama_exporter.fleet.target_client import SharedByTargets
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.watched_fleet import MOST_FREE, WatchedFleet
from tests.support import faultserver as faults
from tests.support.exporting import Running, Samples, exporting, parsed, until
from tests.support.faultserver import entry, faultserver
from tests.support.patience import PATIENCE
from tests.support.rawserver import OK, answers, rawserver


async def probe(exporter: Running, target: str) -> httpx.Response:
    return await exporter.http.get("/probe", params={"target": target})


def test_an_allowed_url_is_polled_and_served_beside_the_only_server() -> None:
    async def main() -> None:
        async with faultserver() as own, faultserver() as other:
            other.models = [entry("mistral:latest", time() + 1000)]
            async with exporting(own.url, probe_allow=(f"127.0.0.1:{other.port}",)) as exporter:
                samples = await first_polled(exporter, other.url)
                assert samples["ollama_up", ""] == 1
                assert samples["ollama_model_loaded", "model=mistral:latest"] == 1
                polls = other.count("/api/ps")
                await until(lambda: other.count("/api/ps") > polls)  # it is polled from now on
                assert ("ollama_model_loaded", "model=mistral:latest") not in (
                    await exporter.samples()
                )
                again = parsed((await probe(exporter, other.url.upper() + "/")).text)
                assert again["ollama_polls_total", ""] > 1  # the same target, by another spelling

    asyncio.run(main())


async def first_polled(exporter: Running, target: str) -> Samples:
    """Probe until the first poll has ended: a probe waits for it for half a second only."""
    async with asyncio.timeout(PATIENCE):
        while True:
            samples = parsed((await probe(exporter, target)).text)
            if samples["ollama_polls_total", ""]:
                return samples


def attacks(port: int) -> Sequence[str]:
    """Return URLs that lead to a port of this machine, or would if they were read generously."""
    return [
        f"http://user:pw@127.0.0.1:{port}",
        f"http://allowed.test@127.0.0.1:{port}",
        f"http://127.0.0.1:{port}/api/ps",
        f"http://127.0.0.1:{port}?x=allowed.test",
        f"http://127.0.0.1:{port}#allowed.test",
        f"http://127.0.0.1:{port}\\@allowed.test",
        f"http://127.0.0.1.:{port}",
        f"http://localhost.:{port}",
        f"http://localhost:{port}",
        f"http://LOCALHOST:{port}",
        f"http://127.0.0.1:{port}",
        f"http://127.1:{port}",
        f"http://2130706433:{port}",
        f"http://0x7f000001:{port}",
        f"http://0177.0.0.1:{port}",
        f"http://0x7f.1:{port}",
        f"http://0.0.0.0:{port}",
        f"http://0:{port}",
        f"http://[::]:{port}",
        f"http://[::1]:{port}",
        f"http://[::ffff:127.0.0.1]:{port}",
        f"http://[::ffff:7f00:1]:{port}",
        f"http://[::127.0.0.1]:{port}",
        f"http://[64:ff9b::127.0.0.1]:{port}",
        f"http://[2002:7f00:1::]:{port}",
        f"http://[fe80::1%25lo]:{port}",
        f"http://①②⑦.0.0.1:{port}",
        f"http://127。0。0。1:{port}",
        f"http://allowed.test.127.0.0.1:{port}",
        f"https://127.0.0.1:{port}",
        f"ftp://127.0.0.1:{port}",
        f"gopher://127.0.0.1:{port}/_x",
        f"http://127.0.0.1:{port}\r\nHost: allowed.test",
        f"//127.0.0.1:{port}",
        "http://169.254.169.254",
        "http://169.254.169.254:80",
        "http://[::ffff:169.254.169.254]",
        "http://[fd00:ec2::254]",
        "http://metadata.google.internal.",
    ]


@pytest.mark.parametrize(
    "allow", [(), ("allowed.test:*", "*.allowed.test:*", "10.0.0.0/8:*", "[fd00::]/8:*")]
)
def test_nothing_that_is_not_allowed_is_ever_connected_to(allow: tuple[str, ...]) -> None:
    async def main() -> None:
        async with (
            rawserver(answers(OK)) as victim,
            faultserver() as own,
            exporting(own.url, probe_allow=allow) as exporter,
        ):
            for target in attacks(victim.port):
                answer = await probe(exporter, target)
                assert answer.status_code in (403, 404), (target, answer.text)
                assert "127.0.0.1" not in answer.text  # no echo
            assert victim.links == []
            samples = await exporter.samples()
            assert samples["ollama_exporter_probes_refused_total", ""] > 30

    asyncio.run(main())


def test_a_redirect_is_not_followed() -> None:
    async def main() -> None:
        async with rawserver(answers(OK)) as victim:
            moved = f"Location: {victim.url}/api/ps\r\n"
            behave = faults.answer(b"", status="302 Found", headers=moved)
            async with (
                faultserver(behave) as server,
                exporting(server.url, probe_allow=(f"127.0.0.1:{server.port}",)) as exporter,
            ):
                samples = await first_polled(exporter, server.url)
                assert samples["ollama_up", ""] == 0
                assert samples["ollama_poll_failures_total", "reason=status"] >= 1
            assert victim.links == []

    asyncio.run(main())


# -- names: the resolver is the attacker's ---------------------------------------------------------


class Names:
    """A resolver whose answers change."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


@asynccontextmanager
async def probing(
    names: Names, *allow: str, most_free: int = MOST_FREE
) -> AsyncIterator[WatchedFleet]:
    """Run a fleet without targets, with a resolver of the test's."""
    settings = Settings(poll_interval=0.05, probe_allow=allow)
    clients = SharedByTargets(PATIENCE, resolver=NameResolver(names))
    exporter = ExporterCollector(log_lines=LogCounter())
    fleet = WatchedFleet(settings, exporter, Timeline(), clients=clients, most_free=most_free)
    task = asyncio.create_task(fleet.run())
    try:
        yield fleet
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "answer",
    [["169.254.169.254"], ["127.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"],
     ["fe80::1"], [".".join("0000")], [], ["64:ff9b::7f00:1"], ["100.100.100.200"]],
)  # fmt: skip
def test_a_name_that_resolves_to_what_is_not_allowed_is_refused(answer: list[str]) -> None:
    async def main() -> None:
        async with rawserver(answers(OK)) as victim, probing(Names(answer), "gpu.test:*") as fleet:
            with pytest.raises(ProbeRefusedError):
                await fleet.find(f"http://gpu.test:{victim.port}")
            assert victim.links == []

    asyncio.run(main())


def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    """Each lookup after the first gives the victim: no later lookup may decide."""

    async def main() -> None:
        async with rawserver(answers(OK)) as victim, faultserver() as good:
            names = Names(["127.0.0.2"], ["127.0.0.1"])
            allow = f"127.0.0.2/32:{victim.port}"
            async with probing(names, allow, f"127.0.0.1/32:{good.port}") as fleet:
                url = f"http://gpu.test:{victim.port}"
                found = await fleet.find(url)
                await until(lambda: found.published().server.polls > 2)
                assert not found.published().server.up
                with pytest.raises(ProbeRefusedError):
                    await fleet.find(url)
            assert victim.links == []
            assert names.asked > 2

    asyncio.run(main())


def test_a_name_whose_answer_changes_is_refused_also_where_both_are_allowed() -> None:
    async def main() -> None:
        async with faultserver() as server:
            names = Names(["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"])
            async with probing(names, f"127.0.0.0/8:{server.port}") as fleet:
                url = f"http://gpu.test:{server.port}"
                found = await fleet.find(url)
                await until(lambda: found.published().server.up)
                await until(lambda: names.asked > 2 or names(url, 0))
                with pytest.raises(ProbeRefusedError, match="other addresses than before"):
                    await fleet.find(url)

    asyncio.run(main())


def test_a_list_that_shrinks_ends_what_it_allowed() -> None:
    async def main() -> None:
        async with faultserver() as server:
            allow = f"127.0.0.1:{server.port}"
            async with probing(Names([]), allow) as fleet:
                await fleet.find(server.url)
                fleet.allow(Settings(probe_allow=("127.0.0.1:1",)))
                with pytest.raises(ProbeRefusedError):
                    await fleet.find(server.url)
                fleet.allow(Settings())
                with pytest.raises(ProbeRefusedError, match="are off"):
                    await fleet.find(server.url)

    asyncio.run(main())


def test_free_targets_are_bounded() -> None:
    async def main() -> None:
        async with probing(Names([]), "127.0.0.0/8:*", most_free=3) as fleet:
            for number in range(3):
                await fleet.find(f"http://127.0.0.1:{number + 1}")
            with pytest.raises(TooManyTargetsError):
                await fleet.find("http://127.0.0.1:60000")

    asyncio.run(main())
