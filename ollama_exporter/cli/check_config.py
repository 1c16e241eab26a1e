# SPDX-License-Identifier: Apache-2.0
"""`check-config`: what would be in force."""

from collections.abc import Iterator
from typing import Any

import click

from ollama_exporter.actions.defaults import defaults_section
from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm import keep_warm_section
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm
from ollama_exporter.cli.present.terminal import echo
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.clock import Timeline
from ollama_exporter.config.load import is_of_one_server
from ollama_exporter.config.schema import TABLE, Settings
from ollama_exporter.config.setting import duration_text, written
from ollama_exporter.config.target import HIDDEN
from ollama_exporter.config.yaml_file import section_of
from ollama_exporter.fleet import target_section
from ollama_exporter.fleet.target_section import TargetSettings
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.metrics.hidden_names import hidden_names
from ollama_exporter.protocol.client import tls_context
from ollama_exporter.protocol.keepalive import compact
from ollama_exporter.protocol.server_credentials import ServerCredentials
from ollama_exporter.shim.proxy.build import frontend_of
from ollama_exporter.state_file import state_file_of
from ollama_exporter.watched_fleet import WatchedFleet
from ollama_exporter.web.locks.server_tls import TlsMaterial
from ollama_exporter.web.locks.web_config import read_web_config


@click.command()
@with_settings()
def command(**values: Any) -> None:  # noqa: ANN401 - the flags of the table
    """Check flags, environment and configuration file, then exit.

    Prints the resulting settings as a configuration file. If one is wrong, prints a line that says
    which and exits with 2. Reads certificates, credential files and the state file; makes no
    connection. Values of header fields are hidden.
    """
    settings = settings_from(values)
    if settings.has_fleet:
        fleet = WatchedFleet(settings, ExporterCollector(log_lines=LogCounter()), Timeline())
        fleet.check(settings)
    else:
        tls_context(settings.target)
        ServerCredentials(settings.target)
        frontend_of(settings)
        state_file_of(settings)
        hidden_names(settings.hide_models, settings.hide_models_key_file)
    for file in (settings.web_config_file, settings.proxy_web_config_file):
        tls = None if file is None else read_web_config(file).tls
        if tls is not None:
            TlsMaterial(tls).context()
    for setting in TABLE:
        value = getattr(settings, setting.field)
        if settings.has_fleet and is_of_one_server(setting.name):
            continue
        unset = value is None or value == ()
        echo(f"# {setting.name}:" if unset else f"{setting.name}: {written(value)}")
    for line in _sections(settings):
        echo(line)


def _sections(settings: Settings) -> Iterator[str]:
    """Yield the lines of the file's sections; none for a section that is not given."""
    if settings.targets:
        yield f"{target_section.KEY}:"
        yield from map(_target, settings.targets)
    if settings.keep_warm != keep_warm_section.OFF:
        yield f"{keep_warm_section.KEY}:"
        yield from _keep_warm(settings.keep_warm)
    if settings.defaults:
        yield f"{defaults_section.DEFAULTS}:"
        for rule in settings.defaults:
            yield from _rule(rule)
    if settings.autopilot is not None:
        yield f"{defaults_section.AUTOPILOT}:"
        yield f"  models: {written(settings.autopilot.models)}"
        yield f"  min: {_keep_alive(settings.autopilot.min)}"
        yield f"  max: {_keep_alive(settings.autopilot.max)}"
        yield f"  least-gaps: {settings.autopilot.least_gaps}"


def _target(each: TargetSettings) -> str:
    """Return one target on one line; values of its header fields are not shown."""
    target = each.target
    auth, tls = target.basic_auth, (target.ca_file, target.cert_file, target.key_file)
    names = ("ca-file", "cert-file", "key-file")
    values: dict[str, object] = {
        "url": target.url,
        "labels": dict(each.labels),
        "bearer-token-file": target.token_file and str(target.token_file),
        "basic-auth": auth and {"user": auth.user, "password-file": str(auth.password_file)},
        "headers": {
            field.name: HIDDEN if field.file is None else {"file": str(field.file)}
            for field in target.headers
        },
        "tls": {
            **{name: str(file) for name, file in zip(names, tls, strict=True) if file},
            **({"server-name": target.server_name} if target.server_name else {}),
            **({"insecure-skip-verify": True} if target.insecure_skip_verify else {}),
        },
        "poll-interval": each.poll_interval and duration_text(each.poll_interval),
        "expected-models": each.expected_models and list(each.expected_models),
    }
    if each.keep_warm is not None:
        values["keep-warm"] = section_of(_keep_warm(each.keep_warm))
    given = {name: value for name, value in values.items() if value}
    return f"  {written(target.name)}: {written(given)}"


def _keep_warm(section: KeepWarm) -> Iterator[str]:
    yield "  models:"
    for warm in section.models:
        yield f"    {written(warm.model)}:"
        if warm.schedule is not None:
            windows = warm.schedule.text.split("; ")
            yield f"      schedule: {written(windows if windows[1:] else windows[0])}"
        yield f"      keep-alive: {_keep_alive(warm.keep_alive)}"
        if warm.num_ctx is not None:
            yield f"      num-ctx: {warm.num_ctx}"
    yield f"  grace: {duration_text(section.grace)}"
    yield f"  most-per-hour: {section.most_per_hour}"
    yield f"  load-timeout: {duration_text(section.load_timeout)}"
    yield f"  dry-run: {written(section.dry_run)}"


def _rule(rule: Rule) -> Iterator[str]:
    yield f"  {written(rule.pattern)}:"
    durations = (("keep-alive", rule.keep_alive), ("max-keep-alive", rule.max_keep_alive))
    yield from (f"    {key}: {_keep_alive(x)}" for key, x in durations if x is not None)
    contexts = (("num-ctx", rule.num_ctx), ("max-num-ctx", rule.max_num_ctx))
    yield from (f"    {key}: {x}" for key, x in contexts if x is not None)


def _keep_alive(seconds: float) -> str:
    return written(compact(seconds))
