# SPDX-License-Identifier: Apache-2.0
"""The in-process shim: transports for httpx, and for the SDKs built on it."""
