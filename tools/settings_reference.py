# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md, generated from the table of settings."""

from typing import Final

from ollama_exporter.cli.settings_options import default_text
from ollama_exporter.config.schema import TABLE, Setting

INTRODUCTION: Final = """# Configuration

Nothing needs to be configured. Every setting is a flag of `ollama-exporter`, an environment variable,
and a key of an optional YAML file; a flag beats a variable, a variable beats the file, the file beats
the default. An unknown key is an error that names it.

Generated from the program; `make docs` writes it anew.

| flag | variable | default | meaning |
|---|---|---|---|
"""
END: Final = """
`--config.file` (`OLLAMA_EXPORTER_CONFIG_FILE`) names the file; its keys are the flags without the dashes:

```yaml
ollama.url: http://gpu-box:11434
poll.interval: 15s
expected-model: [mistral, llama3.2]
web.listen-address: [":11487"]
```

## Sections of the file

Three keys of the file are no flags, because they have a structure of their own; without them the exporter only looks.
[policy.md](policy.md) says what each does, and what it never does.

```yaml
keep-warm:
  models:                      # by name; earlier ones go before later ones
    mistral:
      schedule: Mon-Fri 08:00-18:00 Europe/Berlin   # one window or a list; always when left out
      keep-alive: 2h           # 30m when left out; -1 for ever
    llama3.2:
      num-ctx: 8192            # what clients ask for when left out
  grace: 30m                   # after somebody has stopped a model
  most-per-hour: 6             # loads of one model
  load-timeout: 10m
  dry-run: false               # true: say it, do not do it

defaults:                      # of the proxy, by patterns of model names; the first that matches holds
  "qwen*":
    keep-alive: 10m            # for requests that carry none
    num-ctx: 8192              # likewise
    max-keep-alive: 1h         # no request gets a longer one
    max-num-ctx: 32768
  "*":
    max-keep-alive: 4h

autopilot:                     # the proxy's default keep-alive follows the advice
  models: ["*"]
  min: 1m
  max: 4h
  least-gaps: 20               # advice that rests on fewer idle gaps is not followed
```

A schedule is days (`Mon-Fri`, `Mon,Wed`, left out: every day), hours, and a time zone of the IANA database. `22:00-06:00` goes past
midnight, `00:00-24:00` is a whole day. Hours are those of the clock on the wall: one that daylight saving skips does not come, one that
it repeats comes twice. Windows of one model must not overlap.

Durations: `500ms`, `15s`, `1m`, `1h`. Lists in a variable are parted by blanks. `OLLAMA_HOST` is used as
`ollama.url` when that is not set; a wildcard address in it means this machine.

## Check and reload

`ollama-exporter check-config` takes the same flags, prints what would be in force, and ends with 2 and one
line if something is not acceptable. `SIGHUP`, and `POST /-/reload` with `--web.enable-lifecycle`, read
everything again: all of it is taken or none. `poll.interval`, `poll.aligned`, `web.max-requests`,
`web.enable-lifecycle`, `log.level`, `log.format` and the sections `keep-warm`, `defaults` and `autopilot` change at
once; a change of any other setting is refused, and the old configuration stays, because it needs a restart.

## Shell completion

```sh
eval "$(_OLLAMA_EXPORTER_COMPLETE=bash_source ollama-exporter)"
```

`zsh_source` and `fish_source` likewise.

## Endpoints

| path | method | answer |
|---|---|---|
| `/metrics` (`--web.telemetry-path`) | GET, HEAD | metrics; `name[]=` asks for single families; 503 beyond `--web.max-requests` |
| `/` | GET, HEAD | landing page |
| `/-/healthy` | GET, HEAD | 200 while the process serves |
| `/-/ready` | GET, HEAD | 200 when it has started, whether Ollama is up or not |
| `/-/reload` | POST, PUT | 200 reloaded, 500 refused, 403 without `--web.enable-lifecycle` |
"""


def configuration() -> str:
    """Return docs/configuration.md."""
    return INTRODUCTION + "".join(_row(setting) for setting in TABLE) + END


def _row(setting: Setting) -> str:
    flag = f"--{setting.name}" + ("" if setting.is_switch else f"={setting.metavar}")
    flag = flag.replace("|", "\\|")
    default = default_text(setting)
    shown = f"`{default}`" if default else ""
    return f"| `{flag}` | `{setting.variable}` | {shown} | {setting.help} |\n"
