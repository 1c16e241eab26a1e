# SPDX-License-Identifier: Apache-2.0
"""What the exporter knows, told to people: the state now, and what happened in the last 24 hours.

Pure. The page at `/` and the terminal view show the same values.
"""
