# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_exporter.config.load import load
from ollama_exporter.config.reload import CurrentSettings
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.target import BasicAuth, HeaderField
from ollama_exporter.errors import ConfigError, RestartNeededError
from ollama_exporter.fleet.target_section import LONGEST_LABEL, target_groups, targets

SECRET = "s3cret"  # noqa: S105 - of these tests alone
WHOLE = """
gpu-1: http://gpu-1:11434
gpu-2:
  url: https://gateway/ollama
  labels: {site: berlin, rack: "7"}
  basic-auth: {user: me, password-file: /run/p}
  headers:
    CF-Access-Client-Id: abc
    CF-Access-Client-Secret: {file: /run/s}
  tls: {ca-file: /ca, cert-file: /c, key-file: /k, server-name: gpu, insecure-skip-verify: true}
  poll-interval: 30s
  expected-models: [mistral]
  keep-warm: {models: {mistral: {keep-alive: 1h}}}
gpu-3: {url: gpu-3, bearer-token-file: /run/t}
"""


def test_a_target_has_all_that_the_only_server_has() -> None:
    first, second, third = targets("targets", yaml.safe_load(WHOLE))
    assert (first.name, first.target.url) == ("gpu-1", "http://gpu-1:11434")
    assert second.labels == (("rack", "7"), ("site", "berlin"))
    target = second.target
    assert target.url == "https://gateway:443/ollama"
    assert target.basic_auth == BasicAuth("me", Path("/run/p"))
    assert target.headers == (
        HeaderField("CF-Access-Client-Id", "abc"),
        HeaderField("CF-Access-Client-Secret", file=Path("/run/s")),
    )
    assert (target.ca_file, target.cert_file, target.key_file) == (
        Path("/ca"), Path("/c"), Path("/k"),
    )  # fmt: skip
    assert (target.server_name, target.insecure_skip_verify) == ("gpu", True)
    assert target.setting("tls.ca-file") == "targets.gpu-2.tls.ca-file"
    assert third.target.token_file == Path("/run/t")

    base = Settings(poll_interval=15.0, expected_models=("llama3.2",), targets=(first, second))
    one, two = base.of_target(first), base.of_target(second)
    assert (one.poll_interval, one.expected_models) == (15.0, ("llama3.2",))
    assert (two.poll_interval, two.expected_models) == (30.0, ("mistral",))
    assert [warm.model for warm in two.keep_warm.models] == ["mistral:latest"]
    assert one.keep_warm.models == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": {}}, r"targets\.a\.url"),
        ({"a": {"url": "x", "token-file": "y"}}, "did you mean bearer-token-file"),
        ({"a/b": "x"}, "a name of letters"), ({5: "x"}, "must be a text, as all keys are"),
        ({"a": {"url": "http://u:p@x"}}, "no user"),
        ({"a": {"url": "x", "labels": {"__address__": "y"}}}, "a label's name"),
        ({"a": {"url": "x", "labels": {"job": "y"}}}, "a label's name"),
        ({"a": {"url": "x", "labels": {"b": 5}}}, "a text"),
        ({"a": {"url": "x", "labels": {"b": "\x1b]0;x"}}}, "printable"),
        ({"a": {"url": "x", "labels": {"b": "y" * LONGEST_LABEL}}}, ""),
        ({"a": {"url": "x", "labels": {"b": "y" * (LONGEST_LABEL + 1)}}}, "at most 256"),
        ({"a": {"url": "x", "labels": {f"l{n}": "y" for n in range(33)}}}, "at most 32"),
        ({"a": {"url": "x", "basic-auth": {"user": "me"}}}, r"basic-auth\.password-file"),
        ({"a": {"url": "x", "headers": [f"X: {SECRET}"]}}, "a mapping"),
        ({"a": {"url": "x", "headers": {"X": {"files": SECRET}}}}, "file: FILE"),
        ({"a": {"url": "x", "headers": {"X": f"\r\n{SECRET}\n"}}}, "") ,
        ({"a": {"url": "x", "headers": {"Host": SECRET}}}, "except those of HTTP"),
        ({"a": {"url": "x", "poll-interval": "10ms"}}, "1s or more"),
        ({"a": {"url": "x", "tls": {"ca": "y"}}}, "accepted: ca-file, cert-file"),
        ("x", "a mapping"), ([], "a mapping"),
        ({f"t{n}": "x" for n in range(10_001)}, "at most 10000"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_without_a_credential(value: Any, said: str) -> None:
    if not said:
        assert targets("targets", value)  # also blanks around a value: they are no part of it
        return
    with pytest.raises(ConfigError, match=said) as caught:
        targets("targets", value)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_list_is_read_as_prometheus_reads_it() -> None:
    found = target_groups(
        "targets",
        [
            {"targets": ["gpu-1:11434", "[fd00::1]:11434"], "labels": {"site": "berlin"}},
            {"targets": ["gpu-2:8443"], "labels": {"__scheme__": "https"}},
        ],
    )
    assert [(each.name, each.target.url) for each in found] == [
        ("gpu-1:11434", "http://gpu-1:11434"),
        ("[fd00::1]:11434", "http://[fd00::1]:11434"),
        ("gpu-2:8443", "https://gpu-2:8443"),
    ]
    assert [each.labels for each in found] == [(("site", "berlin"),)] * 2 + [()]


@pytest.mark.parametrize(
    "value",
    [
        ["gpu-1"], [{"targets": "gpu-1"}], [{"targets": ["a", "a"]}], [{"targets": [5]}],
        [{"targets": ["a"], "labels": {"__scheme__": "ftp"}}], [{"targets": ["http://a"]}],
        [{"targets": ["a"], "labels": {"__metrics_path__": "/"}}], [{"target": ["a"]}], {"a": "b"},
    ],
)  # fmt: skip
def test_a_list_that_prometheus_would_not_read_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError):
        target_groups("targets", value)


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ("ollama.url: x", "ollama.url"), ("ollama.token-file: x", "ollama.token-file"),
        ("ollama.log: journal", "ollama.log"), ("proxy.listen-address: :1", "proxy.listen-address"),
        ("collector.processes: on", "collector.processes"),
        ("defaults: {a: {num-ctx: 1}}", "defaults"),
    ],
)  # fmt: skip
def test_settings_of_one_server_are_refused_beside_targets(
    beside: str, named: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    for fleet in ("targets: {a: x}", f"targets-dir: {tmp_path}"):
        file.write_text(f"{fleet}\n{beside}\n")
        with pytest.raises(ConfigError, match=f"^{named}: .* several"):
            load({}, environment={}, file=file)
    file.write_text("targets: {a: x}\nollama.timeout: 5s\n")
    assert load({}, environment={"OLLAMA_HOST": "x"}, file=file).has_fleet


def test_a_reload_changes_targets_but_not_whether_there_are_several() -> None:
    before = Settings(targets=targets("targets", {"a": "x", "b": "y"}))
    current = CurrentSettings(before)
    assert current.replace(Settings(targets=targets("targets", {"a": "x"}))) == ("targets",)
    with pytest.raises(RestartNeededError, match="targets"):
        current.replace(Settings())
