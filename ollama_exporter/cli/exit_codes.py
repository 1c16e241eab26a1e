# SPDX-License-Identifier: Apache-2.0
"""Exit codes of `warm` and `measure`. Every command exits with 2 after a usage error."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
MISSING: Final = 3
NO_ROOM: Final = 4
TIMEOUT: Final = 5
BUSY: Final = 6
CODES: Final = (
    "Exit codes: 0 done, 1 the server does not answer, a load failed, or a model has left again, "
    "2 usage error, 3 a model is not installed, 4 no room, 5 timeout, 6 the server is in use, "
    "130 interrupted, 143 terminated."
)
