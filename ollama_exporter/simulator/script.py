# SPDX-License-Identifier: Apache-2.0
"""The steps of a workload, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ollama_exporter.simulator.model_files import ModelFiles, default_catalogue
from ollama_exporter.simulator.state import Host, Signal

Via = Literal["generate", "chat", "embed", "v1"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A client's request. `at`: seconds since the start of the script."""

    at: float
    model: str
    tokens: int = 60  # of the answer; 0: a preload
    rate: float = 40.0  # tokens a second
    via: Via = "generate"
    keep_alive: float | str | None = None  # as sent; None: not sent
    num_ctx: int | None = None
    leave_after: float | None = None  # seconds; then the client gives up
    note: str = ""

    def body(self) -> tuple[str, dict[str, Any]]:
        """Return path and JSON body."""
        prompt = f"Tell me [[n={self.tokens} tps={self.rate:g}]]" if self.tokens else ""
        body: dict[str, Any] = {"model": self.model}
        if self.via == "v1":
            messages = [{"role": "user", "content": prompt}]
            return "/v1/chat/completions", body | {"messages": messages, "stream": True}
        if self.via == "chat":
            body["messages"] = [{"role": "user", "content": prompt}] if prompt else []
        elif self.via == "embed":
            body["input"] = "a text to embed" if self.tokens else []
        else:
            body["prompt"] = prompt
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        if self.num_ctx is not None:
            body["options"] = {"num_ctx": self.num_ctx}
        return f"/api/{self.via}", body


@dataclass(frozen=True, slots=True)
class Stop:
    """`ollama stop MODEL`."""

    at: float
    model: str
    note: str = ""

    def body(self) -> tuple[str, dict[str, Any]]:
        """Return path and JSON body."""
        return "/api/generate", {"model": self.model, "keep_alive": 0}


@dataclass(frozen=True, slots=True)
class Recreate:
    """The model's name gets new weights, as by `ollama pull` or `ollama create`."""

    at: float
    model: str
    note: str = ""

    def body(self) -> tuple[str, dict[str, Any]]:
        """Return path and JSON body."""
        return "/api/create", {"model": self.model, "from": self.model, "stream": False}


@dataclass(frozen=True, slots=True)
class Crash:
    """The runner of the model crashes, idle or busy."""

    at: float
    model: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The next answer of the model runs out of memory."""

    at: float
    model: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Restart:
    """The server stops and starts again."""

    at: float
    signal: Signal = "SIGTERM"
    down: float = 2.0  # seconds
    silent: float = 0.0  # seconds after its start in which it accepts and does not answer
    note: str = ""


Call = Ask | Stop | Recreate  # sent as requests
Fault = Crash | OutOfMemory | Restart  # only a simulator can make them
Step = Call | Fault


@dataclass(frozen=True, slots=True)
class Script:
    """A workload: steps in order of time, and the host and models that it is made for."""

    name: str
    steps: tuple[Step, ...]
    duration: float  # seconds
    host: Host = field(default_factory=Host)
    catalogue: ModelFiles = field(default_factory=default_catalogue)

    def models(self) -> Mapping[str, int]:
        """Return the number of requests for each model."""
        counts: dict[str, int] = {}
        for step in self.steps:
            if isinstance(step, Ask):
                counts[step.model] = counts.get(step.model, 0) + 1
        return counts
