# SPDX-License-Identifier: Apache-2.0
"""The request shim: it sits between client and server and measures each request."""
