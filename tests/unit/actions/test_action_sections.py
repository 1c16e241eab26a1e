# SPDX-License-Identifier: Apache-2.0
import math
from pathlib import Path

import pytest

from ollama_exporter.actions.defaults.defaults_section import Autopilot, Rule, matches
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.config.load import load
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError

WHOLE = """
keep-warm:
  grace: 10m
  most-per-hour: 3
  load-timeout: 90s
  dry-run: true
  models:
    mistral:
      schedule: Mon-Fri 08:00-18:00 Europe/Berlin
      keep-alive: 2h
    llama3.2:1b:
      keep-alive: -1
      num-ctx: 8192
    bare:
defaults:
  "qwen*":
    keep-alive: 10m
    max-keep-alive: 1h
  "*":
    num-ctx: 8192
    max-num-ctx: 32768
autopilot:
  models: ["mistral", "qwen*"]
  min: 1m
  max: 2h
  least-gaps: 30
"""


def loaded(text: str, folder: Path) -> Settings:
    file = folder / "c.yaml"
    file.write_text(text)
    return load({}, environment={}, file=file)


def test_all_sections(tmp_path: Path) -> None:
    settings = loaded(WHOLE, tmp_path)
    section = settings.keep_warm
    office, small, bare = section.models
    assert (office.model, office.keep_alive) == ("mistral:latest", 7200.0)
    assert office.schedule is not None
    assert small == WarmModel("llama3.2:1b", math.inf, None, 8192)
    assert bare == WarmModel("bare:latest")
    assert (section.grace, section.most_per_hour, section.load_timeout) == (600.0, 3, 90.0)
    assert section.dry_run
    assert settings.defaults == (
        Rule("qwen*", keep_alive=600.0, max_keep_alive=3600.0),
        Rule("*", num_ctx=8192, max_num_ctx=32768),
    )
    assert settings.autopilot == Autopilot(("mistral", "qwen*"), 60.0, 7200.0, 30)


def test_without_sections_nothing_is_done(tmp_path: Path) -> None:
    settings = loaded("keep-warm:\ndefaults: {}\n", tmp_path)
    assert settings == Settings()
    assert settings.keep_warm == KeepWarm()
    assert settings.autopilot is None
    assert loaded("autopilot:\n", tmp_path).autopilot == Autopilot()


