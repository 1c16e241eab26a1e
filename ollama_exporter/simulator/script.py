# SPDX-License-Identifier: Apache-2.0
"""What a workload is made of: steps at their moments, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ollama_exporter.simulator.model_files import ModelFiles, default_catalogue
from ollama_exporter.simulator.state import Host, Signal

Via = Literal["generate", "chat", "embed", "v1"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A client's request. `at` is seconds since the script's start."""

    at: float
    model: str
    tokens: int = 60  # of the answer; 0: a preload
    rate: float = 40.0  # tokens a second
    via: Via = "generate"
    keep_alive: float | str | None = None  # as sent; None: not sent
    num_ctx: int | None = None
    leave_after: float | None = None  # seconds; the client does not wait longer
    note: str = ""

    def body(self) -> tuple[str, dict[str, Any]]:
        """Make path and JSON body."""
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
        """Make path and JSON body."""
        return "/api/generate", {"model": self.model, "keep_alive": 0}


@dataclass(frozen=True, slots=True)
class Recreate:
    """The model's name gets new weights (a re-pull, an `ollama create`)."""

    at: float
    model: str
    note: str = ""

    def body(self) -> tuple[str, dict[str, Any]]:
        """Make path and JSON body."""
        return "/api/create", {"model": self.model, "from": self.model, "stream": False}


@dataclass(frozen=True, slots=True)
class Crash:
    """The runner of the model dies, idle or in mid-answer."""

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
    """The server goes away and comes back."""

    at: float
    signal: Signal = "SIGTERM"
    down: float = 2.0  # seconds
    silent: float = 0.0  # seconds in which it accepts and does not answer yet
    note: str = ""


Call = Ask | Stop | Recreate  # what goes over the wire
Fault = Crash | OutOfMemory | Restart  # what only a simulator can be told
Step = Call | Fault


@dataclass(frozen=True, slots=True)
class Script:
    """A workload: steps in order of time, and the stage that it is written for."""

    name: str
    steps: tuple[Step, ...]
    duration: float  # seconds
    host: Host = field(default_factory=Host)
    catalogue: ModelFiles = field(default_factory=default_catalogue)

    def models(self) -> Mapping[str, int]:
        """Count the requests of each model."""
        counts: dict[str, int] = {}
        for step in self.steps:
            if isinstance(step, Ask):
                counts[step.model] = counts.get(step.model, 0) + 1
        return counts
