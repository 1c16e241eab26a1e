# SPDX-License-Identifier: Apache-2.0
"""`expires_at`: §2 of docs/ollama-facts.md."""

import time
from datetime import datetime
from typing import Final

import pytest

from tests.conformance.talk import Ollama, expiry, until

CLOCK: Final = 0.5  # seconds between the server's clock and ours, at most


def is_since(asked: float, moment: float) -> bool:
    """Return whether a moment of the server lies between `asked` and now."""
    return asked - CLOCK < moment < time.time() + CLOCK


def test_slides_until_the_runner_is_first_idle(ollama: Ollama, model: str) -> None:
    """§2.1: at each poll it is that moment plus the keep-alive."""
    with ollama.busy(model, keep_alive=100):
        for _ in range(3):
            asked = time.time()
            assert is_since(asked, expiry(ollama.listed(model)) - 100)
            time.sleep(0.2)


def test_stands_still_once_idle(ollama: Ollama, model: str) -> None:
    """§2.2."""
    ollama.say(model, keep_alive=100)
    first = ollama.settled(model)
    time.sleep(0.3)
    assert ollama.listed(model)["expires_at"] == first["expires_at"]


def test_is_stale_while_a_later_request_runs_and_renewed_when_its_client_leaves(
    ollama: Ollama, model: str
) -> None:
    """§2.3, §2.5."""
    ollama.say(model, keep_alive=100)
    before = ollama.settled(model)
    with ollama.busy(model, keep_alive=200):
        time.sleep(0.3)
        assert ollama.listed(model)["expires_at"] == before["expires_at"]
    left = time.time()
    after = until(
        lambda: e if (e := ollama.listed(model))["expires_at"] != before["expires_at"] else None,
        "the expiry is renewed",
    )
    assert expiry(after) == pytest.approx(left + 200, abs=8)


def test_lies_in_the_past_while_a_request_outlasts_it(ollama: Ollama, model: str) -> None:
    """§2.4."""
    ollama.say(model, keep_alive=2.5)
    ollama.settled(model)
    with ollama.busy(model):
        past = until(
            lambda: e if expiry(e := ollama.listed(model)) < time.time() - 0.2 else None,
            "the expiry passes",
        )
        assert past["name"] == ollama.listed(model)["name"]
    ollama.gone(model)


def test_passes_and_the_model_leaves(ollama: Ollama, model: str) -> None:
    """§2.6."""
    ollama.say(model, keep_alive=2.5)
    promised = expiry(ollama.settled(model))
    assert ollama.gone(model) > promised - CLOCK


def test_stop_of_an_idle_model_removes_it(ollama: Ollama, model: str) -> None:
    """§2.7."""
    ollama.say(model, keep_alive=100)
    ollama.settled(model)
    assert ollama.stop(model)["done_reason"] == "unload"
    ollama.gone(model)


def test_stop_of_a_busy_model_drops_it_to_now(ollama: Ollama, model: str) -> None:
    """§2.8: the model stays until its requests end."""
    ollama.say(model, keep_alive=100)
    ollama.settled(model)
    with ollama.busy(model):
        asked = time.time()
        ollama.stop(model)
        assert is_since(asked, expiry(ollama.listed(model)))
        time.sleep(0.3)
        assert ollama.entry(model) is not None
    ollama.gone(model)


def test_keep_alive_zero_with_a_prompt_unloads_at_the_end(ollama: Ollama, model: str) -> None:
    """§2.9."""
    assert ollama.say(model, keep_alive=0)["done_reason"] in ("stop", "length")
    ollama.gone(model)


def test_keep_alive_is_sticky(ollama: Ollama, model: str) -> None:
    """§2.10: later requests without one, of any route, inherit it."""
    ollama.say(model, keep_alive=1000)
    messages = [{"role": "user", "content": "Say something."}]
    asked = time.time()
    ollama.post("/v1/chat/completions", model=model, messages=messages, max_tokens=4)
    assert is_since(asked, expiry(ollama.settled(model)) - 1000)
    asked = time.time()
    ollama.say(model, keep_alive=100)
    assert is_since(asked, expiry(ollama.settled(model)) - 100)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, 77), (50, 50), (50.5, 50.5), ("1m30s", 90), ("0.5h", 1800)],
)
def test_forms_of_keep_alive(ollama: Ollama, model: str, given: object, seconds: float) -> None:
    """§3.1: numbers are seconds, strings durations with a unit, null is none."""
    ollama.say(model, keep_alive=77)
    ollama.settled(model)
    asked = time.time()
    ollama.say(model, keep_alive=given)
    until(lambda: is_since(asked, expiry(ollama.listed(model)) - seconds) or None, f"{seconds} s")


@pytest.mark.parametrize("given", [0, 0.0, "0", "0s"])
def test_forms_of_zero(ollama: Ollama, model: str, given: object) -> None:
    """§3.2."""
    ollama.generate(model, keep_alive=100)
    ollama.generate(model, keep_alive=given)
    ollama.gone(model)


@pytest.mark.parametrize("given", [-1, -0.5, "-1s"])
def test_negative_means_for_ever(ollama: Ollama, model: str, given: object) -> None:
    """§3.3: an empty prompt sets it, the year is past 2200."""
    ollama.generate(model, keep_alive=given)
    until(
        lambda: datetime.fromisoformat(ollama.listed(model)["expires_at"]).year > 2200 or None,
        "for ever",
    )


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("300", 'time: missing unit in duration "300"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("soon", 'time: invalid duration "soon"'),
        (True, "Unsupported type: 'bool'"),
    ],
)
def test_forms_refused(ollama: Ollama, model: str, given: object, error: str) -> None:
    """§3.4."""
    answer = ollama.post("/api/generate", model=model, keep_alive=given)
    assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_asking_about_a_model_does_not_renew(ollama: Ollama, model: str) -> None:
    """§2.11."""
    ollama.say(model, keep_alive=100)
    before = ollama.settled(model)["expires_at"]
    ollama.post("/api/show", model=model)
    ollama.http.get("/api/tags")
    assert ollama.listed(model)["expires_at"] == before
