# SPDX-License-Identifier: Apache-2.0
"""The poller: polls the server and publishes what it learns."""
