# SPDX-License-Identifier: Apache-2.0
"""The live page: HTML, style, one script, the status as JSON, and a stream of what changes."""
