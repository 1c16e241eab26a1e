# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.host.runner.runner_counters import RunnerCounters, decode_counters
from tests.support.growth import assert_linear
from tests.support.paths import DATA

BUSY = (DATA / "runner" / "metrics-one-busy.txt").read_bytes()


def test_the_counters_of_a_real_runner_are_read() -> None:
    assert decode_counters(BUSY) == RunnerCounters(
        prompt_tokens=53,
        prompt_seconds=0.001343,
        generated_tokens=200,
        generated_seconds=0.141223,
    )


@pytest.mark.parametrize("value", [b"NaN", b"-1", b"+Inf", b"1e300", b"x", b""])
def test_what_is_no_total_is_left_out(value: bytes) -> None:
    body = BUSY.replace(b"prompt_seconds_total 0.001343", b"prompt_seconds_total " + value)
    found = decode_counters(body)
    assert found is not None
    assert found.prompt_seconds == 0


@pytest.mark.parametrize("body", [b"", b"llamacpp:prompt_tokens_total 1\n", b"# HELP\n", b"{}"])
def test_what_is_no_such_answer_is_none(body: bytes) -> None:
    assert decode_counters(body) is None


def test_differences_are_never_negative() -> None:
    low, high = RunnerCounters(prompt_tokens=1), RunnerCounters(prompt_tokens=5)
    assert high.since(low) == RunnerCounters(prompt_tokens=4)
    assert low.since(high) == RunnerCounters()
    assert low.plus(high) == RunnerCounters(prompt_tokens=6)


@given(st.binary(max_size=200))
def test_nothing_raises(body: bytes) -> None:
    decode_counters(body)


@pytest.mark.parametrize("piece", [b"llamacpp:x 1\n", b"\n", b"llamacpp:", b"\x0b\x0c\x1c\x85"])
def test_answers_are_read_in_linear_time(piece: bytes) -> None:
    assert_linear(decode_counters, lambda size: piece * (size // len(piece)))
