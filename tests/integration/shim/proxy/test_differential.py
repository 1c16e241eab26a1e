# SPDX-License-Identifier: Apache-2.0
"""The same bytes to the proxy and to nginx: what nginx calls malformed is not sent on by us, and
what both send on has one meaning.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from tests.support.nginx import nginx, unix_caller
from tests.support.oddities import BROKEN, CHUNKED, FORWARDED, POST, REFUSED, SMUGGLED
from tests.support.proxying import proxied
from tests.support.rawserver import OK, Link, RawServer, answers, caller, rawserver
from tests.support.wire import Malformed, Message, read_answer, read_request

LANES: Final = 16  # at once
MUTANTS: Final = 640
# Seconds without a byte after which no more is coming; longer ones where the two seem to differ,
# for nothing tells that a busy machine has not yet let one of them say its word.
QUIET: Final = (0.03, 0.3, 3.0)
# What nginx refuses by rules of its own, not as malformed; here the server decides.
OWN_RULES: Final = {
    "an empty Host is valid (RFC 9112 3.2)": rb"\r\nhost:[ \t]*\r\n",
    "a tab around a value is white space (RFC 9110 5.6.3)": (
        rb"(?:content-length|host|transfer-encoding):[^\r]*\t"
    ),
    "no OPTIONS *": rb"\* HTTP",
    "no method TRACE": rb"TRACE ",
    "an authority may have these (RFC 3986 3.2.2)": rb"https?://[^ /?#]*[!$&'()*+,;=]",
    "it decodes paths, for its files": rb"%(?![0-9a-fA-F]{2})|%00|\.\.",
}
OWN_RULE: Final = re.compile(b"|".join(OWN_RULES.values()), re.IGNORECASE)
SEEDS: Final = [
    *(wire for wire, _ in FORWARDED.values()),
    POST + b"Content-Length: 5\r\n\r\nabcde" + SMUGGLED,
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
]
MATERIAL: Final = [
    *(bytes([byte]) for byte in b"\r\n\t \0:,;+-0159axAX/?#%\"'\\\x0b\x0c\x7f\x80\xff"),
    *(b"\r\n", b"\n\r", b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n", b"0x", b", ", b" ,", b"HTTP/1.0"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"chunked"),
    *(b"Connection: close\r\n", b"Transfer-Encoding: identity\r\n", b"Expect: 100-continue\r\n"),
    *(b"Connection: content-length, host\r\n", b"GET ", b"identity", b"Content-Length:"),
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a proxy made of some bytes."""

    statuses: tuple[int, ...]  # of its answers
    meanings: tuple[tuple[bytes, bytes, bytes, tuple[tuple[bytes, bytes], ...]], ...]
    torn: bytes  # what the server got beyond complete requests
    unreadable: bool  # what the server got can be read in more than one way

    @property
    def refused(self) -> bool:
        """Whether the first thing it said was that the request is malformed."""
        return bool(self.statuses) and self.statuses[0] in {400, 501, 505}


def meaning(request: Message) -> tuple[bytes, bytes, bytes, tuple[tuple[bytes, bytes], ...]]:
    method, target, _ = request.first.split(b" ")
    fields = (f for f in request.fields if f[0].lower().startswith(b"x-"))
    return method, target, request.body, tuple(sorted(fields))


def outcome(server: RawServer, client: Link, kept: list[int]) -> Outcome:
    """Read what both sides got; `kept`: bytes that each connection of the server had before."""
    statuses, rest = [], client.rest
    while rest and (answer := read_answer(rest, closed=True)) is not None:
        statuses.append(answer.status)
        rest = rest[len(answer.raw) :]
    meanings, torn, unreadable = [], b"", False
    for number, link in enumerate(server.links):
        wire = bytes(link.received[kept[number] if number < len(kept) else 0 :])
        while wire:
            try:
                request = read_request(wire)
            except Malformed:
                unreadable = True
                break
            if request is None:
                torn += wire
                break
            meanings.append(meaning(request))
            wire = wire[len(request.raw) :]
    return Outcome(tuple(statuses), tuple(meanings), torn, unreadable)


