# SPDX-License-Identifier: Apache-2.0
"""Decodes the server's answers, typed and tolerant.

Unknown fields are ignored and absent ones have defaults. A field with a value that it cannot have
counts as absent, and an entry without a name is left out: one odd entry must not hide the others.
An answer that is not a listing at all is a TargetError. Times become Unix seconds here.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.blobs import weights_of
from ollama_exporter.protocol.json_scan import SEPARATORS, decode_string, items_in, scan_object
from ollama_exporter.protocol.model_names import MAX_LENGTH, is_cloud_name, normalise

# With keep_alive -1, `expires_at` is now + 2^63-1 ns: the year 2318.
LAST_YEAR: Final = 2200
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
YEAR: Final = re.compile(r"([0-9]{4,6})-")
LONGEST_DATE: Final = 64  # characters; one of HTTP has 29
LONGEST_TIME: Final = 64  # characters
# Bytes of a listing that is not quite JSON. Reading one takes some 0.6 s a MiB of the event loop,
# a hundred times what JSON takes; a thousand models fill half of this.
LARGEST_LOOSE: Final = 1 << 19
LONGEST_TEXT: Final = 64  # characters of a version or a detail; labels show them in each scrape
LONGEST_DIGEST: Final = 128  # characters
# The server never writes null here; elsewhere null is the same as absent.
NEVER_NULL: Final = frozenset({"name", "model", "digest", "expires_at", "size", "size_vram"})
LARGEST_INT: Final = 2**63  # Go's int64 is below
LONGEST_VALUE: Final = 4096  # bytes of a field that is decoded
PS: Final = "/api/ps"
TAGS: Final = "/api/tags"
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
T = TypeVar("T")
OnMalformed = Callable[[str, Sequence[str]], None]  # path of the listing, unreadable fields


@dataclass(frozen=True, slots=True)
class RunningModel:
    """One entry of `/api/ps`.

    `expires_at` is in Unix seconds of the *server's* clock, `math.inf` for never (year > 2200), 0.0
    if absent; `announced` is that field as the server wrote it, as also "never" has nine digits of
    its own. Sizes are in bytes, `context` in tokens per slot.
    """

    name: str  # normalised, with its tag
    digest: str  # of the manifest, 64 hex characters; empty if absent
    expires_at: float
    size: int = 0  # 0 if absent
    size_vram: int | None = 0  # None if absent
    context: int | None = None  # None for servers that do not list it
    family: str = ""
    format: str = ""
    parameter_size: str = ""
    quantization: str = ""
    announced: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """Name and digest: one name may be listed with two digests."""
        return (self.name, self.digest)


class InstalledModel(Struct, frozen=True):
    """One entry of `/api/tags`. `size` is in bytes on disk; a `remote` model runs elsewhere."""

    name: str
    digest: str
    size: int
    remote: bool
    modified: float = 0.0  # Unix seconds: when its manifest was written; 0: not told


class ModelDetails(Struct, frozen=True):
    """An answer of `/api/show`. None and empty: the answer does not tell."""

    weights: str | None = None  # `sha256-HEX`
    max_context: int | None = None  # tokens; the server lowers a larger num_ctx to it
    capabilities: frozenset[str] = frozenset()


class _Listing(msgspec.Struct):
    models: list[msgspec.Raw] | None


class _Version(msgspec.Struct):
    version: str


class _Show(msgspec.Struct):
    modelfile: str = ""
    model_info: Any = None
    capabilities: Any = None


_LISTING: Final = msgspec.json.Decoder(_Listing)
_ENTRY: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VERSION: Final = msgspec.json.Decoder(_Version)
_SHOW: Final = msgspec.json.Decoder(_Show)


def decode_ps(body: bytes, malformed: OnMalformed | None = None) -> tuple[RunningModel, ...]:
    """Decode an answer of `/api/ps`. Raises TargetError(malformed)."""
    return _decode_entries(_entries(body), _running, PS, malformed)


def decode_tags(body: bytes, malformed: OnMalformed | None = None) -> tuple[InstalledModel, ...]:
    """Decode an answer of `/api/tags`. Raises TargetError(malformed)."""
    return _decode_entries(_entries(body), _installed, TAGS, malformed)


def decode_version(body: bytes) -> str:
    """Decode an answer of `/api/version`. Raises TargetError(malformed)."""
    return _decode(_VERSION, body).version[:LONGEST_TEXT]


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
    year = YEAR.match(text)
    if year is None or len(text) > LONGEST_TIME:
        raise TargetError(FailureReason.MALFORMED, "not a time in RFC 3339")
    if int(year[1]) > LAST_YEAR:
        return math.inf
    try:
        return (datetime.fromisoformat(text) - EPOCH).total_seconds()
    except (ValueError, TypeError, OverflowError) as err:
        raise _malformed(err) from err


def server_date(header: str | None) -> float | None:
    """Return the Unix seconds of a Date header, or None if there is none or it is not a date."""
    if header is None or len(header) > LONGEST_DATE:
        return None
    with suppress(ValueError, TypeError, OverflowError):
        return parsedate_to_datetime(header).timestamp()
    return None


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except UNREADABLE as err:
        fields = _loose_fields(body)
        if fields is None:
            raise _malformed(err) from err
        kept = {name: value for name, value in fields.items() if _is_strict(value)}
    try:
        return decoder.decode(msgspec.json.encode({k: msgspec.Raw(v) for k, v in kept.items()}))
    except UNREADABLE as err:
        raise _malformed(err) from err


def _loose_fields(text: bytes) -> dict[str, bytes] | None:
    """Return the raw fields of a complete object of which msgspec rejects a value, such as NaN."""
    text = text.strip(SEPARATORS)
    scanned = scan_object(text)
    if scanned is None or not scanned.is_closed:
        return None
    return {decode_string(m.key) or "": text[m.begin : m.end] for m in scanned.members}


def _is_strict(value: bytes) -> bool:
    try:
        msgspec.json.decode(value)
    except UNREADABLE:
        return False
    return True


def _malformed(err: Exception) -> TargetError:
    return TargetError(FailureReason.MALFORMED, str(err))


def _entries(body: bytes) -> Iterable[msgspec.Raw]:
    # A gateway may cut a text within a character.
    text = body.decode("utf-8", "replace").encode()
    try:
        return _LISTING.decode(text).models or ()
    except UNREADABLE as err:
        if len(text) > LARGEST_LOOSE:
            raise _malformed(err) from err
        listed = (_loose_fields(text) or {}).get("models", b"")
        items = () if listed == b"null" else items_in(listed)
        if items is None:
            raise _malformed(err) from err
        return [msgspec.Raw(item) for item in items]


class _EntryReader:
    """Reads the fields of one entry and notes those that cannot be read."""

    def __init__(self, raw: bytes | msgspec.Raw) -> None:
        self.unreadable: list[str] = []
        try:
            self._fields: dict[str, msgspec.Raw] = _ENTRY.decode(raw)
        except UNREADABLE:
            fields = _loose_fields(bytes(raw))
            self._fields = {name: msgspec.Raw(value) for name, value in (fields or {}).items()}
            if fields is None:
                self.unreadable.append("entry")

    def name(self) -> str | None:
        """Return the normalised name, or None without one that a model can have."""
        name = self.text("name", MAX_LENGTH, cut=False)
        name = name or self.text("model", MAX_LENGTH, cut=False)
        if not name and not self.unreadable:
            self.unreadable.append("name")
        return normalise(name) if name else None

    def text(self, field: str, longest: int = LONGEST_TEXT, *, cut: bool = True) -> str:
        """Return a text, empty if it is absent. A longer one is cut or unreadable."""
        value = self._value(field)
        if isinstance(value, str) and (cut or len(value) <= longest):
            return value[:longest]
        return "" if value is None else self._unreadable(field, "")

    def size(self, field: str) -> int | None:
        """Return a number of bytes or tokens, or None if it is absent."""
        value = self._value(field)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_INT:
            return value
        return None if value is None else self._unreadable(field, None)

    def time(self, field: str) -> float:
        """Return Unix seconds, 0.0 if it is absent."""
        value = self._value(field)
        if isinstance(value, str):
            try:
                return parse_time(value)
            except TargetError:
                pass
        return 0.0 if value is None else self._unreadable(field, 0.0)

    def written(self, field: str) -> str:
        """Return a short text as it is written, empty if there is none."""
        raw = self._fields.get(field)
        value = self._value(field) if raw is not None and bytes(raw)[:1] == b'"' else ""
        return value if isinstance(value, str) and len(value) <= LONGEST_TIME else ""

    def inner(self, field: str) -> "_EntryReader":
        """Return the reader of an object in a field; its unreadable fields count here."""
        raw = self._fields.get(field)
        reader = _EntryReader(b"{}" if raw is None or bytes(raw) == b"null" else raw)
        reader.unreadable = self.unreadable if not reader.unreadable else self._note(field)
        return reader

    def _note(self, field: str) -> list[str]:
        self.unreadable.append(field)
        return self.unreadable

    def _unreadable(self, field: str, default: T) -> T:
        self.unreadable.append(field)
        return default

    def _value(self, field: str) -> Any:  # noqa: ANN401 - the caller checks its type
        raw = self._fields.get(field)
        if raw is None:
            return None
        if bytes(raw) == b"null":
            if field in NEVER_NULL:
                self.unreadable.append(field)
            return None
        if len(bytes(raw)) <= LONGEST_VALUE:
            try:
                return msgspec.json.decode(raw)
            except UNREADABLE:
                text = decode_string(bytes(raw))  # it may hold half of a character, as cut texts do
                return ... if text is None else text
        return ...  # not None: the field is there


def _decode_entries(
    entries: Iterable[msgspec.Raw],
    decode: Callable[[_EntryReader], T | None],
    path: str,
    malformed: OnMalformed | None,
) -> tuple[T, ...]:
    decoded: list[T] = []
    for raw in entries:
        reader = _EntryReader(raw)
        entry = decode(reader)
        if entry is not None:
            decoded.append(entry)
        if reader.unreadable and malformed is not None:
            malformed(path, reader.unreadable)
    return tuple(decoded)


def _running(entry: _EntryReader) -> RunningModel | None:
    name = entry.name()
    if name is None:
        return None
    details = entry.inner("details")
    return RunningModel(
        name,
        entry.text("digest", LONGEST_DIGEST),
        entry.time("expires_at"),
        entry.size("size") or 0,
        entry.size("size_vram"),
        entry.size("context_length") or None,
        details.text("family"),
        details.text("format"),
        details.text("parameter_size"),
        details.text("quantization_level"),
        announced=entry.written("expires_at"),
    )


def _installed(entry: _EntryReader) -> InstalledModel | None:
    name = entry.name()
    if name is None:
        return None
    remote = entry.text("remote_host") or entry.text("remote_model") or is_cloud_name(name)
    digest, size = entry.text("digest", LONGEST_DIGEST), entry.size("size") or 0
    try:
        modified = parse_time(entry.text("modified_at"))
    except TargetError:  # nothing else depends on it
        modified = 0.0
    return InstalledModel(name, digest, size, remote=bool(remote), modified=modified)
