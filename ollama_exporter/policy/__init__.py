# SPDX-License-Identifier: Apache-2.0
"""keep_alive: which one would have been right, from where that is known, and acting on it."""