@dataclass(slots=True)
class Lane:
    """A server behind the proxy, another one behind nginx."""

    ours: RawServer
    theirs: RawServer
    port: int
    socket: Path

    async def both(self, wire: bytes, quiet: float) -> tuple[Outcome, Outcome]:
        """Send the same bytes to both."""
        async with caller(self.port) as one, unix_caller(self.socket) as other:
            return await asyncio.gather(
                told(self.ours, one, wire, quiet), told(self.theirs, other, wire, quiet)
            )


async def told(server: RawServer, client: Link, wire: bytes, quiet: float) -> Outcome:
    """Send bytes to a proxy, and wait until nothing comes any more."""
    kept = [len(link.received) for link in server.links]  # its connections serve many cases
    client.send(wire)
    before = (-1, -1)
    while client.end is None and before != (now := (len(client.received), len(server.received))):
        before = now
        await asyncio.sleep(quiet)
    return outcome(server, client, kept)


async def unless_malformed(link: Link) -> None:
    """Answer; what cannot be read is judged where it is compared."""
    with suppress(Malformed):
        await answers(OK)(link)


@asynccontextmanager
async def lanes(here: Path, count: int) -> AsyncIterator[list[Lane]]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        script = unless_malformed
        behind = [await enter(rawserver(script)) for _ in range(count)]
        sockets = await enter(nginx(here, [server.url for server in behind]))
        ours = [await enter(rawserver(script)) for _ in range(count)]
        ports = [(await enter(proxied(server.url))).port for server in ours]
        yield [Lane(*lane) for lane in zip(ours, behind, ports, sockets, strict=True)]


def differences(wire: bytes, ours: Outcome, theirs: Outcome) -> Iterator[str]:
    """Tell what is wrong."""
    if ours.unreadable:
        yield "the proxy sends on what is malformed"
    if theirs.unreadable:
        return
    own_rule = OWN_RULE.search(wire) is not None
    if theirs.refused and ours.meanings and not own_rule:
        yield "nginx refuses it, the proxy sends it on"
    for mine, other in zip(ours.meanings, theirs.meanings, strict=False):
        if mine[:3] != other[:3]:
            yield "two meanings"
        # nginx passes what Connection names; RFC 9110 7.6.1 has it dropped
        lost = set(other[3]) - set(mine[3]) if b"onnection" not in wire else set()
        if lost or not set(mine[3]) <= set(other[3]):
            yield "other fields"
    if theirs.meanings and len(ours.meanings) > len(theirs.meanings) and not own_rule:
        yield "the proxy sends on more requests than nginx"


def differs(wire: bytes, ours: Outcome, theirs: Outcome) -> str:
    """Return the first difference; empty: there is none."""
    return next(differences(wire, ours, theirs), "")


async def compared(lane: Lane, wires: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return what was found, one line each."""
    found = []
    for name, wire in wires:
        for quiet in QUIET:
            ours, theirs = await lane.both(wire, quiet)
            difference = differs(wire, ours, theirs)
            if not difference:
                break
        else:
            found.append(f"{difference}: {name} {wire!r}\n  ours {ours}\n  nginx {theirs}")
    return found


def mutants(seed: int) -> Iterator[tuple[str, bytes]]:
    """Make requests with one, two or three odd places."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    while True:
        wire = bytearray(chance.choice(SEEDS))
        for _ in range(chance.choice([1, 1, 2, 3])):
            at = chance.randrange(len(wire))
            gone = chance.choice([0, 0, 1, 2, 4])
            wire[at : at + gone] = chance.choice([b"", *MATERIAL])
        yield f"mutant of seed {seed}", bytes(wire)


def check_all(here: Path, wires: Iterable[tuple[str, bytes]]) -> None:
    async def check() -> list[str]:
        each = list(wires)
        async with lanes(here, LANES) as running:
            shares = [each[number::LANES] for number in range(LANES)]
            found = await asyncio.gather(*map(compared, running, shares))
        return [line for lines in found for line in lines]

    found = asyncio.run(check())
    assert not found, "\n".join(found)


def test_known_oddities_mean_the_same_to_nginx(tmp_path: Path) -> None:
    known = {
        **{name: wire for name, (_, wire) in REFUSED.items()},
        **BROKEN,
        **{name: wire for name, (wire, _) in FORWARDED.items()},
    }
    check_all(tmp_path, known.items())


@pytest.mark.parametrize("seed", [20261124])
def test_what_is_mutated_means_the_same_to_nginx(tmp_path: Path, seed: int) -> None:
    check_all(tmp_path, islice(mutants(seed), MUTANTS))
