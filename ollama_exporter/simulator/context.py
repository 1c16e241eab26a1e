# SPDX-License-Identifier: Apache-2.0
"""What the routes of one simulated server share."""

import random
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from ollama_exporter.simulator.engine import Clock, Engine
from ollama_exporter.simulator.faults import Faults
from ollama_exporter.simulator.library import Library
from ollama_exporter.simulator.state import Host


@dataclass(slots=True)
class SimulatorContext:
    """Engine, models, clock and faults of one server."""

    engine: Engine
    library: Library
    clock: Clock  # Unix seconds, never backwards
    version: str
    random: random.Random  # ids, and the order of equal entries
    zone: tzinfo = UTC  # of `expires_at`
    faults: Faults = field(default_factory=Faults)

    @property
    def host(self) -> Host:
        """The machine and the server's settings."""
        return self.engine.host

    def server_clock(self) -> float:
        """Return the moment that the server's answers show."""
        return self.clock() + self.faults.clock_offset

    def ident(self, prefix: str, below: int) -> str:
        """Return an id in the form of the compatible routes."""
        return f"{prefix}{self.random.randrange(below)}"
