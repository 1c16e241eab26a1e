# SPDX-License-Identifier: Apache-2.0
"""Watches the processes of the server and of its runners."""
