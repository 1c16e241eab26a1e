# SPDX-License-Identifier: Apache-2.0
"""The request shim: what every wait was made of, seen from between client and server."""
