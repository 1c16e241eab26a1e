# SPDX-License-Identifier: Apache-2.0
"""Recordings: what the sources saw, written to a file and run again."""
