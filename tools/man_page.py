# SPDX-License-Identifier: Apache-2.0
"""Prints the manual page, from the table of settings and the help of the commands.

python -m tools.man_page > ollama-exporter.1
"""

import re
import sys
from collections.abc import Iterator
from typing import Final

from ollama_exporter.config.schema import TABLE
from ollama_exporter.config.setting import as_word
from ollama_exporter.version import __version__
from tools.command_reference import commands

NAME: Final = "ollama\\-exporter"
HEAD: Final = f""".TH OLLAMA\\-EXPORTER 1 "" "ollama_exporter {__version__}" "User Commands"
.SH NAME
{NAME} \\- Prometheus exporter for Ollama
.SH SYNOPSIS
.B {NAME}
[\\fIcommand\\fR] [\\fIoptions\\fR]
.SH DESCRIPTION
Shows which models an Ollama server has in memory, until when, what left memory and why.
Without a command, \\fBserve\\fR runs: it polls the server, and serves metrics and a page on
port 11487.
.SH SETTINGS
Each is a flag of \\fBserve\\fR, a variable, and a key of the file that
\\fB\\-\\-config.file\\fR (OLLAMA_EXPORTER_CONFIG_FILE) names.
"""
FILES: Final = """.SH FILES
.TP
.I /etc/default/ollama\\-exporter
Variables for the service of systemd.
.TP
.I /etc/ollama\\-exporter
For a configuration file, tokens and certificates, which the service's group can read.
.TP
.I /var/lib/ollama\\-exporter
For the state file.
"""


def man_page() -> str:
    """Return the page in the macros of man(7)."""
    return HEAD + "".join(_settings()) + ".SH COMMANDS\n" + "".join(_commands()) + FILES


def _settings() -> Iterator[str]:
    for row in TABLE:
        flag = f"--{row.name}" + ("" if row.is_switch else f"={row.metavar}")
        default = as_word(row.default)
        yield f'.TP\n.BR {_quoted(flag)} ", " {_quoted(row.variable)}\n{_text(row.help)}\n'
        if default:
            yield f"Default: {_text(default)}.\n"


def _commands() -> Iterator[str]:
    for name, text in re.findall(r"\n## (\S+)\n\n```text\n(.*?)\n```\n", commands(), re.DOTALL):
        lines = "\n".join(_text(line) for line in text.splitlines())
        yield f".SS {_text(name)}\n.nf\n{lines}\n.fi\n"


def _quoted(text: str) -> str:
    return '"' + _text(text).replace('"', '""') + '"'


def _text(line: str) -> str:
    """Return a line as text: no character of it is a command of roff."""
    text = line.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.stdout.write(man_page())
