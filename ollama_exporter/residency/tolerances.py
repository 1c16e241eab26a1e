# SPDX-License-Identifier: Apache-2.0
"""What no fact of the server gives: values that were chosen on recordings.

`timings.py` has what the server's source or a measured delay fixes. `python -m bench.truth
--leave-one-out` fits each of these anew without the recording that it judges.
"""

from msgspec import Struct


class Tolerances(Struct, frozen=True):
    """Chosen values, each with the reason for it. Times are in seconds."""

    before_deadline: float = 0.6  # a poll: what leaves after it may have expired
    after_deadline: float = 0.4  # a poll: a timer that fired has removed the model by then
    least_load: float = 3.0  # an eviction, the wait for memory and a load take longer than this
    replaced_within: float = 10.0  # new weights that replaced others are listed by then
    context_changes: float = 600.0  # two changes of context within it are a quarrel of clients
    coverage: float = 0.95  # from this share of loads with a request on, the requests count as all
