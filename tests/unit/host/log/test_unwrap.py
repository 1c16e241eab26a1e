# SPDX-License-Identifier: Apache-2.0
"""Lines of the server out of what containers, journals and collectors wrap around them."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.host.log.decorations import skip_decorations
from ollama_exporter.host.log.unwrap import LONGEST_JOINED, STREAMS, LineUnwrapper
from tests.support.growth import assert_linear

LINE = 'time=2026-11-23T20:04:20.331Z level=INFO source=x.go:1 msg="Listening on [::]:11434"'
DECORATIONS = [
    "Nov 23 20:04:20 host ollama[4711]: ",
    "Nov 23 20:04:20.331123 host ollama[4711]: ",
    "Nov 23 20:04:20 host ollama: ",
    "Mär 23 20:04:20 host ollama[4711]: ",
    "нояб. 23 20:04:20 host ollama[4711]: ",
    "11月 23 20:04:20 host ollama[4711]: ",
    "11월 23 20:04:20 host ollama[4711]: ",
    "23 nov. 20:04:20 host ollama[4711]: ",
    "Mo 23. Nov 20:04:20 host ollama[4711]: ",
    "Mon 2026-11-23 20:04:20 UTC host ollama[4711]: ",
    "[Mon Nov 23 20:04:20 2026] ",
    "2026-11-23T20:04:20+0000 host.example ollama[4711]: ",
    "2026-11-23T20:04:20.331123+00:00 host systemd[1]: ",
    "<30>Nov 23 20:04:20 host ollama[4711]: ",
    "<30>1 2026-11-23T20:04:20.331Z host ollama 4711 - - ",
    "<30>1 2026-11-23T20:04:20.331Z host ollama 4711 ID47 [a@1 b=c] ",
    "ollama[4711]: ",
    "ollama: ",
    "2026-11-23T20:04:20.331123456Z ",
    "2026-11-23 20:04:20 ",
    "2026-11-23 20:04:20,331 ",
    "2026/11/23 20:04:20 ",
    "[2026-11-23 20:04:20] ",
    "[2026-11-23T20:04:20Z] [stderr] ",
    "2026-11-23 20:04:20 | ",
    "20:04:20 ",
    "[20:04:20] ",
    "1795464260.331 ",
    "[1795464260] ",
    "@400000006742d1f41b2c3d4e ",
    "ollama-1  | ",
    "ollama-1  | 2026-11-23T20:04:20.331123Z ",
    "\x1b[36mollama-1  | \x1b[0m",
    "0|ollama  | ",
    "ollama.1.x7gk2l3m4n5@node1    | ",
    "2026-11-23T20:04:20.331123Z ollama.1.x7gk2l3m4n5@node1    | ",
    "[pod/ollama-6d5f8c/ollama] ",
    "[pod/ollama-6d5f8c/ollama] 2026-11-23T20:04:20.331123Z ",
    "ollama-6d5f8c ollama ",
    "stderr F ",
    "\ufeff",
]


@pytest.mark.parametrize("decoration", DECORATIONS)
def test_known_decorations_are_skipped(decoration: str) -> None:
    assert skip_decorations(decoration + LINE) == LINE


@pytest.mark.parametrize(
    "before",
    [
        "prompt: ",
        "say ",
        "the user wrote ",
        "> ",
        '"',
        "msg=",
        "x" * 1000 + " ",
        "a: b: c: ",
        "at 19:00 ",
        "at 19:00 I saw: ",
        "I have 2 cats ",
        "2026-11-23 19:00 I saw ",
        "the user wrote this on 2026-11-23: ",
        "10. the log says: ",
        "Please explain my ollama log: ",
        "prompt = 20:03 ",
        "why does llama.cpp print ",
    ],
)
def test_text_of_a_runner_is_no_decoration(before: str) -> None:
    assert skip_decorations(before + LINE) == before + LINE


def docker(log: str, stream: str = "stderr") -> bytes:
    entry = {"log": log, "stream": stream, "time": "2026-11-23T20:04:20.331123456Z"}
    return json.dumps(entry, separators=(",", ":")).encode()


def cri(text: str, tag: str = "F", stream: str = "stderr") -> bytes:
    return f"2026-11-23T20:04:20.331123456Z {stream} {tag} {text}".encode()


@pytest.mark.parametrize(
    "wrapped",
    [
        LINE.encode(),
        docker(LINE + "\n"),
        docker(LINE + "\r\n"),
        cri(LINE),
        cri(LINE).replace(b"Z stderr", b"+01:00 stderr"),
        cri(docker(LINE + "\n").decode()),
        docker(cri(LINE).decode() + "\n"),
        json.dumps({"message": LINE, "kubernetes": {"pod": "x"}}).encode(),
        json.dumps({"MESSAGE": LINE, "_PID": "1"}).encode(),
        json.dumps({"log": LINE, "stream": "stderr"}).encode(),
        docker(LINE + "\n").replace(b"}", b',"attrs":{"a":"b"}}'),
    ],
)
def test_wraps_are_taken_off(wrapped: bytes) -> None:
    assert LineUnwrapper().feed(wrapped) == LINE.encode()


def test_a_line_of_fields_is_written_as_text_and_other_json_is_left_as_it_is() -> None:
    fields = {"time": "2026-11-23 20:04:20", "level": "warn", "msg": "a b", "source": "s"}
    more = {"model": "m", "x=y": "z", "n": 3, "in": {"a": "b", "c": {"d": 1}}}
    written = b'time=2026-11-23T20:04:20 level=WARN msg="a b" model="m" n="3" in.a="b"'
    assert LineUnwrapper().feed(json.dumps(fields | more).encode()) == written
    assert LineUnwrapper().feed(b'{"a":1}') == b'{"a":1}'


def test_text_in_utf_16_is_read() -> None:
    unwrapper = LineUnwrapper()
    lines = ("\ufeff" + LINE + "\r\n" + LINE + "\r\n").encode("utf-16-le").split(b"\n")
    read = [(unwrapper.feed(line) or b"").decode().rstrip("\r") for line in lines[:2]]
    assert read == [LINE, LINE]


@given(st.lists(st.integers(1, len(LINE) - 1), max_size=5), st.booleans())
def test_parts_of_a_line_are_joined(cuts: list[int], is_docker: bool) -> None:  # noqa: FBT001 - a choice
    edges = [0, *sorted(cuts), len(LINE)]
    parts = [LINE[a:b] for a, b in pairwise(edges)]
    unwrapper = LineUnwrapper()
    got = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if is_docker:
            got.append(unwrapper.feed(docker(part + "\n" * last)))
        else:
            got.append(unwrapper.feed(cri(part, "F" if last else "P")))
        if not last:  # the other stream writes meanwhile
            other = docker("x\n", "stdout") if is_docker else cri("x", "F", "stdout")
            assert unwrapper.feed(other) == b"x"
    assert got == [None] * (len(parts) - 1) + [LINE.encode()]


def test_what_is_joined_has_bounds() -> None:
    unwrapper = LineUnwrapper()
    for _ in range(100):
        assert unwrapper.feed(cri("y" * 16384, "P")) is None
    whole = unwrapper.feed(cri("end"))
    assert whole is not None
    assert len(whole) == LONGEST_JOINED
    for number in range(10 * STREAMS):
        assert unwrapper.feed(docker("part", f"stream{number}")) is None
    assert unwrapper.feed(docker(" end\n", "stream0")) == b" end"  # the oldest was dropped


def test_of_a_cut_json_line_its_beginning_is_read() -> None:
    wrapped = docker(LINE + " " + "\\" * 9 + "x" * 500)
    for cut in (len(wrapped) - 200, len(wrapped) - 505):
        read = LineUnwrapper().feed(wrapped[:cut])
        assert read is not None
        assert read.startswith(LINE.encode())


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{}",
        b"{" * 200_000,
        b'{"a":' * 20_000,
        b'{"log":"\\ud83d","stream":"stderr","time":"x"}',
        b'{"log":5}',
        b'{"log":"\xff"}',
        b'{"log":"' + b"\\" * 1001,
        b'{"MESSAGE":[1,2,999]}',
        b'{"MESSAGE":[' + b"1," * 60_000 + b"1]}",
        b'{"MESSAGE":[[[]]]}',
        b'{"body":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"time":"\\u0000 x","level":"=","msg":"\\n time=1 level=INFO"}',
        b'{"time":1,"level":2,"msg":3}',
        b"\0" * 1000,
        b"2026-11-23T20:04:20Z stderr P",
        b"",
    ],
)
def test_odd_lines_are_no_errors(line: bytes) -> None:
    LineUnwrapper().feed(line)


@pytest.mark.parametrize(
    "unit",
    [
        b'{"log":"\\"',
        b'{"log":"',
        b"2026-11-23T20:04:20Z stderr P ",
        b"[2026-11-23 20:04:20] ",
        b"Nov 23 20:04:20 host ollama[1]: ",
        b"ollama-1  | ",
        b"a " * 7,
        b"\\",
        b"\0l",
        b'time="',
        b" time=",
        b"1:1 ",
        b"a ",
        b"\x1b[",
        b"\x1b[0m",
        b"[a=",
        b'a 1 {"',
        b'{"body":',
        b'{"msg":"a","level":"b","time":"c","d":{"e":"f"}}',
    ],
)
def test_time_grows_linearly(unit: bytes) -> None:
    def work(data: bytes) -> None:
        line = LineUnwrapper().feed(data)
        skip_decorations((line or b"").decode(errors="replace"))

    assert_linear(work, lambda size: (unit * (size // len(unit) + 1))[:size])


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(line: bytes) -> None:
    LineUnwrapper().feed(line)
    skip_decorations(line.decode(errors="replace"))


@given(st.integers(0, 200), st.integers(0, 300))
def test_cuts_of_wrapped_lines_are_no_errors(begin: int, end: int) -> None:
    for wrapped in (docker(LINE + "\n"), cri(LINE), docker(cri(LINE).decode())):
        LineUnwrapper().feed(wrapped[begin:end])
