# SPDX-License-Identifier: Apache-2.0
"""What the proxy sets in requests: keep_alive and num_ctx, by rules."""
