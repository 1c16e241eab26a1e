# SPDX-License-Identifier: Apache-2.0
"""The group of commands. Each is imported when it is used.

`ollama-exporter --version` must not load a web server, and `serve` starts faster without the rest.
"""

import difflib
import errno
import gc
import importlib
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, Final, cast

import click
from click.shell_completion import CompletionItem

from ollama_exporter.errors import ConfigError, OllamaExporterError, RecordingError
from ollama_exporter.foreign_text import clean, mask_user_info
from ollama_exporter.version import __version__

DEFAULT_COMMAND: Final = "serve"
WORDS: Final = {"help": "--help", "version": "--version"}  # what people type instead of a flag
USAGE: Final = 2  # exit code of errors that another call avoids
# Of output that nobody can have: a full disk, a terminal that was closed, a reader that left.
OUTPUT_LOST: Final = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EPIPE})

# The help of one line stands here so that --help imports nothing.
COMMANDS: Final[dict[str, str]] = {
    "serve": "Poll an Ollama server and serve /metrics (the default command).",
    "warm": "Load models before a request has to wait for them.",
    "measure": "Measure what a call costs cold and warm, and what each wait is made of.",
    "top": "Show in the terminal what is in memory, what left, and why.",
    "demo": "Show the exporter at work on a simulated server.",
    "advise": "Show which keep_alive would have been right for each model.",
    "record": "Write what the exporter sees to a file.",
    "replay": "Run a recording through the tracker: loads and unloads with reasons.",
    "simulate": "Run the simulated Ollama server alone.",
    "dashboards": "Write the dashboards for Grafana.",
    "rules": "Write the alert and recording rules for Prometheus, and their runbooks.",
    "metrics": "Print the catalogue of metrics.",
    "check-config": "Check flags, environment and configuration file, then exit.",
    "healthcheck": "Check whether a running exporter is healthy (exit 0 or 1).",
}


class CommandRefused(click.ClickException):
    """An input file that cannot be read."""

    exit_code = USAGE


class LazyGroup(click.Group):
    """A group whose commands are modules: `command` of `cli/check_config.py` is `check-config`.

    Without a command, or if an option of `serve` comes first, `serve` runs.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the help page."""
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. An unknown one gets a suggestion, as click gives for options."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            name = args[0]
            near = difflib.get_close_matches(name, [*COMMANDS, *WORDS], n=1)
            said = f"no such command {clean(name)!r}"
            if near:
                ctx.fail(f"{said}; did you mean {WORDS.get(near[0], near[0])}?")
            ctx.fail(f"{said}; `ollama-exporter --help` lists all commands")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = _imported(f"ollama_exporter.cli.{cmd_name.replace('-', '_')}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of its own options."""
        if args:
            is_implied = args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")
        else:
            # During completion, what is typed next may become any command.
            is_implied = not ctx.resilient_parsing
        return super().parse_args(ctx, [DEFAULT_COMMAND, *args] if is_implied else args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands and the options of the default command."""
        found = super().shell_complete(ctx, incomplete)
        default = self.get_command(ctx, DEFAULT_COMMAND)
        if incomplete.startswith("-") and default is not None:
            known = {item.value for item in found}
            more = default.shell_complete(ctx, incomplete)
            found += [item for item in more if item.value not in known]
        return found

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run a command. Output that cannot be written is one line and exit code 1."""
        try:
            return super().main(*args, **extra)
        except (OSError, ExceptionGroup) as err:
            lost = _lost_output(err)
            if lost is None:
                raise
            if lost.errno != errno.EPIPE:  # `| head` has what it wanted
                with suppress(OSError):
                    click.echo(f"Error: output cannot be written: {lost.strerror}", err=True)
            _discard_output()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> object:
        """Turn errors into one line: errors of the call exit with 2, all others with 1."""
        try:
            return super().invoke(ctx)
        except ConfigError as err:
            raise click.UsageError(_one_line(err)) from err
        except RecordingError as err:
            raise CommandRefused(_one_line(err)) from err
        except OllamaExporterError as err:
            raise click.ClickException(_one_line(err)) from err


def _lost_output(err: Exception) -> OSError | None:
    """Return the error of a write to standard output or to the terminal, if it is one."""
    if isinstance(err, ExceptionGroup):  # the workload of `simulate` prints in a task
        found = [_lost_output(each) for each in err.exceptions]
        lost = [each for each in found if each is not None]
        return lost[0] if len(lost) == len(found) else None
    if isinstance(err, OSError) and err.errno in OUTPUT_LOST and err.filename is None:
        return err
    return None


def _discard_output() -> None:
    """Let what is buffered go nowhere: Python would fail to write it once more as it ends."""
    with suppress(OSError, ValueError):  # closed, or not a file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _imported(name: str) -> ModuleType:
    """Import a command's module, without what no command needs."""
    # httpx imports its own command line with it: rich and pygments, 34 ms and 3 MiB. It works
    # without that module, and None here is how Python is told that there is none.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed forgets None
    gc.disable()  # what is imported stays: the collections meanwhile find nothing, in 30 ms
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()


def _one_line(err: OllamaExporterError) -> str:
    """Return the message of an error, which may quote a server or a file."""
    return clean(mask_user_info(str(err)))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without a command, `serve` runs: `ollama-exporter --help` is this page, "
    "`ollama-exporter serve --help` lists its flags.",
)
@click.version_option(__version__, prog_name="ollama-exporter")
def cli() -> None:
    """Prometheus exporter for Ollama: what is loaded, until when, what left memory and why."""
