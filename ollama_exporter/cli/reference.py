# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md, generated from the table of settings."""

from typing import Final

from ollama_exporter.cli.options import default_text
from ollama_exporter.settings_table import TABLE, Setting

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

Durations: `500ms`, `15s`, `1m`, `1h`. Lists in a variable are parted by blanks. `OLLAMA_HOST` is used as
`ollama.url` when that is not set; a wildcard address in it means this machine.

## Check and reload

`ollama-exporter check-config` takes the same flags, prints what would be in force, and ends with 2 and one
line if something is not acceptable. `SIGHUP`, and `POST /-/reload` with `--web.enable-lifecycle`, read
everything again: all of it is taken or none. `poll.interval`, `poll.aligned`, `web.max-requests`,
`web.enable-lifecycle`, `log.level` and `log.format` change at once; a change of any other setting is refused,
and the old configuration stays, because it needs a restart.

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
