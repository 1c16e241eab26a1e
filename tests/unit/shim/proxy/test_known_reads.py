# SPDX-License-Identifier: Apache-2.0
"""Bytes that were parsed before are not parsed again, and mean what they meant."""

from typing import Final

import pytest

from ollama_exporter.config.schema import Settings
from ollama_exporter.shim.proxy.build import limits_of
from ollama_exporter.shim.proxy.headers import RequestHead, RequestRejected
from ollama_exporter.shim.proxy.request_parser import RequestParser
from ollama_exporter.shim.proxy.response_parser import MALFORMED, KnownHeads, ResponseParser

POLL: Final = b"GET /api/ps HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nExpect: nothing\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nDate: Sun\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc"


class Heard:
    """Notes what a parser reports, and changes each head as a rewrite does."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.rejects = False

    def on_head_start(self) -> None:
        pass

    def on_request_start(self, request: RequestHead) -> None:
        self.seen.append((request.method, request.target, tuple(request.lines), *request.noted))
        if self.rejects:
            raise RequestRejected(403, "no")
        request.lines = []
        request.noted.clear()
        request.noted[b"content-length"] = b"7"
        request.keep_alive = False

    def on_request_body(self, _request: RequestHead, data: bytes) -> None:
        self.seen.append(data)

    def on_request_end(self, request: RequestHead) -> None:
        self.seen.append(request.is_complete)


def heard(*reads: bytes) -> list[object]:
    handler = Heard()
    parser = RequestParser(limits_of(Settings()), handler)
    for read in reads:
        parser.feed(read)
    return handler.seen


def test_the_same_read_is_the_same_request_whatever_became_of_the_one_before() -> None:
    once = heard(POLL)
    assert len(once) == 2
    assert heard(*[POLL] * 4) == once * 4


@pytest.mark.parametrize(
    "read",
    [
        POLL + POLL,
        POLL + b"\r\n",
        POLL.replace(b"GET /api/ps", b"POST /api/chat").replace(b"X-A: 1", b"Content-Length: 0"),
        POLL.replace(b"X-A: 1", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        POLL.replace(b"X-A: 1", b"Connection: Upgrade\r\nUpgrade: h2c"),
        POLL.replace(b"X-A: 1", b"Connection: Upgrade\r\nUpgrade: h2c") + b"\r\n",
        POLL.replace(b"X-A: 1", b"X-A: %s" % (b"1" * 2000)),
    ],
)
def test_other_reads_mean_each_time_what_they_mean_once(read: bytes) -> None:
    once = heard(read)
    expected = [*heard(POLL), *once, *heard(POLL), *once]
    assert heard(POLL, read, POLL, read, b"\r\n") == expected  # a blank line is no request


def test_the_known_bytes_inside_a_body_or_a_head_are_no_request() -> None:
    post = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(POLL)
    seen = heard(POLL, post, POLL, POLL)
    assert POLL in seen
    assert seen[-2:] == heard(POLL)
    chunked = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    seen = heard(POLL, chunked, b"%x\r\n" % len(POLL), POLL, b"\r\n0\r\n\r\n", POLL)
    assert POLL in seen
    assert seen[-2:] == heard(POLL)
    with pytest.raises(RequestRejected):
        heard(POLL, b"GET /api/ps HTTP/1.1\r\nHost: a\r\nX: ", POLL)


@pytest.mark.parametrize("change", [(b"1.1", b"1.0"), (b"X-A: 1", b"Connection: close")])
def test_nothing_follows_a_request_that_ends_the_connection(change: tuple[bytes, bytes]) -> None:
    last = POLL.replace(*change)
    assert len(heard(last)) == 2
    with pytest.raises(RequestRejected):
        heard(last, last)


def test_whether_a_request_may_pass_is_decided_each_time() -> None:
    handler = Heard()
    parser = RequestParser(limits_of(Settings()), handler)
    parser.feed(POLL)
    handler.rejects = True
    with pytest.raises(RequestRejected):
        parser.feed(POLL)
    assert handler.seen[-1] is not True


# -- responses -------------------------------------------------------------------------------------


class Answers:
    """Parses one response after another, as the requests of one client get them."""

    def __init__(self) -> None:
        self.known = KnownHeads(2)
        self.parser = ResponseParser(self.known)

    def read(self, *reads: bytes, method: bytes = b"GET") -> tuple[object, ...]:
        request = RequestHead(method, b"/", keep_alive=True, is_complete=True)
        self.parser.expect(request)
        parser, is_malformed = self.parser, False
        for read in reads:
            try:
                parser.feed_data(read) if parser.has_head else parser.feed_start(read)
            except MALFORMED:
                is_malformed = True
        body, is_over = parser.take_body(), parser.has_ended and parser.is_clean
        found = (parser.head_for_client(), body, parser.has_ended, parser.is_clean, is_malformed)
        if is_malformed or not is_over or method == b"HEAD":
            parser.drop_parser()
        return found


def test_a_known_head_means_what_it_meant() -> None:
    answers = Answers()
    first = answers.read(ANSWER)
    assert len(answers.known) == 1
    assert first[1:] == (b"abc", True, True, False)
    assert answers.read(ANSWER) == first
    other = answers.read(ANSWER.replace(b"abc", b"xyz"))
    assert (other[0], other[1]) == (first[0], b"xyz")


@pytest.mark.parametrize(
    ("reads", "method"),
    [
        ((ANSWER[:-1], ANSWER[-1:]), b"GET"),
        ((ANSWER[:-1],), b"GET"),
        ((ANSWER[:20], ANSWER[20:]), b"GET"),
        ((ANSWER + b"X",), b"GET"),
        ((ANSWER + ANSWER,), b"GET"),
        ((ANSWER,), b"HEAD"),
        ((ANSWER[:-3],), b"HEAD"),
        ((b"HTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER,), b"GET"),
        ((ANSWER.replace(b"Content-Length: 3", b"Connection: close"),), b"GET"),
    ],
)
def test_any_other_response_is_parsed(reads: tuple[bytes, ...], method: bytes) -> None:
    knowing = Answers()
    knowing.read(ANSWER)
    assert knowing.read(*reads, method=method) == Answers().read(*reads, method=method)
    assert knowing.read(ANSWER) == Answers().read(ANSWER)


def test_few_heads_are_remembered() -> None:
    answers = Answers()
    for day in range(5):
        answers.read(ANSWER.replace(b"Sun", b"%d" % day))
    answers.read(ANSWER.replace(b"Sun", b"x" * 2000))
    answers.read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert len(answers.known) == 2
