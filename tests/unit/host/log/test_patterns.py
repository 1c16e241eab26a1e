# SPDX-License-Identifier: Apache-2.0
"""Lines of the server's log, as they were written by two generations of it."""

import math
from pathlib import Path

import pytest

from ollama_exporter.host.log.patterns import LONGEST_LINE, PATTERNS, LogLine, read
from ollama_exporter.residency.facts import LogKind, LogSaid
from tests.support.growth import assert_linear
from tests.support.paths import DATA

LOGS = DATA / "logs"
WEIGHTS = "sha256-" + "0123456789abcdef" * 4
BLOB = f"/var/lib/ollama/models/blobs/{WEIGHTS}"
RUNNER = (
    "runner.name=registry.ollama.ai/library/mistral:latest "
    'runner.inference="[{ID:0 Library:CUDA}]" runner.size="5.9 GiB" runner.parallel=1 '
    f"runner.pid=4711 runner.model={BLOB} runner.num_ctx=8192"
)


def line(message: str, rest: str = "", *, level: str = "DEBUG") -> LogLine:
    text = f"time=2026-11-23T20:04:20.331Z level={level} source=sched.go:453 msg={message} {rest}"
    found = read(text.rstrip() + "\n")
    assert found is not None
    return found


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda path: path.stem)
def test_every_line_of_a_real_log_is_read_and_those_of_others_are_none(log: Path) -> None:
    for text in log.read_text(encoding="utf-8").splitlines():
        found = read(text)
        assert (found is None) == text.startswith("[GIN]")
        assert found is None or (found.written is not None and found.level in text.lower())


def test_each_pattern_is_seen_in_a_real_log_or_says_where_it_was_read() -> None:
    lines = [
        text for log in LOGS.glob("*.log") for text in log.read_text(encoding="utf-8").splitlines()
    ]
    for pattern in PATTERNS:
        from_source = all("source" in version for version in pattern.seen)
        found = any(f"msg={pattern.message}" in x.replace('msg="', "msg=") for x in lines)
        assert found != from_source, pattern


def test_the_default_level_names_no_runner() -> None:
    for log in LOGS.glob("*-info.log"):
        found = [read(text) for text in log.read_text(encoding="utf-8").splitlines()]
        assert all(x is None or x.level != "debug" for x in found)
        assert not any(x and x.pid for x in found)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("reloading", LogKind.RELOADING),
        ('"resetting model to expire immediately to make room"', LogKind.EVICTING),
        ('"timer expired, expiring to unload"', LogKind.TIMER_EXPIRED),
        ('"runner with zero duration has gone idle, expiring to unload"', LogKind.IDLE_AT_ZERO),
        ('"runner terminated and removed from list, blocking for VRAM"', LogKind.REMOVED),
        ('"finished setting up"', LogKind.SET_UP),
    ],
)
def test_a_decision_names_its_runner(message: str, kind: LogKind) -> None:
    found = line(message, RUNNER)
    assert (found.kind, found.model, found.weights) == (kind, "mistral:latest", WEIGHTS)
    assert (found.pid, found.num_ctx) == (4711, 8192)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("5m0s", 300.0), ("1h30m0s", 5400.0), ("2562047h47m16.854775807s", math.inf)],
)
def test_going_idle_tells_the_keep_alive(duration: str, seconds: float) -> None:
    message = '"runner with non-zero duration has gone idle, adding timer"'
    assert line(message, f"{RUNNER} duration={duration}").seconds == seconds
    assert line(message, f"{RUNNER} duration=soon").seconds is None


def test_a_load_names_its_weights_and_the_context_of_one_slot() -> None:
    command = f'cmd="/usr/lib/ollama/llama-server --model {BLOB} --port 1 -c 32768 -np 4 -b 512"'
    found = line('"starting llama-server"', command, level="INFO")
    assert (found.kind, found.weights, found.num_ctx) == (LogKind.LOAD_STARTED, WEIGHTS, 8192)
    old = line('"starting runner"', f'cmd="/usr/ollama runner --model {BLOB} --port 3"')
    assert (old.kind, old.weights, old.num_ctx) == (LogKind.LOAD_STARTED, WEIGHTS, None)


