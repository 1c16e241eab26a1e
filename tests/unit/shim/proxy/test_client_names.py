# SPDX-License-Identifier: Apache-2.0
"""Names of clients by header, network and user agent, and the settings that choose one."""

import dataclasses
from pathlib import Path

import pytest

from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError
from ollama_exporter.metrics.client_labels import MOST_CLIENTS, ClientLabels
from ollama_exporter.shim.proxy.build import frontend_of
from ollama_exporter.shim.proxy.client_names import client_by, identifier
from ollama_exporter.shim.proxy.headers import RequestHead


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    request = RequestHead()
    for name, value in fields:
        request.add_field(name, value)
    return request


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"alice", "alice"),
        (b" bob@example.org ", "bob@example.org"),
        (b"", "other"),
        (b"other", "other"),
        (b'a"b', "other"),
        (b"\xe9", "other"),
        (b"x" * 64, "x" * 64),
        (b"x" * 65, "other"),
    ],
)
def test_a_header_field_names_the_client_if_it_can_be_a_name(value: bytes, name: str) -> None:
    identify = identifier("header:x-user", ())
    assert identify is not None
    assert identify(head((b"X-Users", b"no"), (b"X-USER", value)), b"") == name


def test_without_the_field_the_client_is_other() -> None:
    for by in ("header:x-user", "user-agent"):
        identify = identifier(by, ())
        assert identify is not None
        assert identify(head((b"Accept", b"x-user: a")), b"127.0.0.1") == "other"


def test_the_smallest_network_names_the_client() -> None:
    networks = ("10.0.0.0/8=site", "10.1.0.0/16=lab", "10.1.2.3/32=box", "fd00::/8=inner")
    identify = identifier("network", networks)
    assert identify is not None
    for address, name in (
        (b"10.9.9.9", "site"),
        (b"10.1.9.9", "lab"),
        (b"10.1.2.3", "box"),
        (b"::ffff:10.1.2.3", "box"),
        (b"fd00::1%eth0", "inner"),
        (b"192.0.2.1", "other"),
        (b"unknown", "other"),
    ):
        assert identify(head(), address) == name
        assert identify(head(), address) == name  # as remembered


@pytest.mark.parametrize(
    "value", ["token", "network", "user-agent", "header:X-Forwarded-User", " header: x-user "]
)
def test_ways_to_tell_clients_apart(value: str) -> None:
    assert client_by("proxy.client-by", value).replace(" ", "") == value.lower().replace(" ", "")


@pytest.mark.parametrize(
    "value",
    [
        *("", "tokens", "token:x", "header", "header:", "header:a b", "header:Authorization"),
        *("header:cookie", "header:X-Api-Key", "header:host", 1, None),
    ],
)
def test_what_is_no_way_to_tell_clients_apart(value: object) -> None:
    with pytest.raises(ConfigError, match="header:NAME"):
        client_by("proxy.client-by", value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"proxy_client_by": "token"}, "proxy.client-tokens-file"),
        ({"proxy_client_tokens_file": Path("t")}, "proxy.client-by=token"),
        ({"proxy_client_by": "network"}, "proxy.client-networks"),
        ({"proxy_client_networks": ("10.0.0.0/8=a",)}, "proxy.client-by=network"),
        *(
            ({"proxy_client_by": "network", "proxy_client_networks": (wrong,)}, "NETWORK/BITS=NAME")
            for wrong in ("10.0.0.0/8", "10.0.0.1/8=a", "x=a", "10.0.0.0/8=", "10.0.0.0/8=other")
        ),
        (
            {
                "proxy_client_by": "network",
                "proxy_client_networks": tuple(f"10.0.{n}.0/24=n{n}" for n in range(51)),
            },
            "at most 50 names",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, object], says: str
) -> None:
    settings = dataclasses.replace(Settings(), **changes)  # type: ignore[arg-type]  # any of them
    with pytest.raises(ConfigError, match=says):
        frontend_of(settings)


def test_labels_are_bounded() -> None:
    labels = ClientLabels()
    given = {labels.label(f"client-{n}") for n in range(10_000)}
    assert given == {*(f"client-{n}" for n in range(MOST_CLIENTS)), "other"}
    assert labels.label("client-3") == "client-3"
