# SPDX-License-Identifier: Apache-2.0
"""The reader of /proc on folders that look like it, and on the real one."""

import os
import sys
import time
from pathlib import Path

import pytest

from ollama_exporter.host.processes.procfs import ProcFs
from ollama_exporter.host.processes.reader import Reader
from tests.support.machine import SERVE, runner
from tests.support.opened_files import opened_files

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Proc:
    """A folder like /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def process(
        self,
        pid: int,
        command: tuple[str, ...] = (),
        *,
        parent: int = 1,
        state: str = "S",
        start: int = 500,
        name: str = "ollama",
    ) -> None:
        fields = ["0"] * 50
        fields[0:2] = [state, str(parent)]
        fields[11:13] = ["30", "20"]
        fields[19], fields[21] = str(start), "7"
        self.write(f"{pid}/stat", f"{pid} ({name}) {' '.join(fields)}\n")
        self.write(f"{pid}/cmdline", "".join(f"{word}\0" for word in command))
        (self.root / f"{pid}/task/{pid}").mkdir(parents=True, exist_ok=True)

    def children(self, pid: int, *children: int, thread: int | None = None) -> None:
        listed = " ".join(map(str, children))
        self.write(f"{pid}/task/{thread or pid}/children", f"{listed} ")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.fixture
def reader(proc: Proc) -> Reader:
    return ProcFs(lambda: 10_000.0, root=str(proc.root), since_boot=lambda: 100.0)


def test_a_process_is_read(proc: Proc, reader: Reader) -> None:
    proc.process(7, runner("a"), parent=5, start=500, name="a) (b S 1")
    seen = reader.process(7)
    assert seen is not None
    assert (seen.pid, seen.parent, seen.start, seen.command) == (7, 5, 500.0, runner("a"))
    assert seen.born == pytest.approx(10_000.0 - 100.0 + 500 / TICK)
    used = reader.usage(seen)
    assert used is not None
    assert (used.resident, used.cpu) == (7 * PAGE, 50 / TICK)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_the_dead_are_not_there(proc: Proc, reader: Reader, state: str) -> None:
    proc.process(7, SERVE)
    alive = reader.process(7)
    assert alive is not None
    proc.process(7, (), state=state)
    assert reader.process(7) is None
    assert reader.usage(alive) is None


def test_what_a_pid_has_used_is_not_what_the_one_before_it_used(proc: Proc, reader: Reader) -> None:
    proc.process(7, SERVE, start=500)
    before = reader.process(7)
    proc.process(7, SERVE, start=501)
    assert before is not None
    assert reader.usage(before) is None


def test_what_it_read_is_known_where_the_kernel_permits(proc: Proc, reader: Reader) -> None:
    proc.process(7, ("llama-server", "--model", "/b/sha256-0"))
    process = reader.process(7)
    assert process is not None
    without = reader.usage(process)
    assert without is not None
    assert without.read == 0
    (proc.root / "7/io").write_text("rchar: 4096\nwchar: 3\nread_bytes: 512\n", "ascii")
    used = reader.usage(process)
    assert used is not None
    assert used.read == 4096
    (proc.root / "7/io").write_text("rchar: nonsense\n", "ascii")
    used = reader.usage(process)
    assert used is not None
    assert used.read == 0


def test_who_is_gone_or_hidden_is_not_there(reader: Reader) -> None:
    assert reader.process(7) is None
    assert reader.children(7) is None
    assert reader.is_listening(7, "127.0.0.1", 11434) is None
    assert reader.servers() == []


def test_children_of_every_thread_are_found(proc: Proc, reader: Reader) -> None:
    proc.process(7, SERVE)
    proc.children(7, 20, 21)
    proc.children(7, 22, thread=8)
    proc.children(7, thread=9)
    assert sorted(reader.children(7) or ()) == [20, 21, 22]


def test_where_the_kernel_lists_no_children_parents_are_looked_at(
    proc: Proc, reader: Reader
) -> None:
    proc.process(7, SERVE)
    proc.process(20, runner("a"), parent=7)
    proc.process(21, ("bash",), parent=1)
    assert reader.children(7) == [20]
    proc.process(22, runner("b"), parent=7)
    assert sorted(reader.children(7) or ()) == [20, 22]


def test_servers_are_found_but_not_their_children_on_the_way(proc: Proc, reader: Reader) -> None:
    proc.process(1, ("init",))
    proc.process(7, SERVE)
    proc.process(20, SERVE, parent=7)  # forked, and no program of its own yet
    proc.process(30, SERVE, state="Z")
    proc.process(40, ())  # a thread of the kernel
    proc.write("version", "not a process")
    assert [each.pid for each in reader.servers()] == [7]


TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:2CAA 00000000:0000 0A 0:0 00:0 0 1000 0 77 1
   1: 0200007F:2CAB 00000000:0000 0A 0:0 00:0 0 1000 0 78 1
"""


