# SPDX-License-Identifier: Apache-2.0
from functools import partial

import pytest

from tests.support.loops import LOOPS, Run, run_on


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on each event loop: transports differ in what they tell, and when."""
    return partial(run_on, str(request.param))
