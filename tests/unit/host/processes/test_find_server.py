# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.host.processes.find_server import (
    Candidate,
    NotFound,
    ServerAddress,
    choose,
)
from tests.support.machine import hexed, process

A, B = process(1), process(2, start=2.0)
HERE_V6 = ServerAddress("::1", 11434)
HERE, ELSEWHERE = True, False  # where it listens
NOTHING: frozenset[str] = frozenset()


def weights(*letters: str) -> frozenset[str]:
    return frozenset(map(hexed, letters))


def test_who_listens_is_it() -> None:
    assert choose([Candidate(A, ELSEWHERE), Candidate(B, HERE)], NOTHING) == B


def test_of_two_that_listen_it_is_the_elder() -> None:
    assert choose([Candidate(B, HERE), Candidate(A, HERE)], NOTHING) == A


def test_the_only_one_whose_sockets_are_closed_to_us_is_it() -> None:
    assert choose([Candidate(A, None)], NOTHING) == A
    assert choose([Candidate(A, None), Candidate(B, ELSEWHERE)], NOTHING) == A


def test_several_are_told_apart_by_the_weights_that_are_listed() -> None:
    both = [Candidate(A, None, weights("a", "b")), Candidate(B, None, weights("c"))]
    assert choose(both, weights("c")) == B
    assert choose(both, weights("a")) == A


@pytest.mark.parametrize("listed", [NOTHING, weights("d"), weights("a")])
def test_several_that_cannot_be_told_apart_are_left_alone(listed: frozenset[str]) -> None:
    both = [Candidate(A, None, weights("a", "b")), Candidate(B, None, weights("a"))]
    assert choose(both, listed) is NotFound.AMBIGUOUS


@pytest.mark.parametrize(
    ("candidates", "insist", "why"),
    [
        ([], False, NotFound.NO_SERVER),
        ([], True, NotFound.NO_SERVER),
        ([Candidate(A, ELSEWHERE)], False, NotFound.NOT_LISTENING),
        ([Candidate(A, ELSEWHERE), Candidate(B, ELSEWHERE)], True, NotFound.NOT_LISTENING),
    ],
)
def test_why_there_is_none(candidates: list[Candidate], why: NotFound, *, insist: bool) -> None:
    assert choose(candidates, NOTHING, on_this_machine=insist) is why


def test_an_operator_who_insists_gets_the_only_one_whatever_its_port() -> None:
    assert choose([Candidate(A, ELSEWHERE)], NOTHING, on_this_machine=True) == A


@pytest.mark.parametrize("reason", NotFound)
def test_each_reason_has_a_sentence_of_its_own(reason: NotFound) -> None:
    others = [each.sentence(HERE_V6) for each in NotFound if each is not reason]
    assert reason.sentence(HERE_V6) not in others


def test_a_reason_names_the_address() -> None:
    assert NotFound.NOT_LISTENING.sentence(HERE_V6) == (
        "an `ollama serve` process is visible, but it does not listen on [::1]:11434"
    )
