# SPDX-License-Identifier: Apache-2.0
"""The metrics: catalogue, collectors, exposition. Built by `build.py`."""
