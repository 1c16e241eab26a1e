# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md, generated from the table of settings."""

import textwrap
from typing import Final

from ollama_exporter.config.schema import ROWS, TABLE
from ollama_exporter.config.setting import Setting, as_word

INTRODUCTION: Final = """# Configuration

Nothing needs to be configured. Every setting is a flag of `ollama-exporter`, an environment variable, and a key of an
optional YAML file. A flag beats a variable, a variable beats the file, the file beats the default. An unknown key is
an error.

This page is generated from the program by `make docs`.

"""
END: Final = """
`--config.file` (`OLLAMA_EXPORTER_CONFIG_FILE`) names the file. Its keys are the flags without the dashes. They are
flat: `poll.interval`, not `interval` below `poll`.

```yaml
ollama.url: http://gpu-box:11434
poll.interval: 15s
expected-model: [mistral, llama3.2]
web.listen-address: [":11487"]
collector.processes: on
```

The same values work in the file, in a variable and on the command line:

* durations: `500ms`, `15s`, `1m`, `1h30m`; a plain number is seconds
* switches: `true`, `yes`, `on`, `1` and `false`, `no`, `off`, `0`; on the command line `--poll.aligned` and
  `--no-poll.aligned`
* lists: a YAML list, or names separated by commas or blanks; a flag can also be repeated
* words such as `auto` or `debug` in any case; `warning` is `warn`

`OLLAMA_HOST` is used as `ollama.url` if that is not set. A wildcard address in it means this machine.

## Sections of the file

Four keys of the file are not flags, because each holds a mapping. `targets` names several servers
([fleet.md](fleet.md) lists its keys). Without the other three the exporter only looks; [policy.md](policy.md) says what
each does, and what it never does.

```yaml
keep-warm:
  models:                      # by name; earlier ones are loaded before later ones
    mistral:
      schedule: Mon-Fri 08:00-18:00 Europe/Berlin   # one window or a list (default: always)
      keep-alive: 2h           # default 30m; -1 means forever
    llama3.2:
      num-ctx: 8192            # default: what clients ask for
  grace: 30m                   # how long a model stays unloaded after somebody has stopped it
  most-per-hour: 6             # loads of one model
  load-timeout: 10m
  dry-run: false               # true: log what would be done, and do nothing

defaults:                      # of the proxy, by patterns of model names; the first match applies
  "qwen*":
    keep-alive: 10m            # for requests without keep_alive
    num-ctx: 8192              # for requests without num_ctx
    max-keep-alive: 1h         # larger values in requests are lowered to this
    max-num-ctx: 32768
  "*":
    max-keep-alive: 4h

autopilot:                     # the proxy's default keep-alive follows the advice
  models: ["*"]
  min: 1m
  max: 4h
  least-gaps: 20               # ignore advice that is based on fewer idle gaps
```

```yaml
targets:
  gpu-1: http://gpu-1:11434
  gpu-2: {url: https://gpu-2.example, bearer-token-file: /run/secrets/gpu-2, labels: {site: berlin}}
```

A schedule is days (`Mon-Fri`, `Mon,Wed`; default: every day), hours, and a time zone of the IANA database.
`22:00-06:00` goes past midnight, `00:00-24:00` is a whole day. Hours are local time: an hour that daylight saving
skips does not occur, an hour that it repeats occurs twice. Windows of one model must not overlap.

## Check and reload

`ollama-exporter check-config` takes the same flags and prints the settings that would be in force, as a configuration
file. If something is not accepted, it prints one line and exits with 2.

`SIGHUP`, and `POST /-/reload` with `--web.enable-lifecycle`, read everything again. Either all changes are applied or
none. A reload changes these settings: {reloadable}. A change of any other setting is refused, because it needs a
restart; the old configuration stays in force. The log line "Configuration reloaded" lists what changed.

## Shell completion

```sh
eval "$(_OLLAMA_EXPORTER_COMPLETE=bash_source ollama-exporter)"
```

`zsh_source` and `fish_source` work as well.

## Endpoints

| path | method | answer |
|---|---|---|
| `/metrics` (`--web.telemetry-path`) | GET, HEAD | metrics; `name[]=` selects; 503 beyond `--web.max-requests` |
| `/` | GET, HEAD | [the live page](page.md) |
| `/api/v1/status` | GET, HEAD | what the page shows, as JSON; `seconds=` says how far back |
| `/api/v1/targets` | GET, HEAD | several servers in short, as JSON; 404 where one is watched |
| `/events` | GET, HEAD | what changes, as server-sent events; 503 beyond 100 readers |
| `/page/{name}` | GET, HEAD | style, script and icon of the page |
| `/probe` | GET, HEAD | metrics of one target: `target=NAME`; 404 unknown, 403 refused |
| `/sd` | GET, HEAD | this exporter and its targets for `http_sd_configs` of Prometheus |
| `/-/healthy` | GET, HEAD | 200 while the process serves |
| `/-/ready` | GET, HEAD | 200 after the start, even if Ollama is down |
| `/-/reload` | POST, PUT | 200 reloaded, 500 refused, 403 without `--web.enable-lifecycle` |
| `/-/announce` | POST | 200 noted; 403 unless from this machine; 409 for another server |
"""


def configuration() -> str:
    """Return docs/configuration.md."""
    table = "".join(_row(setting) for setting in TABLE)
    names = [f"`{row.name}`" for row in ROWS.values() if row.reloadable]
    reloadable = f"{', '.join(names[:-1])} and {names[-1]}"
    return INTRODUCTION + table + _wrapped(END.replace("{reloadable}", reloadable))


def _wrapped(page: str) -> str:
    """Wrap the paragraph that holds the generated list."""
    paragraphs = page.split("\n\n")
    return "\n\n".join(
        textwrap.fill(" ".join(each.split()), 119, break_long_words=False, break_on_hyphens=False)
        if "A reload changes these" in each
        else each
        for each in paragraphs
    )


def _row(setting: Setting) -> str:
    flag = f"--{setting.name}" + ("" if setting.is_switch else f"={setting.metavar}")
    default = as_word(setting.default)
    shown = f", default `{default}`" if default else ""
    head = f"* `{flag}`, `{setting.variable}`{shown}:"
    body = textwrap.fill(
        setting.help,
        119,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{head}\n{body}\n"
