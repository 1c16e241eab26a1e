# SPDX-License-Identifier: Apache-2.0
"""The poller: asks the server what is loaded and publishes what it learned."""
