# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from click.testing import CliRunner

from ollama_exporter.cli.chosen_target import chosen_target
from ollama_exporter.cli.main import cli
from ollama_exporter.config.load import load
from ollama_exporter.errors import ConfigError

SECRET = "s3cret"  # noqa: S105 - of this test alone


def test_targets_can_be_pasted_back_and_hide_what_lets_us_in(tmp_path: Path) -> None:
    password = tmp_path / "p"
    password.write_text("x")
    file = tmp_path / "c.yaml"
    file.write_text(
        f"""
targets:
  gpu-1: http://gpu-1:11434
  gpu-2:
    url: https://gpu-2
    labels: {{site: berlin}}
    basic-auth: {{user: me, password-file: {password}}}
    headers: {{X-Key: {{file: {password}}}}}
    tls: {{server-name: gpu, insecure-skip-verify: true}}
    poll-interval: 30s
    expected-models: [mistral]
    keep-warm: {{models: {{mistral: {{keep-alive: 1h, schedule: "08:00-18:00 UTC"}}}}, grace: 5m}}
probe.allow: [10.0.0.0/8]
"""
    )
    done = CliRunner().invoke(cli, ["check-config", f"--config.file={file}"])
    assert done.exit_code == 0, done.output
    again = tmp_path / "again.yaml"
    again.write_text(done.output)
    assert load({}, file=again, environment={}) == load({}, file=file, environment={})
    file.write_text(f"targets: {{a: {{url: x, headers: {{X-Key: {SECRET}}}}}}}\n")
    done = CliRunner().invoke(cli, ["check-config", f"--config.file={file}"])
    assert (done.exit_code, SECRET in done.output) == (0, False)


def test_a_target_that_cannot_be_asked_is_said_in_one_line(tmp_path: Path) -> None:
    file, folder = tmp_path / "c.yaml", tmp_path / "targets"
    folder.mkdir()
    (folder / "a.yaml").write_text("a: {url: x, bearer-token-file: nowhere}\n")
    for text in (f"targets-dir: {folder}\n", "targets: {a: {url: x, tls: {cert-file: nowhere}}}\n"):
        file.write_text(text.replace("url: x", "url: https://x"))
        done = CliRunner().invoke(cli, ["check-config", f"--config.file={file}"])
        assert done.exit_code != 0
        assert "nowhere" in done.output


def test_a_command_finds_its_target_in_the_configuration_and_in_the_folder(tmp_path: Path) -> None:
    file, folder = tmp_path / "c.yml", tmp_path / "targets"
    folder.mkdir()
    (folder / "a.yaml").write_text("b: http://b:1\n")
    file.write_text(f"targets: {{a: http://a:1}}\ntargets-dir: {folder}\n")
    settings = load({}, file=file, environment={})
    for name in ("a", "b"):
        found = chosen_target(settings, name)
        assert found is not None
        assert found.target.url == f"http://{name}:1"
    for absent in (None, "c"):
        with pytest.raises(ConfigError, match="one of the targets: a, b"):
            chosen_target(settings, absent)
