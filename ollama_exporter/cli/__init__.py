# SPDX-License-Identifier: Apache-2.0
"""The command line: argument handling and presentation, one file per command."""

from ollama_exporter.cli.main import cli

__all__ = ["cli"]
