# SPDX-License-Identifier: Apache-2.0
"""The command `warm`: loads models before a request has to wait for them."""
