# SPDX-License-Identifier: Apache-2.0
"""The version, on its own so that whoever needs it imports nothing else."""

__version__ = "0.1.0"
