# SPDX-License-Identifier: Apache-2.0
"""Decodes the server's answers, typed and tolerant.

Unknown fields are ignored and absent ones have defaults. An answer that is not a listing at all is
a TargetError. Times become Unix seconds here.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.blobs import weights_of
from ollama_exporter.protocol.model_names import normalise

# With keep_alive -1, `expires_at` is now + 2^63-1 ns: the year 2318.
LAST_YEAR: Final = 2200
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Go's int64
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunningModel:
    """One entry of `/api/ps`.

    `expires_at` is in Unix seconds of the *server's* clock, `math.inf` for never (year > 2200).
    Sizes are in bytes. `context` is in tokens per slot, None for servers that do not list it.
    """

    name: str  # normalised, with its tag
    digest: str  # of the manifest, 64 hex characters
    expires_at: float
    size: int = 0
    size_vram: int = 0
    context: int | None = None
    family: str = ""
    format: str = ""
    parameter_size: str = ""
    quantization: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Name and digest: one name may be listed with two digests."""
        return (self.name, self.digest)


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One entry of `/api/tags`. `size` is in bytes on disk; a `remote` model runs elsewhere."""

    name: str
    digest: str
    size: int
    remote: bool


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """An answer of `/api/show`. None and empty: the answer does not tell."""

    weights: str | None = None  # `sha256-HEX`
    max_context: int | None = None  # tokens; the server lowers a larger num_ctx to it
    capabilities: frozenset[str] = frozenset()


class _Details(msgspec.Struct):
    family: str | None = None
    format: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None


class _Running(msgspec.Struct):
    name: str = ""
    model: str = ""
    digest: str = ""
    expires_at: str | None = None
    size: Int64 = 0
    size_vram: Int64 = 0
    context_length: Int64 | None = None
    details: _Details | None = None


class _Ps(msgspec.Struct):
    models: list[_Running] | None


class _Installed(msgspec.Struct):
    name: str = ""
    model: str = ""
    digest: str = ""
    size: Int64 = 0
    remote_host: str | None = None
    remote_model: str | None = None


class _Tags(msgspec.Struct):
    models: list[_Installed] | None


class _Version(msgspec.Struct):
    version: str


class _Show(msgspec.Struct):
    modelfile: str = ""
    model_info: Any = None
    capabilities: Any = None


_PS: Final = msgspec.json.Decoder(_Ps)
_TAGS: Final = msgspec.json.Decoder(_Tags)
_VERSION: Final = msgspec.json.Decoder(_Version)
_SHOW: Final = msgspec.json.Decoder(_Show)
_NO_DETAILS: Final = _Details()


def decode_ps(body: bytes) -> tuple[RunningModel, ...]:
    """Decode an answer of `/api/ps`. Raises TargetError(malformed)."""
    return _running(_decode(_PS, body).models or ())


def models_from(listing: object) -> tuple[RunningModel, ...]:
    """Convert a parsed answer of `/api/ps`, as recordings keep it."""
    try:
        return _running(msgspec.convert(listing, _Ps).models or ())
    except msgspec.ValidationError as err:
        raise _malformed(err) from err


def decode_tags(body: bytes) -> tuple[InstalledModel, ...]:
    """Decode an answer of `/api/tags`. Raises TargetError(malformed)."""
    return tuple(
        InstalledModel(
            normalise(entry.name or entry.model),
            entry.digest,
            entry.size,
            remote=bool(entry.remote_host or entry.remote_model),
        )
        for entry in _decode(_TAGS, body).models or ()
    )


def decode_version(body: bytes) -> str:
    """Decode an answer of `/api/version`. Raises TargetError(malformed)."""
    return _decode(_VERSION, body).version


def decode_show(body: bytes) -> str | None:
    """Decode the weights blob of an answer of `/api/show`, or None if it names none.

    Raises TargetError(malformed).
    """
    return weights_of(_decode(_SHOW, body).modelfile)


def decode_details(body: bytes) -> ModelDetails:
    """Decode an answer of `/api/show`. Raises TargetError(malformed)."""
    shown = _decode(_SHOW, body)
    info = shown.model_info if isinstance(shown.model_info, dict) else {}
    context = info.get(f"{info.get('general.architecture')}.context_length")
    listed = shown.capabilities if isinstance(shown.capabilities, list) else []
    return ModelDetails(
        weights_of(shown.modelfile),
        context if isinstance(context, int) and context > 0 else None,
        frozenset(each for each in listed if isinstance(each, str)),
    )


def parse_time(text: str | None) -> float:
    """Return the Unix seconds of a Go time: RFC 3339, any zone, 0 to 9 digits of fraction.

    Never is `math.inf`. Go's zero time and an absent one are 0.0. Raises TargetError(malformed).
    """
    if not text or text.startswith("0001-"):
        return 0.0
    try:
        if int(text[:4]) > LAST_YEAR:
            return math.inf
        moment = datetime.fromisoformat(text)
        return (moment - EPOCH).total_seconds()
    except (ValueError, TypeError, OverflowError) as err:
        raise _malformed(err) from err


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise _malformed(err) from err


def _running(entries: Iterable[_Running]) -> tuple[RunningModel, ...]:
    models: list[RunningModel] = []
    for entry in entries:
        details = entry.details or _NO_DETAILS
        models.append(
            RunningModel(
                normalise(entry.name or entry.model),
                entry.digest,
                parse_time(entry.expires_at),
                entry.size,
                entry.size_vram,
                entry.context_length,
                details.family or "",
                details.format or "",
                details.parameter_size or "",
                details.quantization_level or "",
            )
        )
    return tuple(models)


def _malformed(err: Exception) -> TargetError:
    return TargetError(FailureReason.MALFORMED, str(err))
