# SPDX-License-Identifier: Apache-2.0
"""The outcomes of a renewal."""

from enum import StrEnum


class RenewalOutcome(StrEnum):
    """The result of a renewal."""

    SET = "set"  # the model now has the keep_alive
    LONGER = "longer"  # its keep-alive was as long, or longer
    BUSY = "busy"  # in use, so left alone
    ABSENT = "absent"  # not resident, so left alone
    OUTDATED = "outdated"  # its name has other weights by now: a request would load those
    UNKNOWN_CONTEXT = "unknown_context"  # an old server does not list the context to send
