# SPDX-License-Identifier: Apache-2.0
"""From polls and other facts to loads and unloads with reasons. Pure: no I/O, no clock.

Data flows one way: facts.py (what goes in) -> tracker.py -> events.py (what comes out).
"""
