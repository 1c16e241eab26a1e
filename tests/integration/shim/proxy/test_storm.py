# SPDX-License-Identifier: Apache-2.0
"""Everything at once: clients that leave, stall, pipeline and break off, a server that fails.

Each answer that comes is the one that was asked for, and when all is over nothing is left behind.
"""

import asyncio
import random
from collections import Counter
from typing import Final

import pytest

from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import Clock, Proxied, limits_with, proxied
from tests.support.rawserver import Link, caller, rawserver
from tests.support.wire import Message

CLIENTS: Final = 40
REQUESTS: Final = 15  # of each
LIMITS: Final = limits_with(
    idle_timeout=1.0, head_timeout=1.0, silence_timeout=1.0, shutdown_timeout=1.0
)
PATHS: Final = ("/api/generate", "/api/chat", "/v1/chat/completions", "/api/tags", "/x")


def wire(chance: random.Random, number: int) -> bytes:
    """Make a request that carries its number in its body."""
    body = b'{"model":"m","number":%d,"pad":"%b"}' % (number, b"x" * chance.choice([0, 9, 5000]))
    head = f"POST {chance.choice(PATHS)}?n={number} HTTP/1.1\r\nHost: x\r\n".encode()
    if chance.random() < 0.5:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:half], body[half:]))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def text(request: Message) -> bytes:
    """What the server says: the request's number, thrice."""
    return request.target.partition(b"?n=")[2] * 3 + b"\n"


async def moody(link: Link, chance: random.Random) -> None:
    """Answer in one of many ways, not all of them good."""
    while (request := await link.request()) is not None:
        said = text(request)
        match chance.randrange(12):
            case 0:
                return link.reset()
            case 1:
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + said)
                return link.close()
            case 2:
                link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12")
                await asyncio.sleep(0.002)
                return link.reset()
            case 3:
                link.send(b"HTTP/1.1 200 OK\r\n\r\n" + said)
                return link.close()
            case 4:
                length = len(said)
                link.send(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length
                )
                await asyncio.sleep(0.002)
                link.send(said)
                return link.close()
            case 5 | 6 | 7:
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
            case _:
                link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for piece in (said[:1], said[1:]):
                    await asyncio.sleep(0.001)
                    link.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                link.send(b"0\r\n\r\n")
    return None


async def behave(proxy: Proxied, chance: random.Random, first: int, seen: Counter[str]) -> None:
    """Play one client, over as many connections as it takes."""
    number = first
    while number < first + REQUESTS:
        async with caller(proxy.port) as client:
            mood = chance.choice(["leaves", "half", "pipelines", "asks", "asks", "asks", "cut"])
            if mood == "half":
                client.send(wire(chance, number)[: chance.randrange(1, 60)])
                await asyncio.sleep(0.002)
                number += 1
            elif mood == "cut":
                client.send(wire(chance, number) * 2 + b"\x01\x02 bad\r\n\r\n")
                await asyncio.sleep(chance.random() * 0.01)
                client.reset()
                number += 1
            elif mood == "leaves":
                client.send(wire(chance, number))
                await asyncio.sleep(chance.random() * 0.01)
                number += 1
            else:
                count = 3 if mood == "pipelines" else 1
                numbers = range(number, number + count)
                number += count
                client.send(b"".join(wire(chance, n) for n in numbers))
                for n in numbers:
                    seen[mood_of(await answered(client), n)] += 1
            seen[mood] += 1


async def answered(client: Link) -> Message | None:
    """Take an answer; None: it broke off, or the connection did before it."""
    try:
        return await client.answer()
    except AssertionError:
        return None


def flying(proxy: Proxied) -> list[float]:
    """Return how many requests are under way, by route."""
    return [n for (name, _), n in proxy.samples().items() if name == "ollama_requests_in_flight"]


def mood_of(answer: Message | None, number: int) -> str:
    if answer is None:
        return "broken"
    if answer.status == 502:
        return "502"
    assert answer.status == 200, answer
    assert answer.body == b"%d" % number * 3 + b"\n", (number, answer)
    return "good"


@pytest.mark.parametrize("seed", range(3))
def test_each_client_gets_its_own_answers_and_nothing_is_left(run: Run, seed: int) -> None:
    async def check() -> None:
        chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
        seen: Counter[str] = Counter()
        async with (
            rawserver(lambda link: moody(link, chance)) as server,
            proxied(server.url, limits=LIMITS, clock=Clock()) as proxy,
        ):
            clients = [
                behave(proxy, random.Random(seed * 100 + n), n * 1000, seen)  # noqa: S311 - as above
                for n in range(CLIENTS)
            ]
            await asyncio.gather(*clients)
            await until(lambda: not proxy.proxy.connection_count)
            assert proxy.errors == []
            await until(lambda: not any(flying(proxy)))
            assert flying(proxy)
            assert seen["good"] > CLIENTS
            assert seen["502"] > 0
            assert seen["broken"] > 0
            # what is left open to the server is idle, and closed in its time
            await proxy.advance(LIMITS.idle_timeout * 2)
            await until(lambda: all(link.end for link in server.links))

    run(check())
