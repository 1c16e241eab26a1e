# SPDX-License-Identifier: Apache-2.0
import socket

from ollama_exporter.cli.demo import PORT, free_port, introduction
from tests.support import ports


def test_a_free_port_is_taken_as_it_is() -> None:
    port = ports.free_port()
    assert free_port(port) == port


def test_a_taken_port_gives_way_to_another_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        assert free_port(port) not in (0, port)


def test_the_introduction_names_the_urls_and_says_when_the_port_is_another_one() -> None:
    usual = "\n".join(introduction("http://127.0.0.1:1234", PORT, 11435))
    assert "http://127.0.0.1:1234" in usual
    assert "http://127.0.0.1:11487/metrics" in usual
    assert "taken" not in usual
    other = "\n".join(introduction("http://127.0.0.1:1234", 4321, 5432))
    assert "http://127.0.0.1:4321/metrics" in other
    assert "http://127.0.0.1:5432" in other
    assert "port 11487 is taken" in other
