# SPDX-License-Identifier: Apache-2.0
"""Talks to the server under test, and waits for what it should show: no fixed sleeps."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import httpx

FRACTION: Final = re.compile(r"(\.\d{6})\d+")
# a real model reads the directive as words, the simulator obeys it
LONG_STORY: Final = "Tell a long story. [[n=5000]]"
BOUND: Final = 30.0  # seconds that a real server may take for anything but a generation
Entry = dict[str, Any]
T = TypeVar("T")


def until(ask: Callable[[], T | None], what: str, bound: float = BOUND) -> T:
    """Ask until the answer is not None; fail the check after `bound` seconds."""
    end = time.monotonic() + bound
    while True:
        answer = ask()
        if answer is not None:
            return answer
        assert time.monotonic() < end, f"not within {bound:g} s: {what}"
        time.sleep(0.03)


def expiry(entry: Entry) -> float:
    """Return `expires_at` in Unix seconds."""
    return datetime.fromisoformat(FRACTION.sub(r"\1", entry["expires_at"])).timestamp()


class Ollama:
    """The server under test, by plain HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=60.0, trust_env=False)

    def ps(self) -> list[Entry]:
        models: list[Entry] = self.http.get("/api/ps").raise_for_status().json()["models"]
        return models

    def entry(self, model: str) -> Entry | None:
        name = model if ":" in model else f"{model}:latest"
        return next((each for each in self.ps() if each["name"] == name), None)

    def listed(self, model: str) -> Entry:
        return until(lambda: self.entry(model), f"{model} is listed")

    def gone(self, model: str, bound: float = BOUND) -> float:
        """Wait until the model is not listed; return the moment."""
        until(lambda: None if self.entry(model) else True, f"{model} is gone", bound)
        return time.time()

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def generate(self, model: str, prompt: str = "", **fields: Any) -> Entry:
        answer = self.post("/api/generate", model=model, prompt=prompt, stream=False, **fields)
        assert answer.status_code == 200, answer.text
        value: Entry = answer.json()
        return value

    def say(self, model: str, **fields: Any) -> Entry:
        """Have four tokens generated."""
        options = {"num_predict": 4} | fields.pop("options", {})
        return self.generate(model, "Say something.", options=options, **fields)

    def stop(self, model: str) -> Entry:
        return self.generate(model, keep_alive=0)

    def settled(self, model: str) -> Entry:
        """Wait until the model is idle: its expiry does not slide."""

        def still() -> Entry | None:
            first = self.entry(model)
            time.sleep(0.06)
            second = self.entry(model)
            same = first and second and first["expires_at"] == second["expires_at"]
            return second if same else None

        return until(still, f"the expiry of {model} stands still")

    @contextmanager
    def busy(self, model: str, **fields: Any) -> Iterator[None]:
        """Keep a generation running; at the end its client goes away in the middle of it."""
        body = {"model": model, "prompt": LONG_STORY, "options": {"num_predict": 5000}}
        with self.http.stream("POST", "/api/generate", json=body | fields) as answer:
            assert answer.status_code == 200
            chunks = answer.iter_raw()  # held: its end would close the connection
            next(chunks)
            yield
            del chunks

    def clear(self, *models: str) -> None:
        """Unload the models."""
        for model in models:
            if self.entry(model):
                self.stop(model)
        for model in models:
            self.gone(model)
