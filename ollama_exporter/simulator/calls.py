# SPDX-License-Identifier: Apache-2.0
"""Reads from a request's JSON what the scheduler and the runner need."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ollama_exporter.protocol.keepalive import KeepAliveError, parse
from ollama_exporter.protocol.model_names import is_cloud_name
from ollama_exporter.simulator import gojson
from ollama_exporter.simulator.library import Library
from ollama_exporter.simulator.model_files import Manifest, ModelFile
from ollama_exporter.simulator.state import NEVER, Host, QueuedRequest, RunnerOptions

# the options that a runner is started with, besides num_ctx and num_gpu
MISSING: Final = "model '{}' not found"
MISSING_EMBED: Final = 'model "{}" not found, try pulling it first'  # of the embedding routes
_RUNNER_OPTIONS: Final = ("num_batch", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
_SMALLEST_CONTEXT: Final = 4
_NATURAL_LENGTH: Final = 48  # tokens of an answer to a short prompt
_LONGEST: Final = 512
_MOST: Final = 1e6  # of any number in a directive
_SLOWEST: Final = 1e-3  # tokens a second
_DIRECTIVE: Final = re.compile(r"\[\[([^\]]{0,200})\]\]")


class ApiError(Exception):
    """An answer other than 200, with the server's text."""

    def __init__(self, status: int, text: str, **more: str) -> None:
        self.status = status
        self.text = text
        self.more = more  # further fields of the native format
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that names an installed model."""

    spelling: str  # the model as the client wrote it: answers echo it
    name: str  # the installed name
    manifest: Manifest
    options: dict[str, Any]
    keep_alive: float | None = None  # seconds
    shift: bool = True

    def request(self, host: Host, number: int) -> QueuedRequest:
        """Return the request for the scheduler. Raises ApiError."""
        num_ctx = self._integer("num_ctx", self.manifest.num_ctx)
        # A null counts as given here, and as absent for the value (routes.go, FromMap).
        given = "num_ctx" in self.options or self.manifest.num_ctx is not None
        automatic = not given and host.context is None
        tokens = host.automatic_context if num_ctx is None else num_ctx
        options = RunnerOptions(
            num_ctx=max(tokens, _SMALLEST_CONTEXT),
            num_ctx_auto=automatic,
            others=frozenset(self._others()),
            num_gpu=self._integer("num_gpu", -1) or 0,
            shift=self.shift,
        )
        return QueuedRequest(
            id=number,
            name=self.name,
            digest=self.manifest.digest,
            file=self.manifest.file,
            options=options,
            keep_alive=self.keep_alive,
        )

    def _others(self) -> Iterator[tuple[str, object]]:
        """Yield the further options of a runner. Raises ApiError."""
        for name in _RUNNER_OPTIONS:
            value = self.options.get(name)
            if value is None:
                continue
            if name != "use_mmap":
                yield name, self._integer(name, None)
            elif isinstance(value, bool):
                yield name, value
            else:
                raise ApiError(500, f'option "{name}" must be of type boolean')

    def _integer(self, name: str, default: int | None) -> int | None:
        """Read an option as the server does: a float is cut. Raises ApiError."""
        value = self.options.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ApiError(500, f'option "{name}" must be of type integer')
        return int(value) if abs(value) < 2**63 else -(2**63)  # as amd64 converts it


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What the runner does for one prompt."""

    prompt_tokens: int
    tokens: int
    reason: str  # done_reason
    first: float  # seconds of prompt processing
    rate: float  # tokens a second
    crash_after: int | None = None  # tokens; then the runner dies
    out_of_memory: bool = False  # it runs out of memory before the first token
    cut_after: int | None = None  # tokens; then the connection breaks
    repeats: bool = False  # one token repeatedly, until the server aborts
    prompt: str = ""

    def text(self, index: int) -> str:
        """Return the token's text."""
        return " again" if self.repeats else f" w{index}"


