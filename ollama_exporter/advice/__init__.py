# SPDX-License-Identifier: Apache-2.0
"""Which keep_alive would have been right for each model, and what it would have cost."""