def test_a_runner_without_a_model_is_the_discovery_of_devices() -> None:
    assert line('"starting runner"', 'cmd="/usr/ollama runner --port 3"').kind is None


def test_a_load_is_done_in_so_many_seconds() -> None:
    assert line('"llama-server started in 2.28 seconds"').seconds == 2.28
    assert line('"llama runner started in 61 seconds"').seconds == 61.0


def test_the_server_s_own_kill_is_no_death_by_itself() -> None:
    own = line('"llama-server terminated"', 'error="signal: killed" exit=unknown', level="ERROR")
    crash = line('"llama-server terminated"', 'error="exit status 6" exit=6', level="ERROR")
    assert (own.kind, crash.kind) == (None, LogKind.RUNNER_DIED)


def test_what_a_journal_or_a_container_puts_before_a_line_is_skipped() -> None:
    text = f"time=2026-11-23T20:04:20.331Z level=DEBUG source=x.go:1 msg=reloading {RUNNER}"
    found = read("Nov 23 20:04:20 host ollama[4711]: " + text)
    assert found is not None
    assert found.kind is LogKind.RELOADING


@pytest.mark.parametrize(
    "written",
    [
        "level=INFO {time} source=x.go:1 {msg}",
        "{msg} level=INFO {time} source=x.go:1",
        "app=ollama host=gpu-1 {time} level=INFO source=x.go:1 {msg} pod=a",
        "caller=x.go:1 lvl=INFO {msg} ts=2026-11-23T20:04:20Z",
    ],
)
def test_keys_in_another_order_are_read(written: str) -> None:
    text = written.format(time="time=2026-11-23T20:04:20Z", msg='msg="Listening on [::]:11434"')
    line = read(text)
    assert line is not None
    assert line.kind is LogKind.SERVER_STARTED
    assert line.written == 1795464260.0


@pytest.mark.parametrize(
    "text",
    [
        'level=INFO msg="Listening on [::]:11434"',
        'time=2026-11-23T20:04:20Z I wrote level=INFO source=x msg="Listening on [::]:11434"',
        'say level=INFO time=2026-11-23T20:04:20Z source=x msg="Listening on [::]:11434"',
        'msg="Listening on level=INFO time=2026-11-23T20:04:20Z source=x',
    ],
)
def test_keys_among_other_text_are_no_line_of_the_server(text: str) -> None:
    line = read(text)
    assert line is None or line.kind is None


@pytest.mark.parametrize(
    ("message", "rest", "kind"),
    [
        ('"starting llama server"', f'cmd="/usr/bin/ollama runner --model {BLOB}"', "LOAD_STARTED"),
        ('"llama runner started in 2.51 seconds"', "", "LOAD_DONE"),
        ('"error loading llama server"', 'error="llama runner process has"', "LOAD_FAILED"),
        ('"client connection closed before server finished loading"', "", "LOAD_FAILED"),
        ('"model requires more memory than is currently available"', "", "ROOM_WANTED"),
        ('"model requires more system memory than is currently"', "", "ROOM_WANTED"),
        ('"runner released"', f"modelPath={BLOB}", "REMOVED"),
        ('"finished setting up runner"', f"model={BLOB}", "SET_UP"),
        (
            '"runner with non-zero duration has gone idle, adding timer"',
            f"modelPath={BLOB}",
            "IDLE",
        ),
        ('"llama-server process no longer running"', 'sys=139 string="signal: "', "RUNNER_DIED"),
    ],
)
def test_wordings_of_other_versions_are_known(message: str, rest: str, kind: str) -> None:
    assert line(message, rest).kind is LogKind[kind]


