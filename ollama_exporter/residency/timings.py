# SPDX-License-Identifier: Apache-2.0
"""Every time and tolerance of this room, in seconds, grouped by the fact that it rests on.

Sources: `sched.go` is server/sched.go of Ollama 0.33.0-rc2; "recorded" means measured on the
recordings in tests/data/polls (0.33.0-rc2 and 0.24.0). Rules take their times from here, so that
one fact of the server has one value. What no fact gives is in `tolerances.py`.
"""

from typing import Final

# -- the wait for memory ---------------------------------------------------------------------------
# After an unload the server waits until the freed memory shows, looking every 250 ms, for 5 s at
# most (sched.go:1441-1499). Nothing else is unloaded meanwhile. On a CPU there is no wait.

MEMORY_WAIT: Final = 5.6  # the longest: the time-out, a look at the GPUs, and a kill
MEMORY_WAIT_USUAL: Final = 5.0  # the time-out
# From an exit to the next birth; recorded: 4.94-5.01, but a busy machine notices exits 0.25 s late.
MEMORY_WAIT_TIMED_OUT: Final = (4.7, 5.15)
MEMORY_WAIT_QUICK: Final = 1.6  # where the freed memory shows at all, it shows by then
MEMORY_WAIT_FIRST_LOOK: Final = 0.36  # the memory was free at the first look
MEMORY_WAIT_LEAST: Final = 0.2  # a shorter gap means that nothing was waited for
NO_MEMORY_WAIT: Final = 0.5  # between two unloads of a server that does not wait
# A removal trails its cause by this much behind another unload: the wait and a kill. Recorded: 6 %
# of expiries come late, by 5.1 s at most. E is written late by as much.
BEHIND_ANOTHER: Final = 6.0
BORN_WITHIN: Final = 6.2  # whatever waited for an unload has its process by then

# -- unloading -------------------------------------------------------------------------------------
# The server kills the process and removes the entry in one step (sched.go:429-461).

PROMPT: Final = 0.35  # from a cause to the exit when no other unload is under way; recorded
DEADLINE_ERROR: Final = 0.05  # a timer fires this much before E as we know it, at most
SLOW_KILL: Final = 3.2  # a look at the GPUs may come before the kill (sched.go:453: 3 s)
SHUTDOWN: Final = 3.0  # a server that ends in order kills its runners before it exits
KEPT_ALIVE: Final = 5.0  # the newest servers remove the entry before they kill the process
EFFECT: Final = 0.7  # from a cause that a request shows to what a poll shows of it
BUSY_AT_OUT_OF_MEMORY: Final = 300.0  # a busy runner leaves when its requests end, not later

# -- loading ---------------------------------------------------------------------------------------

LONGEST_LOAD: Final = 600.0  # the server gives up after 5 minutes without progress
SLOW_FIRST_BYTE: Final = 1.0  # a request that waits longer waits for a load
VICTIM_AT_LOAD_END: Final = 0.03  # the next victim exits so soon after a load has ended: recorded

# -- how well moments are known --------------------------------------------------------------------

SAME_MOMENT: Final = 0.12  # two processes, or a process and a request, at one moment
SAME_DECISION: Final = 0.02  # two exits, or two lines of the log, that follow from one decision
DROPPED_TOGETHER: Final = 0.06  # exits that one out-of-memory causes
NOTICED_AT_ONCE: Final = 0.01  # a pidfd tells an exit this much late, at most
REQUEST_ERROR: Final = 0.05  # of a request's moment as a client or the proxy sees it
ANOTHERS_REQUEST_ERROR: Final = 0.03  # likewise, where the request is for another model
CLOCK_ERROR: Final = 0.1  # of the server's clock against ours, once it is corrected
ANSWER_ERROR: Final = 0.05  # an answer is made at some moment within its poll
SLIDE_ERROR: Final = 0.02  # two polls see a sliding E move by the time between them, up to this
ABOVE_NOW: Final = 0.5  # an E further ahead slides at a keep-alive, not at zero
SAME_BIRTH: Final = 0.5  # a pid is not used again so soon
BIRTH_EARLY: Final = 0.05  # the recorded birth of a process may lie before its cause
BIRTH_LATE: Final = 0.03  # a gap that is off by more shows a busy machine
BIRTH_ERROR: Final = 0.02  # the kernel tells a birth to 10 ms
NOTICED_LATE: Final = 2.0  # or this much on a host that is busy; recorded: 0.4 s
EXIT_ERROR: Final = 0.1  # an exit known less well says nothing about what waited for it
# The entry is removed within 41 ms of the exit (recorded: 650 unloads; once it took 0.25 s), and
# within 70 ms at a load of 20 on two cores (880 unloads). That of a runner that crashed stays until
# the next request.
REMOVED_AFTER_EXIT: Final = 0.3
REMOVED_AT_LAST: Final = 1.0  # on whatever host: a later look would miss the crashes
SLOW_HOST: Final = 5.0  # polls that take long show a busy host: so many times as long at least
REMOVAL_SEEN_LATE: Final = 0.7  # from a removal to the first poll that can show it

# -- how late facts come ---------------------------------------------------------------------------

SCAN: Final = 1.2  # a birth is noticed by a scan once a second, where scans are not reported
SCAN_HANGS: Final = 12.0  # a scan that takes longer is not waited for
POLL_HANGS: Final = 12.0  # a poll is answered by then or never: its time-out
LOG_LAG: Final = 1.0  # a line is read this long after it is written, at most
LOAD_POLLS: Final = 1.1  # polls that wait for the end of a load are no further apart

# -- lines of the log ------------------------------------------------------------------------------

LOGGED_WITHIN: Final = 0.3  # the server logs a removal so soon after the kill
LOGGED_WITH: Final = 0.03  # a line that is written at the very moment of an exit
LOGGED_BIRTH: Final = 0.3  # between the line that a load begins and the birth of its process
LOGGED_SHUTDOWN: Final = 0.2  # requests are given up so soon before the line that the server ends
LISTING_FOLLOWS: Final = 0.5  # a listing that is this much younger than a line must agree with it

# -- memory of our own -----------------------------------------------------------------------------

EXITS_KEPT: Final = 300.0
REQUESTS_KEPT: Final = 120.0  # after their end
SECOND_LOOK: Final = 1.0  # after a listing that alone would decide
SHARED_ENTRY: Final = 60.0  # a model of another server at this address is kept while not listed
