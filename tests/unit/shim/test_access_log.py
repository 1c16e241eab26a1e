# SPDX-License-Identifier: Apache-2.0
import logging

from tests.support.benches import Bench
from tests.support.exporting import Records, same_logger


def test_requests_are_logged_at_debug_level_unless_an_access_log_is_wanted() -> None:
    bench, log = Bench(), Records()
    with same_logger() as logger:
        logger.addHandler(log)
        for level, lines in ((logging.INFO, 0), (logging.DEBUG, 1)):
            logger.setLevel(level)
            bench.answer(bench.ask())
            assert log.count("Request") == lines
