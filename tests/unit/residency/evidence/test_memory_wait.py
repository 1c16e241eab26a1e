# SPDX-License-Identifier: Apache-2.0
"""How long a server waits for memory after an unload, as the gaps before births teach it."""

from ollama_exporter.residency.evidence.memory_wait import MemoryWait


def test_a_server_on_a_cpu_waits_for_nothing() -> None:
    wait = MemoryWait()
    for _ in range(6):
        wait.learn(0.004)
    assert wait.none
    assert wait.usual(0.01) is True
    assert wait.usual(5.0) is False


def test_a_server_with_a_gpu_waits_until_it_gives_up() -> None:
    wait = MemoryWait()
    assert wait.usual(5.0) is True
    assert wait.usual(3.0) is None
    for _ in range(8):
        wait.learn(5.004)
    assert not wait.none
    assert wait.usual(5.01) is True
    assert wait.usual(5.2) is False
    assert wait.usual(3.0) is False
    assert wait.usual(0.05) is False
