# SPDX-License-Identifier: Apache-2.0
"""Section `targets`: the servers of a fleet, by name."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, keep_warm
from ollama_exporter.config import mapping, parsers
from ollama_exporter.config.target import (
    HIDDEN,
    BasicAuth,
    HeaderField,
    Target,
    base_url,
    checked_basic_auth,
)
from ollama_exporter.errors import ConfigError

KEY: Final = "targets"
MOST_TARGETS: Final = 10_000
MOST_LABELS: Final = 32
MOST_SHOWN: Final = 10  # names in a log line
LONGEST_LABEL: Final = 256  # characters of a value
# A name is a parameter of a URL, a label, and part of the name of a state file.
NAME: Final = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9_.:\[\]-]{0,199}")
LABEL: Final = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,99}")
RESERVED_LABELS: Final = frozenset({"job", "model"})  # the scrape job's, and our own metrics'


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """One target. None: as the settings of all targets."""

    target: Target
    labels: tuple[tuple[str, str], ...] = ()  # of its series, by service discovery
    poll_interval: float | None = None
    expected_models: tuple[str, ...] | None = None
    keep_warm: KeepWarm | None = None
    place: str = field(default="", compare=False)  # file that names it, for messages

    @property
    def name(self) -> str:
        """Its name, which probes ask for."""
        return self.target.name


def targets(name: str, value: object) -> tuple[TargetSettings, ...]:
    """Parse the section. Raises ConfigError."""
    found = mapping.entries(name, value, most=MOST_TARGETS)
    return tuple(_target(name, key, item) for key, item in found.items())


def target_groups(name: str, value: object) -> tuple[TargetSettings, ...]:
    """Parse a list of groups as Prometheus' file_sd_configs have them. Raises ConfigError.

    Each address is a target of that name.
    """
    accepted = "accepted: a list of {targets: [HOST:PORT], labels: {…}}"
    if not isinstance(value, list):
        raise ConfigError(name, value, accepted)
    found: dict[str, TargetSettings] = {}
    for group in value:
        if not isinstance(group, dict) or not set(group) <= {"targets", "labels"}:
            raise ConfigError(name, group, accepted)
        addresses = group.get("targets")
        if not isinstance(addresses, list) or len(found) + len(addresses) > MOST_TARGETS:
            raise ConfigError(name, addresses, accepted)
        labels = dict(mapping.entries(f"{name}.labels", group.get("labels")))
        scheme = labels.pop("__scheme__", "http")
        if scheme not in ("http", "https"):
            raise ConfigError(f"{name}.labels.__scheme__", scheme, "accepted: http or https")
        parsed = _labels(f"{name}.labels", labels)
        for address in addresses:
            key = checked_name(name, address)
            if key in found:
                raise ConfigError(name, key, "accepted: each address once")
            url = base_url(f"{scheme}://{key}" if scheme == "https" else key, field=name)
            found[key] = TargetSettings(Target(key, url, section=f"{name}.{key}"), parsed)
    return tuple(found.values())


def checked_name(name: str, value: object) -> str:
    """Accept the name of a target. Raises ConfigError."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        accepted = "accepted: a name of letters, digits, and any of _ . : - [ ]"
        raise ConfigError(name, value, accepted)
    return value


def with_place(found: tuple[TargetSettings, ...], place: str) -> tuple[TargetSettings, ...]:
    """Return targets that say which file names them."""
    return tuple(replace(each, place=place) for each in found)


def shared_addresses(found: Iterable[TargetSettings]) -> list[str]:
    """Return the names of targets that have one address, whatever its spelling; at most ten lists.

    Sums over all targets count such a server twice.
    """
    by_address: dict[tuple[str, str], list[str]] = {}
    for each in found:
        parts = urlsplit(each.target.url)  # the user info is part of the address: two accounts
        by_address.setdefault((parts.netloc.lower(), parts.path), []).append(each.name)
    shared = [names for names in by_address.values() if len(names) > 1]
    return [", ".join(names[:MOST_SHOWN]) for names in shared[:MOST_SHOWN]]


def _target(section: str, key: str, value: object) -> TargetSettings:
    name = checked_name(section, key)
    place = f"{section}.{name}"
    if isinstance(value, str):  # NAME: URL
        value = {"url": value}
    parsed = mapping.section(
        place,
        value,
        {
            "url": parsers.url,
            "labels": _labels,
            "bearer-token-file": parsers.path,
            "basic-auth": _basic_auth,
            "headers": _headers,
            "tls": _tls,
            "poll-interval": parsers.interval,
            "expected-models": parsers.texts,
            "keep-warm": keep_warm,
        },
    )
    if "url" not in parsed:
        raise ConfigError(f"{place}.url", None, "accepted: the address of an Ollama server")
    tls: dict[str, Any] = parsed.get("tls", {})
    target = Target(
        name,
        parsed["url"],
        tls.get("ca_file"),
        parsed.get("bearer_token_file"),
        basic_auth=parsed.get("basic_auth"),
        headers=parsed.get("headers", ()),
        cert_file=tls.get("cert_file"),
        key_file=tls.get("key_file"),
        server_name=tls.get("server_name"),
        insecure_skip_verify=tls.get("insecure_skip_verify", False),
        section=place,
    )
    return TargetSettings(
        target,
        parsed.get("labels", ()),
        parsed.get("poll_interval"),
        parsed.get("expected_models"),
        parsed.get("keep_warm"),
    )


def _labels(name: str, value: object) -> tuple[tuple[str, str], ...]:
    found = mapping.entries(name, value)
    if len(found) > MOST_LABELS:
        raise ConfigError(name, len(found), f"accepted: at most {MOST_LABELS} labels")
    for key, item in found.items():
        if not LABEL.fullmatch(key) or key in RESERVED_LABELS:
            accepted = "accepted: a label's name, not __…, not job, not model"
            raise ConfigError(name, key, accepted)
        if not isinstance(item, str) or len(item) > LONGEST_LABEL or not item.isprintable():
            accepted = f"accepted: a text of at most {LONGEST_LABEL} printable characters"
            raise ConfigError(f"{name}.{key}", item, accepted)
    return tuple(sorted(found.items()))


def _basic_auth(name: str, value: object) -> BasicAuth:
    keys: dict[str, mapping.Parser] = {"user": parsers.user, "password-file": parsers.path}
    parsed = mapping.section(name, value, keys)
    section = name.removesuffix(".basic-auth")
    return checked_basic_auth(parsed.get("user"), parsed.get("password_file"), section=section)


def _headers(name: str, value: object) -> tuple[HeaderField, ...]:
    """Accept a mapping of names to values, or to `{file: FILE}`."""
    if not isinstance(value, dict):
        raise ConfigError(name, HIDDEN, "accepted: a mapping, NAME: VALUE or NAME: {file: FILE}")
    plain = {key: item for key, item in value.items() if not isinstance(item, dict)}
    files: dict[Any, object] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            if set(item) != {"file"} or not isinstance(item["file"], str):
                raise ConfigError(name, HIDDEN, "accepted: NAME: {file: FILE}")
            files[key] = item["file"]
    return parsers.header_fields(name, plain) + parsers.header_files(name, files)


def _tls(name: str, value: object) -> dict[str, Path | str | bool]:
    return mapping.section(
        name,
        value,
        {
            "ca-file": parsers.path,
            "cert-file": parsers.path,
            "key-file": parsers.path,
            "server-name": parsers.text,
            "insecure-skip-verify": parsers.flag,
        },
    )
