# SPDX-License-Identifier: Apache-2.0
"""What `UNTRACED` in conftest.py lists runs without coverage, in workers too, and so this file."""

import os
import sys

from coverage import Coverage

from tests.conftest import CHILDREN


def test_neither_this_process_nor_one_that_it_starts_is_traced() -> None:
    assert Coverage.current() is None
    assert type(sys.gettrace()).__module__.partition(".")[0] != "coverage"
    assert CHILDREN not in os.environ
