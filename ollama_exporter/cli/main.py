# SPDX-License-Identifier: Apache-2.0
"""The group of commands, each imported when it is used.

`ollama-exporter --version` must not pay for a web server, and a scrape half a second after the
start leaves no room for what `serve` does not need.
"""

import importlib
from typing import Final, cast

import click
from click.shell_completion import CompletionItem

from ollama_exporter.errors import ConfigError, OllamaExporterError, RecordingError
from ollama_exporter.foreign_text import clean, mask_user_info
from ollama_exporter.version import __version__

DEFAULT_COMMAND: Final = "serve"
USAGE: Final = 2  # exit code of everything that the user can mend in the call

# name -> (module, help of one line). The line stands here so that --help imports nothing.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "serve": ("serve", "Poll an Ollama server and serve /metrics (the default command)."),
    "warm": ("warm", "Load models before anybody waits for them."),
    "measure": (
        "measure",
        "Measure what a call costs cold and warm, and what each wait is made of.",
    ),
    "demo": ("demo", "Show the exporter at work on a simulated server."),
    "advise": ("advise", "Say which keep_alive would have been right for each model."),
    "record": ("record", "Write what the exporter sees to a file."),
    "replay": ("replay", "Run a recording through the tracker: loads and unloads with reasons."),
    "simulate": ("simulate", "Run the simulated Ollama server alone."),
    "dashboards": ("dashboards", "Write the dashboards for Grafana."),
    "rules": ("rules", "Write the alert and recording rules for Prometheus, and their runbooks."),
    "metrics": ("metrics", "Print the catalogue of metrics."),
    "check-config": ("check_config", "Check flags, environment and configuration file, then end."),
    "healthcheck": ("healthcheck", "Ask a running exporter whether it is healthy (exit 0 or 1)."),
}


class CommandRefused(click.ClickException):
    """An input that cannot be read: not our failure, and not a wrong flag."""

    exit_code = USAGE


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own: `cli/<module>.py`, attribute `command`.

    Without a command, or with an option of `serve` first, `serve` runs.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ollama_exporter.cli.{COMMANDS[cmd_name][0]}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of its own options."""
        completing = ctx.resilient_parsing  # then no word yet may become any command
        if (not args and not completing) or (
            args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")
        ):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer commands, and the options of the default one."""
        found = super().shell_complete(ctx, incomplete)
        default = self.get_command(ctx, DEFAULT_COMMAND)
        if incomplete.startswith("-") and default is not None:
            known = {item.value for item in found}
            more = default.shell_complete(ctx, incomplete)
            found += [item for item in more if item.value not in known]
        return found

    def invoke(self, ctx: click.Context) -> object:
        """Turn our errors into one line: usage errors exit with 2, the rest with 1."""
        try:
            return super().invoke(ctx)
        except ConfigError as err:
            raise click.UsageError(_one_line(err)) from err
        except RecordingError as err:
            raise CommandRefused(_one_line(err)) from err
        except OllamaExporterError as err:
            raise click.ClickException(_one_line(err)) from err


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
