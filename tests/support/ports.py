# SPDX-License-Identifier: Apache-2.0
"""Ports for programs that must be told one before they start, and cannot be asked for it later."""

import random
import socket
from typing import Final

# Below the range from which systems take a port for who asks for port 0, and for each client's
# side: nothing of another test can take one between its choice and its use.
RANGE: Final = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on, nor is given unasked."""
    chance = random.SystemRandom()  # pytest-randomly seeds the other one alike in each worker
    while True:
        port = chance.choice(RANGE)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
