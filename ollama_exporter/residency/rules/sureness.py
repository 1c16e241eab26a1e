# SPDX-License-Identifier: Apache-2.0
"""How sure a reason is, by the evidence that it rests on: how often that was right so far.

Counted on the recordings in tests/data/polls, over polls, requests, processes and both levels of
the log; each unload counts once for each evidence. `python -m bench.truth --evidence` prints the
table anew. A test judges each recording by the counts of the others.
"""

from collections.abc import Mapping
from typing import Final

from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.rules.verdict import Verdict

Counts = Mapping[Evidence, tuple[int, int]]  # right, of so many

COUNTED: Final[Counts] = {
    Evidence.REQUEST_OUT_OF_MEMORY: (27, 31),
    Evidence.OTHER_MODEL_SERVED: (133, 134),
    Evidence.OTHER_MODEL_WAITED: (678, 681),
    Evidence.REQUEST_CRASHED: (35, 36),
    Evidence.STOP_CALL: (27, 27),
    Evidence.NEW_WEIGHTS_WAITED: (1, 1),
    Evidence.OTHER_OPTIONS_WAITED: (149, 150),
    Evidence.NEWCOMER: (644, 704),
    Evidence.ANOTHER_OUT_OF_MEMORY: (12, 13),
    Evidence.OTHER_MODEL_STARTED: (406, 413),
    Evidence.OTHERS_DUE_WITH_IT: (1, 2),
    Evidence.BUSY_AT_OUT_OF_MEMORY: (4, 4),
    Evidence.DUE_BUT_NOT_NEEDED: (16, 20),
    Evidence.FIRST_OF_SEVERAL: (25, 25),
    Evidence.CONDEMNED_WHILE_BUSY: (14, 14),
    Evidence.DEADLINE_SET_BACK: (13, 13),
    Evidence.DEADLINE_BETWEEN_POLLS: (94, 99),
    Evidence.DEADLINE_BEHIND_ANOTHER: (4, 4),
    Evidence.KEEP_ALIVE_ZERO: (90, 92),
    Evidence.OTHER_DIGEST: (2, 4),
    Evidence.NOTHING_STARTED: (77, 83),
    Evidence.OTHERS_LEFT_WITH_IT: (8, 9),
    Evidence.AT_LOAD_END: (7, 7),
    Evidence.LEFT_TOGETHER: (5, 5),
    Evidence.EXITED_AT_DEADLINE: (73, 73),
    Evidence.LISTED_AFTER_EXIT: (31, 31),
    Evidence.NO_DEADLINE_KEPT: (56, 62),
    Evidence.LOG_LOAD_BETWEEN_POLLS: (79, 82),
    Evidence.LOG_ROOM_WANTED: (13, 13),
    Evidence.LOG_RUNNER_DIED: (30, 30),
    Evidence.LOG_OUT_OF_MEMORY: (26, 29),
    Evidence.LOG_EVICTED: (491, 491),
    Evidence.LOG_OPTIONS: (118, 118),
    Evidence.LOG_STOPPED: (67, 67),
    Evidence.LOG_CRASHED: (4, 4),
    Evidence.LOG_EXPIRED: (21, 21),
    Evidence.ANOTHER_ENDED_BY_ITSELF: (4, 4),
    Evidence.BACK_SOON: (9, 9),
    Evidence.BACK_WITH_OTHER_CONTEXT: (137, 149),
    Evidence.SAME_WEIGHTS_STARTED: (113, 114),
    Evidence.SAME_WEIGHTS_OTHER_CONTEXT: (1, 1),
    Evidence.SERVER_EXITED: (43, 43),
}


def share(evidence: Evidence, counts: Counts) -> float:
    """Return the share of reasons with this evidence that are right, from 0 to 1.

    It is the mean of what the counts leave possible: one half where nothing was counted.
    """
    right, of = counts.get(evidence, (0, 0))
    return (right + 1) / (of + 2)


def sure(found: Verdict) -> float:
    """Return how likely a reason is right, from 0 to 1. An unknown one is 0."""
    if found.reason is Reason.UNKNOWN:
        return 0.0
    return round(share(found.evidence[0], COUNTED), 2)