def body_of(raw: bytes) -> gojson.GoObject:
    """Decode a request's body. Raises ApiError."""
    try:
        return gojson.loads(raw)
    except ValueError as err:
        raise ApiError(400, str(err)) from err


def field(body: gojson.GoObject, name: str, kind: type | tuple[type, ...], default: Any) -> Any:  # noqa: ANN401 - the JSON's own types
    """Return a field of the right type, or the default for null or nothing. Raises ApiError."""
    for value in body.every(name):
        if value is None:
            continue
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ApiError(
                400,
                f"json: cannot unmarshal {gojson.kind_of(value)} into Go struct field .{name} "
                f"of type {kind.__name__ if isinstance(kind, type) else 'any'}",
            )
        if isinstance(value, dict) and any(map(_is_too_large, value.values())):
            raise ApiError(400, f"json: cannot unmarshal number into Go struct field .{name}")
    found = body.get(name)
    return default if found is None else found


def objects(body: gojson.GoObject, name: str) -> list[gojson.GoObject]:
    """Return a field that is a list of objects. Raises ApiError."""
    found: list[Any] = field(body, name, list, [])
    for each in found:
        if not isinstance(each, gojson.GoObject):
            kind = gojson.kind_of(each)
            text = f"json: cannot unmarshal {kind} into Go struct field .{name} of type object"
            raise ApiError(400, text)
    return found


def _is_too_large(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)


def resolve(library: Library, spelling: str, missing: str = MISSING) -> tuple[str, Manifest]:
    """Return the model that a request names. Raises ApiError with the text `missing`."""
    if is_cloud_name(spelling):
        raise ApiError(401, "unauthorized", signin_url="https://ollama.com/connect")
    found = library.find(spelling) if spelling else None
    if found is None:
        raise ApiError(404, missing.format(spelling))
    return found


def keep_alive_of(value: object) -> float | None:
    """Return a request's keep_alive in seconds; None: it has none. Raises ApiError."""
    if _is_too_large(value):
        raise ApiError(400, "json: cannot unmarshal number into Go value of type float64")
    try:
        seconds = parse(value)
    except KeepAliveError as err:
        raise ApiError(400, str(err)) from err
    return None if seconds is None else min(seconds, NEVER)


def plan(file: ModelFile, prompt: str, num_predict: int | None) -> CallPlan:
    """Decide length and pace from the prompt, or from a directive in it.

    A directive is `[[key=value …]]` anywhere in the prompt: `n` tokens, `ttft` seconds, `tps`
    tokens a second, `crash=N`, `cut=N` (after N tokens), `oom=1`, `repeat=1`.
    """
    match = _DIRECTIVE.search(prompt)
    asked = dict(pair.split("=", 1) for pair in match[1].split() if "=" in pair) if match else {}
    words = max(1, len(prompt.split()))
    natural = min(_NATURAL_LENGTH + words // 4, _LONGEST)
    tokens, reason = natural, "stop"
    if num_predict is not None and 0 < num_predict < natural:
        tokens, reason = num_predict, "length"
    if "n" in asked:
        tokens, reason = int(_number(asked, "n", natural)), "stop"
    return CallPlan(
        prompt_tokens=words,
        tokens=tokens,
        reason=reason,
        first=_number(asked, "ttft", words / file.prompt_rate),
        rate=max(_number(asked, "tps", file.token_rate), _SLOWEST),
        crash_after=int(_number(asked, "crash", 0)) if "crash" in asked else None,
        out_of_memory="oom" in asked,
        cut_after=int(_number(asked, "cut", 0)) if "cut" in asked else None,
        repeats="repeat" in asked,
        prompt=prompt,
    )


def _number(asked: Mapping[str, str], name: str, default: float) -> float:
    """Read a number of a directive; the default if it is not one."""
    try:
        value = float(asked[name])
    except (KeyError, ValueError):
        return default
    return min(max(value, 0.0), _MOST) if math.isfinite(value) else default
