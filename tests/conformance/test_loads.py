# SPDX-License-Identifier: Apache-2.0
"""Loads, reloads and evictions: §4 of docs/ollama-facts.md."""

import threading
import time
from typing import Final

import pytest

from tests.conformance.conftest import Subject
from tests.conformance.talk import BOUND, Entry, Ollama, expiry, until

HEARD: Final = 0.2  # seconds within which a busy server takes note of the end of its load


def seen_while_loading(ollama: Ollama, model: str) -> list[tuple[float, float, Entry]]:
    """Load the model and return what polls that were over before the load was showed.

    With each, when it was asked and when it was over.
    """
    loaded: list[float] = []

    def load() -> None:
        other = Ollama(ollama.url)
        began = time.time()
        answer = other.say(model, keep_alive=100)
        # Before the load was over, whenever this thread and the server's own clock hear of that.
        loaded.append(began + answer["load_duration"] / 1e9 - HEARD)
        other.http.close()

    client = threading.Thread(target=load)
    client.start()
    seen = []
    while not loaded:
        asked, entry = time.time(), ollama.entry(model)
        if entry is not None:
            seen.append((asked, time.time(), entry))
        time.sleep(0.01)
    client.join()
    return [each for each in seen if each[1] < loaded[0]]


def test_a_model_is_listed_after_its_load(ollama: Ollama, subject: Subject) -> None:
    """§4.1: before 0.30 one of the two engines lists it earlier, with an expiry that slides."""
    seen = seen_while_loading(ollama, subject.model2)
    if not subject.old:
        assert seen == []
    elif not subject.real:
        assert len(seen) > 1
    assert all(asked - 1 < expiry(entry) - 100 < at + 1 for asked, at, entry in seen)


def test_another_context_length_reloads(ollama: Ollama, model: str) -> None:
    """§4.2."""
    ollama.say(model)
    automatic = ollama.settled(model)["context_length"]
    ollama.say(model, options={"num_ctx": automatic // 2})
    assert ollama.settled(model)["context_length"] == automatic // 2


def test_a_renewal_without_options_reloads_with_the_automatic_context(
    ollama: Ollama, model: str
) -> None:
    """§4.3: what a careless warm-up does to a runner with an explicit num_ctx."""
    ollama.say(model)
    automatic = ollama.settled(model)["context_length"]
    ollama.say(model, options={"num_ctx": automatic // 2})
    ollama.generate(model, keep_alive=100)
    assert ollama.settled(model)["context_length"] == automatic


def test_a_renewal_that_carries_the_listed_context_does_not_reload(
    ollama: Ollama, model: str
) -> None:
    """§4.4."""
    ollama.say(model)
    half = ollama.settled(model)["context_length"] // 2
    ollama.say(model, options={"num_ctx": half})
    ollama.generate(model, keep_alive=100, options={"num_ctx": half})
    assert ollama.settled(model)["context_length"] == half


def test_sampling_options_do_not_reload(ollama: Ollama, model: str) -> None:
    """§4.5: the renewed expiry is that of the same runner, listed all the while."""
    ollama.say(model, keep_alive=100)
    ollama.settled(model)
    missing = []
    looked, stop = threading.Event(), threading.Event()

    def watch() -> None:
        other = Ollama(ollama.url)
        while not stop.is_set():
            missing.append(other.entry(model) is None)
            looked.set()
            time.sleep(0.01)
        other.http.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert looked.wait(BOUND)
    ollama.say(model, options={"temperature": 0.1, "seed": 3, "top_k": 5})
    stop.set()
    watcher.join()
    assert missing
    assert not any(missing)


def test_a_victim_is_gone_before_the_newcomer_is_listed(ollama: Ollama, subject: Subject) -> None:
    """§4.6: with room for one model; its keep-alive does not protect it."""
    if subject.max_loaded != 1:
        pytest.skip("needs OLLAMA_MAX_LOADED_MODELS=1 on the server, and --max-loaded 1 here")
    ollama.generate(subject.model, keep_alive=-1)
    ollama.settled(subject.model)
    most = [0]
    looked, done = threading.Event(), threading.Event()

    def watch() -> None:
        other = Ollama(ollama.url)
        while not done.is_set():
            most.append(len(other.ps()))
            looked.set()
            time.sleep(0.01)
        other.http.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert looked.wait(BOUND)
    ollama.say(subject.model2)
    done.set()
    watcher.join()
    assert max(most) == 1
    assert ollama.entry(subject.model) is None
    assert ollama.entry(subject.model2) is not None


def test_a_client_that_leaves_during_a_load_ends_it(ollama: Ollama, subject: Subject) -> None:
    """§4.7: since 0.30 the model does not appear."""
    if subject.old:
        pytest.skip("since 0.30")
    with pytest.raises(Exception, match="timed out"):
        ollama.http.post(
            "/api/generate", json={"model": subject.model2, "stream": False}, timeout=0.05
        )
    time.sleep(1.5)
    assert ollama.entry(subject.model2) is None


@pytest.mark.fault
def test_a_crashed_model_stays_listed_until_the_next_request(ollama: Ollama, model: str) -> None:
    """§4.8."""
    ollama.say(model, keep_alive=100)
    before = ollama.settled(model)
    ollama.post("/_simulator/fault", fault="crash", model=model).raise_for_status()
    assert ollama.listed(model) == before
    again = ollama.say(model)
    assert again["done"] is True
    assert again["load_duration"] > 100_000_000  # it had to be loaded
    until(lambda: ollama.listed(model)["expires_at"] != before["expires_at"] or None, "renewed")


@pytest.mark.fault
def test_out_of_memory_while_generating_unloads(ollama: Ollama, model: str) -> None:
    """§4.9."""
    ollama.say(model, keep_alive=100)
    ollama.post("/_simulator/fault", fault="out_of_memory", model=model).raise_for_status()
    answer = ollama.post("/api/generate", model=model, prompt="Hello", stream=False)
    assert answer.status_code == 500
    ollama.gone(model)
