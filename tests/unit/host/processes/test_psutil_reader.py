# SPDX-License-Identifier: Apache-2.0
"""The reader of Mac and Windows, on this system: processes that are dead, gone or others now."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from ollama_exporter.host.processes.psutil_reader import PsutilReader
from tests.support.timelines import GivenTimeline

READER = PsutilReader(GivenTimeline(time.time))


def test_a_process_that_has_ended_is_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read() == b""  # it has ended; nobody has taken note of it
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert READER.process(child.pid) is None
    assert READER.process(child.pid) is None
    assert READER.children(child.pid) is None
    assert READER.is_listening(child.pid, "127.0.0.1", 1) is None


def test_a_pid_that_belongs_to_another_process_now_has_no_usage() -> None:
    mine = READER.process(os.getpid())
    assert mine is not None
    assert READER.usage(mine) is not None
    assert READER.usage(replace(mine, start=mine.start - 1.0)) is None
    assert READER.usage(replace(mine, pid=2**22 + 1)) is None


@pytest.mark.skipif(not hasattr(os, "getppid"), reason="this system has no parents")
def test_this_process_is_a_child_of_its_parent() -> None:
    assert os.getpid() in (READER.children(os.getppid()) or ())
