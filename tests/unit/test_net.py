# SPDX-License-Identifier: Apache-2.0
import socket

import pytest

from ollama_exporter.errors import StartError
from ollama_exporter.net import listen, listen_nearby, spelled
from tests.support.ports import free_port


def test_an_answer_in_two_writes_does_not_wait_for_an_acknowledgement() -> None:
    (listening,) = listen(["127.0.0.1:0"], field="web.listen-address")
    with listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_port_is_kept_once_it_is_chosen_and_another_one_is_taken_then() -> None:
    wanted = free_port()
    chosen = [listen_nearby("127.0.0.1", wanted, field="demo") for _ in range(3)]
    ports = [int(each.getsockname()[1]) for each in chosen]
    for each in chosen:
        each.close()
    assert (ports[0], len(set(ports))) == (wanted, 3)


def test_no_host_means_all_interfaces() -> None:
    (listening,) = listen([":0"], field="web.listen-address")
    with listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert spelled(listening).endswith(f":{port}")


def test_a_taken_address_is_named_and_the_others_are_let_go() -> None:
    (taken,) = listen(["127.0.0.1:0"], field="web.listen-address")
    address = spelled(taken)
    with taken, pytest.raises(StartError, match="Address already in use") as caught:
        listen(["127.0.0.1:0", address], field="web.listen-address")
    assert address in str(caught.value)
