# SPDX-License-Identifier: Apache-2.0
import ipaddress
import socket
from contextlib import closing
from pathlib import Path

import pytest

from ollama_exporter.host.processes.listening_sockets import listeners, reaches

HEAD = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
)
LINE = b"   0: %s %s %s 00000000:00000000 00:00000000 00000000  1000        0 %d 1 0 100 0 0 10 0\n"


@pytest.mark.parametrize(
    ("family", "address", "table"),
    [
        (socket.AF_INET, "127.0.0.1", "tcp"),
        (socket.AF_INET, "0.0.0.0", "tcp"),  # noqa: S104 - that is the case
        (socket.AF_INET6, "::1", "tcp6"),
        (socket.AF_INET6, "::", "tcp6"),
    ],
)
def test_a_listening_socket_is_found_in_the_kernels_table(
    family: int, address: str, table: str
) -> None:
    with closing(socket.socket(family)) as sock:
        sock.bind((address, 0))
        sock.listen()
        port = sock.getsockname()[1]
        inode = Path(f"/proc/self/fd/{sock.fileno()}").readlink().name
        found = list(listeners(Path(f"/proc/self/net/{table}").read_bytes()))
    mine = next(each for each in found if each.port == port)
    assert f"socket:[{mine.inode}]" == inode
    assert mine.address == ipaddress.ip_address(address)


def test_connections_and_broken_lines_are_passed_over() -> None:
    table = HEAD + b"".join(
        [
            LINE % (b"0100007F:2CAA", b"0100007F:1234", b"01", 5),  # established
            b"   1: 0100007F\n",
            LINE % (b"0100007F:port", b"00000000:0000", b"0A", 6),
            LINE % (b"01:2CAA", b"00000000:0000", b"0A", 6),
            LINE % (b"0100007F:2CAA", b"00000000:0000", b"0A", 7),
        ]
    )
    assert [(str(x.address), x.port, x.inode) for x in listeners(table)] == [
        ("127.0.0.1", 11434, 7)
    ]
    assert list(listeners(b"")) == []


@pytest.mark.parametrize(
    ("host", "address", "there"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),  # noqa: S104 - bound to every address
        ("127.0.0.1", "::", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "192.168.1.7", False),
        ("::1", "::1", True),
        ("localhost", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("ollama.localhost", "::1", True),
        ("localhost", "192.168.1.7", False),
        ("ollama", "172.17.0.2", True),
        ("ollama", "127.0.0.1", True),
        ("192.168.1.7", "192.168.1.7", True),
        ("192.168.1.7", "172.17.0.2", True),  # a published port is mapped to an address within
        ("192.168.1.7", "127.0.0.1", False),
    ],
)
def test_where_a_client_may_end(host: str, address: str, *, there: bool) -> None:
    assert reaches(host, ipaddress.ip_address(address)) is there