def test_expected_by_the_schedule(tmp_path: Path) -> None:
    section = loaded(WHOLE, tmp_path).keep_warm
    night = 1_764_111_600.0  # 2025-11-26 00:00 in Berlin
    assert section.expected(night) == ("llama3.2:1b", "bare:latest")
    assert section.expected(night + 12 * 3600) == ("mistral:latest", "llama3.2:1b", "bare:latest")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keep-warm: [a]", "keep-warm: must be a mapping, not [a]"),
        ("keep-warm: {model: {}}", "keep-warm: model: unknown key; did you mean"),
        ("keep-warm: {models: {a: {keepalive: 1m}}}", "keep-warm.models.a: keepalive: unknown key"),
        ("keep-warm: {models: {a: {zzz: 1}}}", "accepted: schedule, keep-alive, num-ctx"),
        ("keep-warm: {models: {a: {keep-alive: 5 minutes}}}", "must be a duration such as 10m"),
        ("keep-warm: {models: {a: {keep-alive: 5x}}}", 'duration "5x"), not 5x'),
        ("keep-warm: {models: {a: {keep-alive: 0}}}", "more than 0"),
        ("keep-warm: {models: {a: {keep-alive: true}}}", "seconds as a number"),
        ("keep-warm: {models: {a: {keep-alive: null}}}", "-1 forever"),
        ("keep-warm: {models: {a: {num-ctx: 0}}}", "a whole number from 1"),
        ("keep-warm: {models: {a: , 'a:latest': }}", "Ollama takes both names for a:latest"),
        ("keep-warm: {models: {5: {}}}", "must be a text, as all keys are, not 5"),
        ("keep-warm: {grace: 0}", "keep-warm.grace: must be a positive"),
        ("keep-warms: {}", "did you mean keep-warm?"),
        ("defaults: {a: {}}", "defaults.a: must be "),
        ("defaults: {a: 5m}", "defaults.a: must be a mapping, not 5m"),
        (
            "defaults: {a: {keep-alive: 2h, max-keep-alive: 1h}}",
            "must be at most max-keep-alive, 1h, not 2h",
        ),
        ("defaults: {a: {num-ctx: 9, max-num-ctx: 8}}", "at most max-num-ctx, 8"),
        ("autopilot: {min: 2h, max: 1h}", "autopilot.min: must be at most max, 1h, not 2h"),
        ("keep-warm: {models: {a: , 'registry.ollama.ai/library/A': }}", "takes both names for"),
        ("keep-warm: {models: {a: {keep-alive: -.inf}}}", "keep-alive: must be a duration"),
        ("keep-warm: {models: {a: {keep-alive: .inf}}}", "keep-alive: must be a duration"),
        ("keep-warm: {models: {a: {keep-alive: .nan}}}", "keep-alive: must be a duration"),
        ("defaults: {a: {keep-alive: -.inf}}", "keep-alive: must be a duration"),
        ("defaults: {a: {max-keep-alive: -.inf}}", "max-keep-alive: must be a duration"),
        ("autopilot: {min: -.inf}", "autopilot.min: must be a duration"),
        ("defaults: {a: {num-ctx: 1}, A: {num-ctx: 2}}", "defaults: A: the rule a comes first"),
        ("defaults: {a: {num-ctx: 1}, 'a:7b': {num-ctx: 2}}", "defaults: a:7b: the rule a comes"),
        ("defaults: {a: {num-ctx: 1}, library/a: {num-ctx: 2}}", "library/a: the rule a comes"),
        ("defaults: {'*': {num-ctx: 1}, a: {num-ctx: 2}}", "defaults: a: the rule * comes first"),
        ("defaults: {'q*': {num-ctx: 1}, 'qw*': {num-ctx: 2}}", "qw*: the rule q* comes first"),
        ("defaults: {'a:*': {num-ctx: 1}, 'a:b': {num-ctx: 2}}", "a:b: the rule a:* comes first"),
        ("autopilot: {models: [5]}", "autopilot.models"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(text, tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plain_number_is_seconds_also_as_a_text(tmp_path: Path) -> None:
    text = (
        "keep-warm: {models: {a: {keep-alive: '300'}, b: {keep-alive: '-1'}, c: {keep-alive: 1.5}}}"
    )
    models = loaded(text, tmp_path).keep_warm.models
    assert [warm.keep_alive for warm in models] == [300.0, math.inf, 1.5]


@pytest.mark.parametrize(
    ("pattern", "model", "matches"),
    [
        ("*", "mistral:latest", True),
        ("qwen*", "qwen2.5:7b", True),
        ("Qwen2.5", "qwen2.5:7b", True),
        ("qwen2.5:*", "qwen2.5:7b", True),
        ("qwen2.5:14b", "qwen2.5:7b", False),
        ("qwen", "qwen2.5:7b", False),
        ("hf.co/x/*", "hf.co/x/y:q4", True),
    ],
)
def test_patterns(pattern: str, model: str, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    assert Rule(pattern).matches(model) is matches


@pytest.mark.parametrize(
    "patterns", [("a:7b", "a"), ("a", "b", "*"), ("qw*", "q*"), ("a:1b", "a:7b"), ("x/a", "a")]
)
def test_rules_of_which_each_can_apply_are_taken(patterns: tuple[str, ...], tmp_path: Path) -> None:
    rules = ", ".join(f"'{pattern}': {{num-ctx: 1}}" for pattern in patterns)
    settings = loaded(f"defaults: {{{rules}}}", tmp_path)
    assert [rule.pattern for rule in settings.defaults] == list(patterns)


def test_a_pattern_may_have_the_prefixes_that_the_server_does_not_show() -> None:
    assert matches("registry.ollama.ai/library/Llama3.2", "llama3.2:latest")
    assert matches("library/llama*", "llama3.2:1b")
    assert not matches("library/llama3.2:1b", "llama3.2:latest")
