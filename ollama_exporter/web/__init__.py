# SPDX-License-Identifier: Apache-2.0
"""The HTTP side: metrics, live page, lifecycle. Starlette routes on a uvicorn server."""
