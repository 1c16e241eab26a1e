# SPDX-License-Identifier: Apache-2.0
"""The command `warm`: loads models before anybody waits for them."""
