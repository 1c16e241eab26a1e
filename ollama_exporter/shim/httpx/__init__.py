# SPDX-License-Identifier: Apache-2.0
"""The shim inside a Python program: transports for httpx and the SDKs built on it."""
