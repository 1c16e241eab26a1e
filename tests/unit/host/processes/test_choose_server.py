# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.host.processes.choose_server import (
    AMBIGUOUS,
    NONE_LISTENS,
    NONE_RUNS,
    Candidate,
    choose,
)
from tests.support.machine import hexed, process

A, B = process(1), process(2, start=2.0)
HERE, ELSEWHERE = True, False  # where it listens
NOTHING: frozenset[str] = frozenset()


def weights(*letters: str) -> frozenset[str]:
    return frozenset(map(hexed, letters))


def test_who_listens_is_it() -> None:
    assert choose([Candidate(A, ELSEWHERE), Candidate(B, HERE)], NOTHING).process == B


def test_of_two_that_listen_it_is_the_elder() -> None:
    assert choose([Candidate(B, HERE), Candidate(A, HERE)], NOTHING).process == A


def test_the_only_one_whose_sockets_are_closed_to_us_is_it() -> None:
    assert choose([Candidate(A, None)], NOTHING).process == A
    assert choose([Candidate(A, None), Candidate(B, ELSEWHERE)], NOTHING).process == A


def test_several_are_told_apart_by_the_weights_that_are_listed() -> None:
    both = [Candidate(A, None, weights("a", "b")), Candidate(B, None, weights("c"))]
    assert choose(both, weights("c")).process == B
    assert choose(both, weights("a")).process == A


@pytest.mark.parametrize("listed", [NOTHING, weights("d"), weights("a")])
def test_several_that_cannot_be_told_apart_are_left_alone(listed: frozenset[str]) -> None:
    both = [Candidate(A, None, weights("a", "b")), Candidate(B, None, weights("a"))]
    choice = choose(both, listed)
    assert choice.process is None
    assert choice.why == AMBIGUOUS


@pytest.mark.parametrize(
    ("candidates", "insist", "why"),
    [
        ([], False, NONE_RUNS),
        ([], True, NONE_RUNS),
        ([Candidate(A, ELSEWHERE)], False, NONE_LISTENS),
        ([Candidate(A, ELSEWHERE), Candidate(B, ELSEWHERE)], True, NONE_LISTENS),
    ],
)
def test_why_there_is_none(candidates: list[Candidate], why: str, *, insist: bool) -> None:
    choice = choose(candidates, NOTHING, insist=insist)
    assert (choice.process, choice.why) == (None, why)


def test_an_operator_who_insists_gets_the_only_one_whatever_its_port() -> None:
    assert choose([Candidate(A, ELSEWHERE)], NOTHING, insist=True).process == A
