# SPDX-License-Identifier: Apache-2.0
"""The version, in its own module so that reading it imports nothing else."""

from typing import Final

__version__ = "0.1.0"
REVISION: Final = "unknown"  # a wheel does not know its commit; the Dockerfile writes it here
