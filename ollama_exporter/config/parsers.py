# SPDX-License-Identifier: Apache-2.0
"""One parser for each kind of setting.

A parser gets the place of the value (a flag, a variable, a key of the file) and the raw value, as
a text or as YAML reads it. It returns the value or raises ConfigError.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ollama_exporter.config.target import HIDDEN, HIGHEST_PORT, HeaderField, base_url
from ollama_exporter.errors import ConfigError
from ollama_exporter.foreign_text import mask_address

NUMBER: Final = r"\d{1,12}(?:\.\d{1,12})?"
DURATION: Final = re.compile(rf"{NUMBER}|(?:{NUMBER}(?:ms|s|m|h|d))+")
DURATION_PART: Final = re.compile(rf"({NUMBER})(ms|s|m|h|d)?")
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
LONGEST: Final = 65536  # characters of one value
SIZE: Final = re.compile(rf"({NUMBER})\s*(GiB|MiB|GB|MB)?", re.IGNORECASE)
TRUE: Final = frozenset({"true", "1", "yes", "on"})
FALSE: Final = frozenset({"false", "0", "no", "off"})
SIZES: Final = {"gib": 1 << 30, "mib": 1 << 20, "gb": 10**9, "mb": 10**6}
SHORTEST_INTERVAL: Final = 1.0  # older servers read their list without a lock: poll gently
UNIX: Final = "unix:"
LONGEST_UNIX_PATH: Final = 107  # bytes; the kernel's field has 108 with the NUL
FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 5.6.2
PAIRS: Final = "accepted: NAME: VALUE, one or a list of them, or a mapping"
FIELD_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]{0,8190}[\x21-\x7e])?")
# They frame the request or choose how the answer is encoded, which is the client's own business.
RESERVED_FIELDS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
MOST_FIELDS: Final = 32
HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")  # no encoding has it: each scrape would fail


def url(name: str, value: object) -> str:
    """Accept a base URL."""
    return base_url(text(name, value), field=name)


def text(name: str, value: object) -> str:
    """Accept a text that is not blank."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST:
        raise ConfigError(name, value, "accepted: a text")
    if "\0" in value:
        raise ConfigError(name, value, "accepted: a text without NUL")
    return value


def user(name: str, value: object) -> str:
    """Accept the user of a basic authentication, which ends at its first colon."""
    written = text(name, value)
    if ":" in written or not written.isprintable():
        raise ConfigError(name, value, "accepted: a user without a colon")
    return written


def header_fields(name: str, value: object) -> tuple[HeaderField, ...]:
    """Accept header fields: texts NAME: VALUE, one or a list, or a mapping.

    No error shows a value: it may be a credential.
    """
    fields = []
    for key, content in _pairs(name, value):
        if not FIELD_VALUE.fullmatch(content):
            shown = f"{key}: {HIDDEN}"
            raise ConfigError(name, shown, "accepted: NAME: VALUE, with a value in visible ASCII")
        fields.append(HeaderField(key, content))
    return tuple(fields)


def header_files(name: str, value: object) -> tuple[HeaderField, ...]:
    """Accept header fields whose values are in files: NAME: FILE, likewise."""
    return tuple(HeaderField(key, file=path(name, file)) for key, file in _pairs(name, value))


def _pairs(name: str, value: object) -> list[tuple[str, str]]:
    """Return header fields and their values, each field once."""
    pairs = _written_pairs(name, value)
    if len(pairs) > MOST_FIELDS:
        raise ConfigError(name, len(pairs), f"accepted: at most {MOST_FIELDS} header fields")
    found: dict[str, tuple[str, str]] = {}
    for key, content in pairs:
        field = str(key).strip()[:LONGEST]
        if not FIELD_NAME.fullmatch(field) or field.lower() in RESERVED_FIELDS:
            shown = field if FIELD_NAME.fullmatch(field) else HIDDEN
            raise ConfigError(name, shown, "accepted: a field's name, except those of HTTP itself")
        if field.lower() in found:
            raise ConfigError(name, field, "give each field once")
        if not isinstance(content, str | int) or isinstance(content, bool):
            raise ConfigError(name, f"{field}: {HIDDEN}", PAIRS)
        found[field.lower()] = field, str(content).strip()
    return list(found.values())


def _written_pairs(name: str, value: object) -> list[tuple[object, object]]:
    if isinstance(value, dict):
        return list(value.items())
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list | tuple):
        raise ConfigError(name, type(value).__name__, PAIRS)
    split = [line.partition(":") for line in lines if isinstance(line, str)]
    if len(split) < len(lines) or not all(colon for _, colon, _ in split):
        raise ConfigError(name, HIDDEN, PAIRS)
    return [(key, content) for key, _, content in split]


