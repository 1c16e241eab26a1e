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


def test_a_runner_that_was_alone_and_one_beside_others_teach_different_waits() -> None:
    wait = MemoryWait()
    for _ in range(20):
        wait.learn(5.0)
        wait.learn(0.7, alone=True)
    assert (wait.usual(0.7), wait.usual(5.0)) == (False, True)
    assert (wait.usual(0.7, alone=True), wait.usual(5.0, alone=True)) == (True, False)


def test_a_machine_on_which_waits_end_late_leaves_a_doubt() -> None:
    wait = MemoryWait()
    for late in (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0):
        wait.learn(4.99 + late)
    assert wait.usual(5.14) is None
    assert wait.usual(4.8) is None
    assert wait.usual(3.0) is False
