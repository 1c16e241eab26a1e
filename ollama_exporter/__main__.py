# SPDX-License-Identifier: Apache-2.0
"""Entry point of `ollama-exporter` and of `python -m ollama_exporter`."""

from ollama_exporter.cli import cli


def main() -> None:
    """Run the command line: an error becomes one line and an exit code."""
    cli.main(prog_name="ollama-exporter")


if __name__ == "__main__":
    main()
