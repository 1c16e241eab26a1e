# SPDX-License-Identifier: Apache-2.0
"""Idle gaps on recordings of real servers: what polls add to requests, and what they tell alone."""

import pytest

from bench.truth import RECORDINGS
from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.endpoint.server_clock import ServerClock
from ollama_exporter.recordings.format import Recording, moment_of
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.residency.facts import RequestEnded, RequestStarted, Snapshot

EVERY = 15.0
ALL = sorted(file.name.removesuffix(".jsonl.gz") for file in RECORDINGS.glob("*.jsonl.gz"))


def adjust(clock: ServerClock, poll: Snapshot) -> None:
    if poll.date is not None:
        clock.observe(poll.date, started=poll.started, ended=poll.ended)


def told(recording: Recording, *, requests: bool) -> tuple[IdleHistogram, IdleHistogram]:
    """Return the gaps that requests show, and those that polls show (besides)."""
    facts: list[Snapshot | RequestStarted | RequestEnded] = []
    for poll in recording.polls:
        if isinstance(poll, Snapshot) and (not facts or poll.started >= facts[-1].ended + EVERY):  # type: ignore[union-attr]  # only polls yet
            facts.append(poll)
    if requests:
        facts += [x for x in recording.requests if isinstance(x, RequestStarted | RequestEnded)]
    clock, seen, inferred = ServerClock(), IdleHistogram(), IdleHistogram()
    gaps = IdleGapDetector(clock)
    models: dict[object, str] = {}
    for fact in sorted(facts, key=moment_of):
        match fact:
            case Snapshot():
                adjust(clock, fact)
                for _, gap in gaps.on_poll(fact):
                    inferred.add(gap)
            case RequestStarted(stop=False):
                models[fact.id] = fact.model
                if (begun := gaps.on_request_start(fact.model, fact.at)) is not None:
                    seen.add(begun)
            case RequestEnded() if fact.id in models:
                gaps.on_request_end(models.pop(fact.id), fact.at, used=fact.failure is None)
    return seen, inferred


@pytest.mark.parametrize("name", ALL)
def test_where_all_requests_are_seen_polls_add_no_gap(name: str) -> None:
    seen, inferred = told(read_recording(RECORDINGS / f"{name}.jsonl.gz"), requests=True)
    assert seen.samples > 15
    assert inferred.samples == 0


@pytest.mark.parametrize("name", ["office-1", "batch-2", "agents-2"])
def test_polls_alone_tell_of_nearly_all_gaps_above_a_minute(name: str) -> None:
    recording = read_recording(RECORDINGS / f"{name}.jsonl.gz")
    seen, _ = told(recording, requests=True)
    _, inferred = told(recording, requests=False)
    assert sum(inferred.counts[2:]) == pytest.approx(sum(seen.counts[2:]), rel=0.2)
    assert inferred.total == pytest.approx(seen.total, rel=0.1)
