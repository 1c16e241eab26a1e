# SPDX-License-Identifier: Apache-2.0
"""Evidence from the machine where the server runs: its processes and its log."""
