# SPDX-License-Identifier: Apache-2.0
"""Follows and reads the log of the server."""
