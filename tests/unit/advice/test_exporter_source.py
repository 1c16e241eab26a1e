# SPDX-License-Identifier: Apache-2.0
"""What is made of the answers of exporters. Expositions are read in linear time."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest

from ollama_exporter.advice.exporter_source import (
    from_all_targets,
    from_exporter,
    from_target,
    from_text,
    metrics_url,
    read_samples,
)
from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.errors import SourceError
from tests.support.growth import assert_linear
from tests.support.patience import PATIENCE

NAME = b"ollama_model_memory_bytes"
SINCE = "ollama_model_advice_since_timestamp_seconds"


class Answers(BoundedClient):
    """Gives its answers by URL."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        super().__init__()
        self._answers = answers

    def fetch(
        self, method: str, url: str, *, hint: str = "", form: Mapping[str, str] | None = None
    ) -> bytes:
        assert (method, form) == ("GET", None)
        assert hint in ("", ". Start `ollama-exporter`, or give the URL of a running one.")
        return self._answers[url]


def counted(since: float) -> bytes:
    loads = 'ollama_model_loads_total{model="m:latest"} 3'
    return f"{loads}\nollama_up 1\n{SINCE} {since}\n".encode()


def test_one_exporter_one_of_its_servers_or_all_of_them() -> None:
    begun = time.time() - 3600.0
    groups = [{"labels": {"__param_target": name}} for name in ("a", "b")] + [{"labels": {}}]
    client = Answers(
        {
            "http://x/metrics": counted(begun),
            "http://x/probe?target=a": counted(begun),
            "http://x/probe?target=b": counted(begun - 3600.0),
            "http://x/sd": json.dumps(groups).encode(),
        }
    )
    one, a = from_exporter(client, "http://x/"), from_target(client, "http://x/metrics", "a")
    everything = from_all_targets(client, "http://x")
    loads = [record.values["ollama_model_loads_total"] for record in one.records + a.records]
    assert loads == [3, 3]
    assert one.span == pytest.approx(3600.0, abs=PATIENCE)
    assert a.span == pytest.approx(3600.0, abs=PATIENCE)
    assert everything.span == pytest.approx(7200.0, abs=PATIENCE)
    assert [record.group for record in everything.records] == ["a", "b"]
    assert everything.hosts == 2


@pytest.mark.parametrize(
    ("discovered", "said"),
    [
        (b"<html>", "serves no list of targets"),
        (b"{}", "serves no list of targets"),
        (b"[]", "watches no targets; ask without --target"),
        (b'[{"labels":{"job":"x"}}]', "watches no targets; ask without --target"),
    ],
)
def test_what_has_no_targets_is_one_line(discovered: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        from_all_targets(Answers({"http://x/sd": discovered}), "http://x")


def test_chosen_samples_are_asked_for_by_name() -> None:
    client = Answers({"http://x/m?name[]=ollama_up": b"ollama_up 1\nollama_down 0\n"})
    (sample,) = read_samples(client, "http://x/m", ["ollama_up"])
    assert (sample.name, sample.value) == ("ollama_up", 1.0)


@pytest.mark.parametrize(
    ("url", "metrics"),
    [
        ("http://x", "http://x/metrics"),
        ("http://x/", "http://x/metrics"),
        ("http://x/m", "http://x/m"),
        ("http://[", "http://["),  # the request says what is wrong with it
    ],
)
def test_without_a_path_the_metrics_are_at_the_usual_one(url: str, metrics: str) -> None:
    assert metrics_url(url) == metrics


@pytest.mark.parametrize(
    "make",
    [
        lambda size: NAME + b"{" + b'a="b",' * (size // 6) + b"} 1\n",
        lambda size: NAME + b'{model="' + b'\\"' * (size // 2) + b'"} 1\n',
        lambda size: (NAME + b'{model="m:latest"} 1\n') * (size // 48),
        lambda size: NAME + b"{" * size,
        lambda size: b"a" * size,
        lambda size: b"\n" * size,
        lambda size: NAME + b" " + b"9" * size,
    ],
)
def test_an_exposition_is_read_in_linear_time(make: Callable[[int], bytes]) -> None:
    def work(body: bytes) -> None:
        with suppress(SourceError):
            from_text("ollama_up 1\n" + body.decode(), source="here", now=0.0)

    assert_linear(work, make)