def _scalar(value: object) -> str:
    """Return a scalar as one writes it; empty for anything else, which no parser accepts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004 - no setting is larger
        return ""
    return str(value).strip() if isinstance(value, str | int | float) else ""


def path(name: str, value: object) -> Path:
    """Accept the path of a file."""
    return Path(text(name, value))


def duration(name: str, value: object) -> float:
    """Accept a positive duration; return seconds."""
    written = _scalar(value)
    seconds = 0.0
    if DURATION.fullmatch(written):
        parts = DURATION_PART.findall(written)
        seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise ConfigError(name, value, "accepted: a positive duration such as 15s, 500ms, 1h30m")
    return seconds


def size(name: str, value: object) -> int:
    """Accept a size such as 24GiB or 8192MiB, GiB if no unit is given; return bytes."""
    match = SIZE.fullmatch(_scalar(value))
    unit = SIZES[(match[2] or "GiB").lower()] if match else 0
    found = int(float(match[1]) * unit) if match else 0
    if found <= 0:
        raise ConfigError(name, value, "accepted: a size such as 24GiB or 8192MiB")
    return found


def interval(name: str, value: object) -> float:
    """Accept a duration of at least a second."""
    seconds = duration(name, value)
    if seconds < SHORTEST_INTERVAL:
        raise ConfigError(name, value, "accepted: 1s or more")
    return seconds


def flag(name: str, value: object) -> bool:
    """Accept a truth value."""
    word = _scalar(value).lower()
    if word not in TRUE | FALSE:
        raise ConfigError(name, value, "accepted: true or false")
    return word in TRUE


def texts(name: str, value: object) -> tuple[str, ...]:
    """Accept a list of texts. A text is split at commas and blanks, also one in a list."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ConfigError(name, value, "accepted: a list of texts")
    parts = [part for item in items for part in re.split(r"[\s,]+", text(name, item)) if part]
    for part in parts:
        if HALF_A_PAIR.search(part):  # bytes of a command line that are not UTF-8, too
            raise ConfigError(name, part, "accepted: texts in UTF-8")
    return tuple(parts)


def addresses(name: str, value: object) -> tuple[str, ...]:
    """Accept listen addresses."""
    addresses = texts(name, value)
    for address in addresses:
        split_address(address, field=name)
    if not addresses:
        raise ConfigError(name, value, "accepted: at least one HOST:PORT")
    return addresses


def web_addresses(name: str, value: object) -> tuple[str, ...]:
    """Accept listen addresses, of Unix sockets too."""
    given = texts(name, value)
    inet = tuple(each for each in given if unix_path(each) is None)
    for each in given:
        path = unix_path(each)
        if path is not None and (not path.is_absolute() or len(bytes(path)) > LONGEST_UNIX_PATH):
            accepted = f"accepted: unix: and a path from / on, of {LONGEST_UNIX_PATH} bytes at most"
            raise ConfigError(name, each, accepted)
    if inet or not given:
        addresses(name, inet)
    return given


def unix_path(address: str) -> Path | None:
    """Return the path of the Unix socket that a listen address means; None: it means a port."""
    return Path(address.removeprefix(UNIX)) if address.startswith(UNIX) else None


def telemetry_path(name: str, value: object) -> str:
    """Accept the path of the metrics."""
    written = text(name, value)
    own = written in ("/sd", "/probe", "/events")
    taken = own or written.startswith(("/-/", "/api/", "/page/"))
    if taken or not re.fullmatch(r"(/[\w\-.~]+)+", written):
        accepted = "accepted: a path that begins with a slash, not one of the exporter's own"
        raise ConfigError(name, value, accepted)
    return written


def count(least: int) -> Callable[[str, object], int]:
    """Return what accepts a whole number from `least`."""

    def parse(name: str, value: object) -> int:
        is_whole = isinstance(value, float) and value.is_integer()  # 10.0 in YAML or JSON
        written = _scalar(int(value) if is_whole else value)  # type: ignore[call-overload]
        if not re.fullmatch(r"[0-9]{1,9}", written) or int(written) < least:
            raise ConfigError(name, value, f"accepted: a whole number from {least}")
        return int(written)

    return parse


def choice(*choices: str) -> Callable[[str, object], str]:
    """Return what accepts one of these words, in any case.

    YAML reads the words on and off as truth values.
    """
    words = {True: "on", False: "off"}

    def parse(name: str, value: object) -> str:
        word = words[value] if isinstance(value, bool) else _scalar(value).lower()
        if word not in choices:
            raise ConfigError(name, value, f"accepted: {', '.join(choices[:-1])} or {choices[-1]}")
        return word

    return parse


def log_level(*levels: str) -> Callable[[str, object], str]:
    """Return what accepts a level; `warning` is `warn`."""
    known = choice(*levels)

    def parse(name: str, value: object) -> str:
        alias = isinstance(value, str) and value.strip().lower() == "warning"
        return known(name, "warn" if alias else value)

    return parse


def log_source(name: str, value: object) -> str:
    """Accept a file's path, `journal`, `journal:UNIT`, `docker:CONTAINER`, `podman:CONTAINER`.

    `auto` is the journal of the server's own unit, `off` is no log.
    """
    written = "off" if value is False else text(name, value)  # YAML reads a bare `off` as False
    if written.lower() in ("auto", "off"):
        return written.lower()
    kind, colon, unit = written.partition(":")
    if kind == "journal" and colon and not re.fullmatch(r"[\w@.\\][\w@.:\\-]*", unit):
        raise ConfigError(name, value, "accepted: FILE, journal, or journal:UNIT")
    if kind in ("docker", "podman") and colon and not re.fullmatch(r"\w[\w.-]{0,254}", unit):
        raise ConfigError(name, value, f"accepted: {kind}:CONTAINER, its name or id")
    return written


def split_address(address: str, *, field: str = "web.listen-address") -> tuple[str, int]:
    """Return host and port of a listen address; an empty host means all interfaces.

    Raises ConfigError.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    bare = ":" in host and not address.startswith("[")
    bare = bare or "@" in host or "%40" in host
    if not colon or bare or not re.fullmatch(r"\d{1,5}", port) or int(port) > HIGHEST_PORT:
        raise ConfigError(field, mask_address(address), "accepted: HOST:PORT, :PORT or [IPv6]:PORT")
    return host, int(port)
