# SPDX-License-Identifier: Apache-2.0
"""Every spelling of an address of one's own is recognised."""

import socket
from contextlib import closing

import pytest

from ollama_exporter.net import listen
from ollama_exporter.own_address import own_socket

ANY = "0.0.0.0"  # noqa: S104 - loopback is what it reaches
HAS_IPV6 = socket.has_dualstack_ipv6()


def own_addresses() -> list[str]:
    """Return the address by which this machine would leave it, if there is one."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [str(probe.getsockname()[0])]


@pytest.mark.parametrize(
    ("listens_on", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "LOCALHOST"),
        ("127.0.0.1", "127.1"),
        ("127.0.0.1", "2130706433"),
        ("127.0.0.1", "0x7f.0.0.1"),
        ("127.0.0.1", ANY),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        (ANY, "127.0.0.1"),
        (ANY, "127.0.0.2"),
        *[(ANY, address) for address in own_addresses()],
        *[("", host) for host in ("127.0.0.1", "localhost", *own_addresses())],
    ],
)
def test_an_own_address_is_recognised(listens_on: str, host: str) -> None:
    (listening,) = listen([f"{listens_on}:0"], field="proxy.listen-address")
    with listening:
        port = listening.getsockname()[1]
        assert own_socket(host, port, [listening]) is listening
        assert own_socket(host, port + 1, [listening]) is None


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
def test_ipv6_spellings_are_recognised() -> None:
    try:
        (listening,) = listen(["[::1]:0"], field="proxy.listen-address")
    except Exception:  # noqa: BLE001 - compiled in, but off
        pytest.skip("no IPv6 here")
    with listening:
        port = listening.getsockname()[1]
        for host in ("::1", "0:0:0:0:0:0:0:1", "::"):
            assert own_socket(host, port, [listening]) is listening


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.2", "absent.invalid", "x" * 80])
def test_another_address_is_not_one_s_own(host: str) -> None:
    (listening,) = listen(["127.0.0.1:0"], field="proxy.listen-address")
    with listening:
        assert own_socket(host, listening.getsockname()[1], [listening]) is None


def test_another_machine_is_not_this_one_on_all_addresses() -> None:
    (listening,) = listen([f"{ANY}:0"], field="proxy.listen-address")
    with listening:
        assert own_socket("192.0.2.1", listening.getsockname()[1], [listening]) is None


@pytest.mark.parametrize("host", ["::1", "2001:db8::1"])
def test_an_address_of_ipv6_does_not_reach_a_socket_of_ipv4(host: str) -> None:
    (listening,) = listen([f"{ANY}:0"], field="proxy.listen-address")
    with listening:
        assert own_socket(host, listening.getsockname()[1], [listening]) is None
