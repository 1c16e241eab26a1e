# SPDX-License-Identifier: Apache-2.0
"""`/_simulator/…`: faults from outside, if enabled. No Ollama server has these routes.

`POST /_simulator/fault` takes an object: `fault` names it, the other fields belong to it.

    {"fault": "crash", "model": NAME}                   kill its runner, idle or in mid-stream
    {"fault": "crash_after", "model": NAME, "tokens": N} kill it in its next answer
    {"fault": "cut", "model": NAME, "tokens": N}         break the connection in its next answer
    {"fault": "repeat", "model": NAME}                   its next answer repeats one token for ever
    {"fault": "out_of_memory", "model": NAME}            its next answer runs out of memory
    {"fault": "load_out_of_memory"}                      the next load runs out of memory
    {"fault": "load_error"}                              the next load fails
    {"fault": "slow_ps", "seconds": S}                   each /api/ps takes that long
    {"fault": "hung_ps"}                                 /api/ps does not answer
    {"fault": "clock", "seconds": S}                     Date and expires_at are S ahead
    {"fault": "restart", "signal": "SIGTERM", "down": S, "silent": S}
    {"fault": "none"}                                    end the lasting ones

`GET /_simulator/truth` lists what really happened.
"""

from dataclasses import asdict
from typing import Final, Protocol

from ollama_exporter.simulator import gojson, http
from ollama_exporter.simulator.calls import ApiError, body_of, field, resolve
from ollama_exporter.simulator.context import SimulatorContext
from ollama_exporter.simulator.faults import AnswerFault
from ollama_exporter.simulator.state import Signal, TrueReason

FAULT: Final = "/_simulator/fault"
TRUTH: Final = "/_simulator/truth"
_SIGNALS: Final[dict[str, Signal]] = {"SIGTERM": "SIGTERM", "SIGKILL": "SIGKILL"}


class RestartFault(Protocol):
    """Restarts the server after this answer is written."""

    def __call__(self, *, signal: Signal, down: float, silent: float) -> None:
        """Stop for `down` seconds, then accept connections and be silent for `silent` seconds."""


async def truth(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve what really happened, oldest event first."""
    events = [{"event": type(event).__name__} | asdict(event) for event in server.engine.truth]
    await exchange.respond(200, gojson.dumps({"truth": events}))


async def fault(
    server: SimulatorContext, exchange: http.HttpExchange, restart: RestartFault
) -> None:
    """Apply one fault."""
    body = body_of(exchange.request.body)
    name = field(body, "fault", str, "")
    if name == "restart":
        signal = _SIGNALS.get(field(body, "signal", str, "SIGTERM"))
        if signal is None:
            raise ApiError(400, "signal: accepted are SIGTERM and SIGKILL")
        await exchange.respond(200, b"{}")
        restart(signal=signal, down=_seconds(body, "down"), silent=_seconds(body, "silent"))
        return
    _apply(server, name, body)
    await exchange.respond(200, b"{}")


def _seconds(body: gojson.GoObject, name: str) -> float:
    return float(field(body, name, (int, float), 0.0))


def _apply(server: SimulatorContext, name: str, body: gojson.GoObject) -> None:
    faults, engine = server.faults, server.engine
    match name:
        case "none":
            faults.clear()
        case "slow_ps":
            faults.slow_ps = _seconds(body, "seconds")
        case "hung_ps":
            faults.hang_ps()
        case "clock":
            faults.clock_offset = _seconds(body, "seconds")
        case "load_out_of_memory":
            engine.fail_next_load(TrueReason.OUT_OF_MEMORY)
        case "load_error":
            engine.fail_next_load(TrueReason.CRASHED)
        case "crash" | "crash_after" | "cut" | "repeat" | "out_of_memory":
            _apply_to_model(server, name, body)
        case _:
            raise ApiError(400, f"fault: {name!r} is unknown")


def _apply_to_model(server: SimulatorContext, name: str, body: gojson.GoObject) -> None:
    model, manifest = resolve(server.library, field(body, "model", str, ""))
    tokens = int(_seconds(body, "tokens"))
    match name:
        case "crash":
            server.engine.crash(manifest.file.weights)
        case "crash_after":
            server.faults.fail_next_answer(model, AnswerFault(crash_after=tokens))
        case "cut":
            server.faults.fail_next_answer(model, AnswerFault(cut_after=tokens))
        case "repeat":
            server.faults.fail_next_answer(model, AnswerFault(repeats=True))
        case _:
            server.faults.fail_next_answer(model, AnswerFault(out_of_memory=True))
