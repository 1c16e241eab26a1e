# SPDX-License-Identifier: Apache-2.0
"""An hour on one small GPU, for the pictures of the live page: each kind of end, and waits."""

from typing import Final

from dashboards.pictures.day import Question
from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.script import Ask, Crash, Script, Step, Stop
from ollama_exporter.simulator.state import Host

HOUR: Final = 3600.0


def hour() -> Script:
    """Return the script. At its end one model left for another, which has some minutes left."""
    steps: list[Step] = [
        *(Question(60.0 + 47 * n, "mistral", 160, 55, "chat") for n in range(9)),
        *(Question(300.0 + 61 * n, "llama3.2", 90, 80, "chat", "30m") for n in range(6)),
        Question(900.0, "qwen2.5:7b", 220, 50, "chat", reading=1.2),
        Question(990.0, "qwen2.5:7b", 180, 50, "chat", reading=0.7),
        Crash(1100.0, "llama3.2"),
        Question(1110.0, "llama3.2", 120, 80, "chat"),
        Question(1180.0, "llama3.2", 60, 80, "chat"),
        Question(1500.0, "mistral", 240, 55, "chat"),
        Question(1560.0, "mistral", 90, 55, "chat", num_ctx=8192),
        Question(1640.0, "mistral", 90, 55, "chat"),
        Stop(1900.0, "llama3.2"),
        *(Question(2100.0 + 53 * n, "mistral", 130, 55, "chat") for n in range(7)),
        *(Ask(2300.0 + 2 * n, "nomic-embed-text", 1, via="embed") for n in range(4)),
        *(Question(2700.0 + 70 * n, "qwen2.5:7b", 150, 50, "chat", "10m") for n in range(4)),
        *(Question(3010.0 + 64 * n, "llama3.2", 140, 80, "chat") for n in range(7)),
        Question(3290.0, "mistral", 200, 55, "chat", reading=0.9),
        Question(3420.0, "mistral", 180, 55, "chat", reading=0.4),
        Question(3505.0, "mistral", 120, 55, "chat"),
    ]
    ordered = tuple(sorted(steps, key=lambda step: step.at))
    return Script("hour", ordered, HOUR, Host(memory=10 * GIB, parallel=1))