def test_who_listens_is_told_by_the_socket_that_it_holds(proc: Proc, reader: Reader) -> None:
    proc.process(7, SERVE)
    proc.write("7/net/tcp", TABLE)
    (proc.root / "7/fd").mkdir()
    (proc.root / "7/fd/3").symlink_to("socket:[77]")
    (proc.root / "7/fd/4").symlink_to("/dev/null")
    assert reader.is_listening(7, "127.0.0.1", 11434) is True
    assert reader.is_listening(7, "127.0.0.1", 11435) is False  # listens, but not on that address
    (proc.root / "7/fd/3").unlink()
    assert reader.is_listening(7, "127.0.0.1", 11434) is False  # somebody else does


def test_descriptors_of_another_user_leave_it_open(proc: Proc, reader: Reader) -> None:
    proc.process(7, SERVE)
    proc.write("7/net/tcp", TABLE)
    assert reader.is_listening(7, "127.0.0.1", 11434) is None
    assert reader.is_listening(7, "127.0.0.1", 9) is False  # nobody there does: that is known


MOUNT = (
    "22 1 0:21 / /proc rw,nosuid - proc proc rw,hidepid={}\n23 1 0:22 / /sys rw - sysfs sysfs rw\n"
)


@pytest.mark.parametrize("option", ["invisible", "2", "1", "ptraceable"])
def test_a_proc_that_hides_is_recognised(proc: Proc, reader: Reader, option: str) -> None:
    proc.write("self/mountinfo", MOUNT.format(option))
    assert "hidepid" in (reader.why_hidden() or "")
    proc.process(1, ("init",))  # for root nothing is hidden
    assert reader.why_hidden() is None


def test_a_namespace_of_its_own_is_recognised(proc: Proc, reader: Reader) -> None:
    proc.write("self/mountinfo", MOUNT.format("off"))
    (proc.root / "self/ns").mkdir()
    (proc.root / "self/ns/pid").symlink_to("pid:[4026532500]")
    assert "namespace" in (reader.why_hidden() or "")
    (proc.root / "self/ns/pid").unlink()
    (proc.root / "self/ns/pid").symlink_to("pid:[4026531836]")
    assert reader.why_hidden() is None


def test_this_very_process_is_as_it_should_be() -> None:
    reader = ProcFs(time.time)
    mine = reader.process(os.getpid())
    assert mine is not None
    assert mine.parent == os.getppid()
    assert Path(mine.command[0]).name == Path(sys.executable).name or "python" in mine.command[0]
    assert 0 < time.time() - mine.born < 86400
    used = reader.usage(mine)
    assert used is not None
    assert used.resident > 2**20
    assert used.cpu > 0


def test_a_scan_opens_one_file_for_each_thread_of_the_server_and_no_other(proc: Proc) -> None:
    """The cost of idling: 500 other processes cost nothing."""
    for pid in range(100, 600):
        proc.process(pid, ("sleep",))
    proc.process(7, SERVE)
    for thread in range(7, 19):
        proc.children(7, thread=thread)
    proc.children(7, 20, 21)
    found, opened = opened_files(proc.root, "children", 7)
    assert found == [20, 21]
    assert len(opened) == 1 + 12


def test_no_environment_is_ever_opened(proc: Proc) -> None:
    proc.process(7, SERVE)
    proc.children(7, 20)
    proc.process(20, runner("a"), parent=7)
    proc.write("7/environ", "SECRET=1\0")
    proc.write("20/environ", "SECRET=1\0")
    proc.write("7/net/tcp", TABLE)
    found, opened = opened_files(proc.root, "everything", 7)
    assert found == [20]
    assert any(path.endswith("20/cmdline") for path in opened)
    assert [path for path in opened if path.endswith("environ")] == []


@pytest.mark.parametrize("stat", ["", "7 (ollama) S 1", "7 (ollama) S one " + "0 " * 40])
def test_a_kernel_of_another_make_is_as_if_nothing_could_be_read(
    proc: Proc, reader: Reader, stat: str
) -> None:
    proc.process(7, SERVE)
    (proc.root / "7/stat").write_text(stat, "ascii")
    assert reader.process(7) is None