@pytest.mark.parametrize(
    ("message", "rest"),
    [
        ('"llama runner terminated"', 'error="exit status 2"'),
        ('"post predict"', 'error="Post \\"http://127.0.0.1:43/completion\\": EOF"'),
        ('"chat prompt error"', 'error="POST predict: Post \\"http://127.0.0.1:4/x\\": EOF"'),
        ('"embedding failed"', 'error="do embedding request: Post \\"x\\": connection refused"'),
        ('"an unknown error was encountered while running the model "', ""),
        ('"llama-server completion error"', 'error="read: connection reset by peer"'),
        ('"post predict"', 'error="wsarecv: … was forcibly closed by the remote host."'),
    ],
)
def test_crashes_are_known_by_their_wordings(message: str, rest: str) -> None:
    assert line(message, rest, level="ERROR").kind is LogKind.RUNNER_DIED


@pytest.mark.parametrize(
    ("message", "rest"),
    [
        ('"llama runner terminated"', 'error="signal: killed"'),
        ('"post predict"', 'error="context canceled"'),
        ('"llama-server completion error"', "error=timeout"),
    ],
)
def test_other_failures_are_no_crashes(message: str, rest: str) -> None:
    assert line(message, rest, level="ERROR").kind is None


def test_before_0_7_a_decision_names_the_weights_alone() -> None:
    found = line('"runner with zero duration has gone idle, expiring"', f"modelPath={BLOB}")
    assert (found.weights, found.model, found.pid) == (WEIGHTS, None, None)


def test_before_0_11_the_context_of_all_slots_is_named_in_full() -> None:
    command = f'cmd="/usr/bin/ollama runner --model {BLOB} --ctx-size 8192 --parallel 4 --port 1"'
    assert line('"starting llama server"', command).num_ctx == 2048


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "llama_model_loader: loaded meta data",
        "prompt: time=2026-11-23T20:04:20.331Z level=DEBUG msg=reloading",
        'time=now level= msg="',
        '[GIN] 2026/11/23 - 20:04:20 | 200 | 1s | 127.0.0.1 | POST     "/api/chat"',
        "\x00\xff" * 1000,
    ],
)
def test_a_line_of_somebody_else_says_nothing(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "time=2026-11-23T20:04:20.331Z level=INFO msg=reloaded",
        'time=yesterday level=INFO source=x.go:1 msg="runner terminated and removed from list"',
        "time=2026-11-23T20:04:20 level=WARN msg=reloading runner.pid=x runner.num_ctx=-1",
        "time=2026-11-23T20:04:20.331Z level=DEBUG msg=reloading " + "x" * 10 * LONGEST_LINE,
        "time=2026-11-23T20:04:20.331Z level=INFO msg=reloading pid=" + "9" * 5000,
        "time=2026-11-23T20:04:20.331Z level=INFO msg=reloading runner.num_ctx=" + "9" * 5000,
        'time=2026-11-23T20:04:20Z level=INFO msg="runner started in ' + "9" * 400 + ' seconds"',
        "time=2026-11-23T20:04:20Z level=DEBUG msg=reloading duration=" + "9" * 5000 + "s",
        "time=99999-11-23T20:04:20Z level=DEBUG msg=reloading",
    ],
)
def test_an_unknown_or_odd_line_is_never_an_error(text: str) -> None:
    found = read(text)
    assert found is not None
    assert (found.pid, found.num_ctx, found.weights) == (None, None, None)


def test_a_fact_has_the_moment_of_its_line_on_our_timeline() -> None:
    found = line("reloading", RUNNER)
    assert found.written == 1795464260.331
    assert found.fact(2000.0, lambda moment: moment - 1795462260.0) == LogSaid(
        2000.0,
        LogKind.RELOADING,
        2000.0,  # never later than it was read
        model="mistral:latest",
        weights=WEIGHTS,
        pid=4711,
        num_ctx=8192,
    )
    assert line('"something else"').fact(1.0, float) is None


@pytest.mark.parametrize(
    "unit", [' pid="', ' a="\\"', " x=", '\\"', "sha256-", "post predict ", "="]
)
def test_time_grows_linearly(unit: str) -> None:
    head = b"time=2026-11-23T20:04:20.331Z level=ERROR source=x.go:1 msg=reloading "

    def make(size: int) -> bytes:
        return head + unit.encode() * (size // len(unit))

    assert_linear(lambda data: read(data.decode()), make)
