# SPDX-License-Identifier: Apache-2.0
"""From a request's JSON to what the scheduler and the runner need to know of it."""

import re
from dataclasses import dataclass
from typing import Any, Final

from ollama_exporter.protocol.keepalive import KeepAliveError, parse
from ollama_exporter.simulator import gojson
from ollama_exporter.simulator.library import Library, is_cloud
from ollama_exporter.simulator.model_files import Manifest, ModelFile
from ollama_exporter.simulator.state import NEVER, Host, QueuedRequest, RunnerOptions

# the options that a runner is started with, besides num_ctx and num_gpu
MISSING: Final = "model '{}' not found"
MISSING_EMBED: Final = 'model "{}" not found, try pulling it first'  # of the embedding routes
_RUNNER_OPTIONS: Final = ("num_batch", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
_SMALLEST_CONTEXT: Final = 4
_NATURAL_LENGTH: Final = 48  # tokens of an answer to a short prompt
_LONGEST: Final = 512
_DIRECTIVE: Final = re.compile(r"\[\[([^\]]*)\]\]")


class ApiError(Exception):
    """An answer other than 200, in the words of the server."""

    def __init__(self, status: int, text: str, **more: str) -> None:
        self.status = status
        self.text = text
        self.more = more  # further fields of the native form
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that names an installed model."""

    spelling: str  # the model as the client wrote it: answers echo it
    name: str  # as installed
    manifest: Manifest
    options: dict[str, Any]
    keep_alive: float | None = None  # seconds
    shift: bool = True

    def request(self, host: Host, number: int) -> QueuedRequest:
        """Make what the scheduler is asked."""
        num_ctx = self.options.get("num_ctx", self.manifest.num_ctx)
        automatic = num_ctx is None and host.context is None
        tokens = host.automatic_context if num_ctx is None else int(num_ctx)
        options = RunnerOptions(
            num_ctx=max(tokens, _SMALLEST_CONTEXT),
            num_ctx_auto=automatic,
            others=frozenset(
                (key, self.options[key]) for key in _RUNNER_OPTIONS if key in self.options
            ),
            num_gpu=int(self.options.get("num_gpu", -1)),
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


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What the runner will do for one prompt."""

    prompt_tokens: int
    tokens: int
    reason: str  # done_reason
    first: float  # seconds of prompt processing
    rate: float  # tokens a second
    crash_after: int | None = None  # tokens; the runner dies then
    out_of_memory: bool = False  # it dies of a failed allocation, before the first token
    cut_after: int | None = None  # tokens; the connection breaks then
    repeats: bool = False  # one token again and again, until the server gives up

    def text(self, index: int) -> str:
        """Give the token's text."""
        return " again" if self.repeats else f" w{index}"


def body_of(raw: bytes) -> dict[str, Any]:
    """Decode a request's body. Raises ApiError."""
    try:
        return gojson.loads(raw)
    except ValueError as err:
        raise ApiError(400, str(err)) from err


def field(body: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:  # noqa: ANN401 - the JSON's own types
    """Take a field of the right type, the default for null or nothing. Raises ApiError."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ApiError(
            400,
            f"json: cannot unmarshal {gojson.kind_of(value)} into Go struct field .{name} "
            f"of type {kind.__name__ if isinstance(kind, type) else 'any'}",
        )
    return value


def resolve(library: Library, spelling: str, missing: str = MISSING) -> tuple[str, Manifest]:
    """Find the model that a request names. Raises ApiError, in the words of `missing`."""
    if is_cloud(spelling):
        raise ApiError(401, "unauthorized", signin_url="https://ollama.com/connect")
    found = library.find(spelling) if spelling else None
    if found is None:
        raise ApiError(404, missing.format(spelling))
    return found


def keep_alive_of(value: object) -> float | None:
    """Read a request's keep_alive: seconds, NEVER for ever, None for none. Raises ApiError."""
    try:
        seconds = parse(value)
    except KeepAliveError as err:
        raise ApiError(400, str(err)) from err
    return None if seconds is None else min(seconds, NEVER)


def plan(file: ModelFile, prompt: str, num_predict: int | None) -> CallPlan:
    """Decide length and pace by the prompt, or by the directive in it.

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
        tokens, reason = int(asked["n"]), "stop"
    return CallPlan(
        prompt_tokens=words,
        tokens=tokens,
        reason=reason,
        first=float(asked.get("ttft", words / file.prompt_rate)),
        rate=float(asked.get("tps", file.token_rate)),
        crash_after=int(asked["crash"]) if "crash" in asked else None,
        out_of_memory="oom" in asked,
        cut_after=int(asked["cut"]) if "cut" in asked else None,
        repeats="repeat" in asked,
    )
