# SPDX-License-Identifier: Apache-2.0
"""Prometheus exporter for Ollama: what is loaded, until when, what left memory and why."""

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"
