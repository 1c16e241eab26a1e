# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.host.processes.reader import Process
from ollama_exporter.host.processes.table import MOST_PROCESSES, ProcessTable
from ollama_exporter.residency.facts import ProcessExited, ProcessStarted
from tests.support.machine import SERVE, hexed, process, runner

SERVER = process(100)


def serving() -> ProcessTable:
    table = ProcessTable()
    assert table.on_server(1.0, SERVER) == (ProcessStarted(1.0, 1.0, 100, None),)
    return table


def child(pid: int, letter: str = "a", *, start: float = 5.0) -> Process:
    return process(pid, runner(letter), start=start, parent=100)


def test_a_runner_is_born_and_dies() -> None:
    table = serving()
    born = table.on_child(6.0, child(101))
    assert born == (ProcessStarted(6.0, 5.0, 101, hexed("a")),)
    assert [each.pid for each in table.runners()] == [101]
    assert table.on_exit(8.0, 101) == (ProcessExited(8.0, 101),)
    assert table.on_exit(8.1, 101) == ()
    assert table.runners() == []


def test_who_looks_for_gpus_is_held_and_never_told() -> None:
    table = serving()
    assert table.on_child(2.0, process(101, ("llama-server", "--list-devices"), parent=100)) == ()
    assert table.is_tracked(101)
    assert table.on_exit(3.0, 101) == ()


def test_a_child_that_is_no_program_of_its_own_yet_is_looked_at_again() -> None:
    table = serving()
    assert table.on_child(2.0, process(101, SERVE, start=2.0, parent=100)) == ()
    assert not table.is_tracked(101)
    assert table.on_child(3.0, child(101, start=2.0)) == (
        ProcessStarted(3.0, 2.0, 101, hexed("a")),
    )


def test_a_pid_that_passes_to_another_is_a_death_and_a_birth() -> None:
    table = serving()
    table.on_child(6.0, child(101))
    assert table.on_child(9.0, child(101, "b", start=8.5)) == (
        ProcessExited(9.0, 101, alive=6.0),
        ProcessStarted(9.0, 8.5, 101, hexed("b")),
    )


def test_a_death_that_a_look_finds_says_when_it_was_last_alive() -> None:
    table = serving()
    mine = child(101)
    table.on_child(6.0, mine)
    assert table.on_scan(7.0, 101, mine) == ()
    assert table.on_scan(8.0, 101, None) == (ProcessExited(8.0, 101, alive=7.0),)


def test_a_stranger_under_a_known_pid_is_the_death_of_who_had_it() -> None:
    table = serving()
    table.on_child(6.0, child(101))
    stranger = process(101, ("bash",), start=7.5)
    assert table.on_scan(8.0, 101, stranger) == (ProcessExited(8.0, 101, alive=6.0),)
    assert not table.is_tracked(101)


def test_the_servers_death_leaves_its_runners_to_die_themselves() -> None:
    table = serving()
    table.on_child(6.0, child(101))
    assert table.on_exit(7.0, 100) == (ProcessExited(7.0, 100),)
    assert table.server is None
    assert table.on_exit(7.1, 101) == (ProcessExited(7.1, 101),)


def test_a_server_that_gets_the_pid_of_a_runner_ends_it() -> None:
    table = serving()
    table.on_child(6.0, child(101))
    table.on_exit(7.0, 100)
    new = process(101, start=7.5)
    assert table.on_server(8.0, new) == (
        ProcessExited(8.0, 101, alive=6.0),
        ProcessStarted(8.0, 7.5, 101, None),
    )
    assert table.server == new


def test_there_is_a_limit() -> None:
    table = serving()
    for pid in range(MOST_PROCESSES + 50):
        table.on_child(2.0, child(1000 + pid))
    assert len(table.pids()) == MOST_PROCESSES


steps = st.lists(
    st.tuples(
        st.sampled_from(["born", "died", "confirm", "gone", "server"]),
        st.integers(1, 4),  # pid
        st.integers(1, 3),  # start
        st.sampled_from(["a", "b", "-"]),
    ),
    max_size=40,
)


@given(steps)
def test_births_and_deaths_of_a_pid_alternate_whatever_happens(
    story: list[tuple[str, int, int, str]],
) -> None:
    """However pids are used again, who dies was born before, and dies once."""
    table, told = ProcessTable(), list[ProcessStarted | ProcessExited]()
    for at, (what, pid, start, letter) in enumerate(story):
        command = ("llama-server",) if letter == "-" else runner(letter)
        who = process(pid, command, start=float(start))
        match what:
            case "born":
                told += table.on_child(float(at), who)
            case "died":
                told += table.on_exit(float(at), pid)
            case "confirm":
                told += table.on_scan(float(at), pid, who)
            case "gone":
                told += table.on_scan(float(at), pid, None)
            case _:
                told += table.on_server(float(at), process(pid, start=float(start)))
    living: set[int] = set()
    for fact in told:
        if isinstance(fact, ProcessStarted):
            assert fact.pid not in living
            living.add(fact.pid)
        else:
            assert fact.pid in living
            living.remove(fact.pid)
    told_now = {each.pid for each in table.runners()}
    servers = {table.server.pid} if table.server is not None else set()
    assert told_now <= living
    assert servers <= living
