# SPDX-License-Identifier: Apache-2.0
"""Half a minute in which all happens that dashboards show: a script for the simulator.

Loads are forty times as fast as from a disk and keep-alives are seconds, so that a Prometheus that
scrapes each second sees models come and go.
"""

from typing import Final

from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.script import (
    Ask,
    Crash,
    OutOfMemory,
    Recreate,
    Restart,
    Script,
    Step,
    Stop,
)
from ollama_exporter.simulator.state import Host

EXPECTED: Final = ("mistral", "absent-model")
_STEPS: Final[tuple[Step, ...]] = (
    Ask(0.5, "llama3.2", 30),
    Ask(0.6, "nomic-embed-text", 1, via="embed"),
    Ask(1.5, "llama3.2", 60, via="chat"),
    Ask(1.6, "llama3.2", 20),  # waits for the slot
    Ask(1.7, "llama3.2", 400, leave_after=1.5),  # leaves before its first byte
    Ask(4.0, "llama3.2", 400, leave_after=0.8),  # in mid-answer
    Ask(4.9, "nosuchmodel", 10),
    # llama3.2 and the embedding model expire at about 8
    Ask(8.5, "mistral", 20, keep_alive="10m"),
    Ask(11.0, "mistral", 20, num_ctx=8192),  # a reload
    Ask(13.3, "qwen2.5:7b", 20, keep_alive=-1),  # drives mistral out
    Ask(15.0, "mistral", 20),  # and back
    Ask(16.8, "qwen2.5:7b", 20),
    Ask(18.6, "mistral", 20, leave_after=0.4),  # leaves while it loads
    Ask(18.7, "llama3.2", 10),
    Ask(18.75, "gemma2:27b", 10),
    Ask(18.8, "qwen2.5:7b", 10),  # more wait than the queue takes
    Ask(18.85, "gemma2:27b", 10),
    Ask(18.9, "gemma2:27b", 10),
    Ask(23.0, "llama3.2", 200),
    Crash(24.2, "llama3.2"),
    Ask(24.4, "llama3.2", 10),
    Ask(25.6, "llama3.2", 10, keep_alive=0),
    Ask(26.0, "mistral", 10),
    Stop(27.0, "mistral"),
    Ask(27.5, "llama3.2", 10),
    Recreate(28.0, "llama3.2"),
    Ask(28.2, "llama3.2", 10),
    OutOfMemory(29.3, "llama3.2"),
    Ask(29.4, "llama3.2", 10),
    Ask(30.2, "llama3.2", 10),
    Restart(31.8, down=1.2),
    Ask(33.8, "llama3.2", 20),
    Ask(34.8, "llama3.2", 20),
)
SCRIPT: Final = Script(
    "eventful",
    _STEPS,
    36.0,
    Host(memory=10 * GIB, keep_alive=3.0, max_queue=3, recovery=0.5),
    default_catalogue().compressed(40.0),
)
