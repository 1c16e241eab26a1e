# SPDX-License-Identifier: Apache-2.0
"""Colours by meaning, the same on every dashboard; Grafana's names follow the theme.

Cold and warm are blue and orange, which people with red-green blindness can distinguish.
"""

from typing import Final

from ollama_exporter.residency.events import Reason
from ollama_exporter.shim.observation import Outcome, Phase, Start

GOOD: Final = "green"
WARN: Final = "yellow"
BAD: Final = "red"
NEUTRAL: Final = "text"
FAINT: Final = "rgba(128, 128, 128, 0.25)"
GREY: Final = "#8e8e8e"

UNKNOWN: Final = "super-light-red"
COLD: Final = "blue"
WARM: Final = "orange"
STARTS: Final[dict[str, str]] = {
    Start.COLD: COLD,
    Start.WARM: WARM,
    Start.REMOTE: "light-purple",
    Start.UNKNOWN: UNKNOWN,
}
# The parts of a wait, in order of time.
PARTS: Final = {
    "load": COLD,
    "queue": "purple",
    "prompt": "yellow",
    "generation": "green",
}
STATES: Final = {
    "not loaded": FAINT,
    "loaded": "semi-dark-green",
    "loading": COLD,
    "process died": BAD,
}
REASONS: Final[dict[str, str]] = {
    Reason.EXPIRED: GREY,
    Reason.STOPPED: "#b8b8b8",
    Reason.REPLACED: "light-purple",
    Reason.OPTIONS_CHANGED: "dark-yellow",
    Reason.EVICTED: "dark-orange",
    Reason.CRASHED: "red",
    Reason.OUT_OF_MEMORY: "dark-red",
    Reason.SERVER_RESTARTED: "dark-purple",
    Reason.UNKNOWN: UNKNOWN,
}
PHASES: Final[dict[str, str]] = {
    Phase.WAITING: COLD,
    Phase.PREFILL: "yellow",
    Phase.DECODE: "green",
}
OUTCOMES: Final[dict[str, str]] = {
    Outcome.CLIENT_GONE: "purple",
    Outcome.UPSTREAM_ERROR: "red",
    Outcome.TRUNCATED: "dark-red",
    Outcome.QUEUE_FULL: "dark-orange",
    Outcome.REJECTED: GREY,
    Outcome.TIMEOUT: "dark-yellow",
}
KEEP_ALIVES: Final = {
    "absent": GREY,
    "zero": "red",
    "finite": "blue",
    "never": "dark-purple",
    "refused": "dark-orange",
}
