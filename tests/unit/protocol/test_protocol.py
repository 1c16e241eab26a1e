# SPDX-License-Identifier: Apache-2.0
"""Names, wire, keep-alive forms and failure texts."""

import json
import math
from typing import Any

import pytest

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.error_text import Failure, classify
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.wire import (
    RunningModel,
    decode_ps,
    decode_tags,
    decode_version,
    models_from,
    parse_time,
)
from tests.support.paths import DATA

RAW = DATA / "http"


def body_of(name: str) -> bytes:
    head, _, body = (RAW / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return body
    whole = b""
    while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
        body = body.partition(b"\r\n")[2]
        whole, body = whole + body[:size], body[size + 2 :]
    return whole


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mistral", "mistral:latest"),
        ("mistral:7b", "mistral:7b"),
        ("registry.ollama.ai/library/mistral", "mistral:latest"),
        ("library/mistral:7b", "mistral:7b"),
        ("user/mistral", "user/mistral:latest"),
        ("host:5000/user/mistral", "host:5000/user/mistral:latest"),
    ],
)
def test_names_have_one_spelling(given: str, expected: str) -> None:
    assert normalise(given) == expected
    assert normalise(expected) == expected


def test_a_real_listing_is_read() -> None:
    first, second = decode_ps(body_of("ps"))
    assert first == RunningModel(
        "embed-e:latest",
        "7b0ca9bf6cc0760cadf1a9b90791b66a8fbbb2790f0c54734289ee53d7996eb5",
        parse_time("2026-11-23T19:32:16.167536892Z"),
        6635053383,
        6635053383,
        32768,
        "llama",
        "gguf",
        "65K",
        "unknown",
    )
    assert second.name == "tiny-a:latest"


def test_never_is_infinite() -> None:
    expiries = {model.expires_at for model in decode_ps(body_of("ps-forever"))}
    assert math.inf in expiries


def test_real_tags_and_version_are_read() -> None:
    tags = decode_tags(body_of("tags"))
    assert "tiny-a:latest" in {model.name for model in tags}
    assert all(model.size > 0 and not model.remote for model in tags)
    assert decode_version(body_of("version")) == "0.0.0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-06-04T14:38:31.83753-07:00", 1780609111.83753),
        ("2026-06-04T21:38:31Z", 1780609111.0),
        ("2026-06-04T21:38:31.123456789Z", 1780609111.123456),
        ("2318-08-30T01:02:03.5Z", math.inf),
        ("0001-01-01T00:00:00Z", 0.0),
        (None, 0.0),
    ],
)
def test_times_are_unix_seconds(text: str | None, expected: float) -> None:
    assert parse_time(text) == expected


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "digest": "d", "expires_at": "2026-06-04T21:38:31Z", **changes}


@pytest.mark.parametrize(
    "listing",
    [
        {"models": [entry(details={"families": None, "family": None}, new_field=[1])]},
        {"models": [entry(context_length=None)], "more": {}},
        {"models": [{"model": "a", "digest": "d", "expires_at": "2026-06-04T21:38:31Z"}]},
    ],
    ids=["families null", "no context", "no name"],
)
def test_listings_are_read_tolerantly(listing: dict[str, Any]) -> None:
    (model,) = models_from(listing)
    assert (model.name, model.digest, model.context) == ("a:latest", "d", None)
    assert decode_ps(json.dumps(listing).encode()) == (model,)


def test_an_empty_and_a_null_list_are_empty() -> None:
    assert decode_ps(b'{"models":[]}') == decode_ps(b'{"models":null}') == ()


def test_two_entries_of_one_name_are_both_there() -> None:
    models = models_from({"models": [entry(digest="old"), entry(digest="new")]})
    assert [model.key for model in models] == [("a:latest", "old"), ("a:latest", "new")]


def test_ten_thousand_models_are_read() -> None:
    models = models_from({"models": [entry(name=f"m{n}") for n in range(10_000)]})
    assert len(models) == 10_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"<html>",
        b'{"models":[{"name":1}]}',
        b'{"models":[{"expires_at":"x"}]}',
        b'{"models":[{"expires_at":"2026-13-99T00:00:00Z"}]}',
        b'{"models":[{"name":"\xff"}]}',
        b'{"mod',
    ],
)
def test_what_is_no_listing_is_malformed(body: bytes) -> None:
    with pytest.raises(TargetError) as caught:
        decode_ps(body)
    assert caught.value.reason is FailureReason.MALFORMED


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (0.0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        (300, 300.0),
        (0.5, 0.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("+5m", 300.0),
        ("250ms", 0.25),
        (-1, math.inf),
        (-0.1, math.inf),
        ("-1s", math.inf),
        ("-5m", math.inf),
        (1e12, 0.0),
    ],
)
def test_accepted_keep_alives(value: object, seconds: float) -> None:
    assert keepalive.parse(value) == pytest.approx(seconds)


def test_an_absent_keep_alive_is_none() -> None:
    assert keepalive.parse(None) is None


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        ("300", "keepalive-string-number-400"),
        ("-1", "keepalive-string-minus-one-400"),
        (True, "keepalive-bool-400"),
    ],
)
def test_refused_keep_alives_say_what_the_server_says(value: object, raw: str) -> None:
    with pytest.raises(keepalive.KeepAliveError) as caught:
        keepalive.parse(value)
    assert str(caught.value) == json.loads(body_of(raw))["error"]


@pytest.mark.parametrize("value", ["", "m", "5", "5x", "5m3", "1e3s", {}, [], "9999999h", "--1s"])
def test_other_keep_alives_are_refused(value: object) -> None:
    with pytest.raises(keepalive.KeepAliveError):
        keepalive.parse(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300.0),
        ("5m", 300.0),
        ("-1", math.inf),
        ("0", 0.0),
        ('"10m"', 600.0),
        ("x", 300.0),
        ("", 300.0),
    ],
)
def test_the_environment_takes_seconds_as_well(text: str, seconds: float) -> None:
    assert keepalive.parse_environment(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (300, "5m0s"),
        (5400, "1h30m0s"),
        (1.5, "1.5s"),
        (0.25, "250ms"),
        (0, "0s"),
        (math.inf, "-1"),
        (25e-6, "25µs"),
        (3e-9, "3ns"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert keepalive.render(seconds) == text


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (
            "model runner has unexpectedly stopped, this may be due to resource limits",
            Failure.CRASHED,
        ),
        ("llama runner process no longer running: -1 ", Failure.CRASHED),
        ("an error was encountered while running the model: unexpected EOF", Failure.CRASHED),
        ("llama-server process has terminated: exit status 6", Failure.CRASHED),
        (
            "model runner has unexpectedly stopped: cudaMalloc failed: out of memory",
            Failure.OUT_OF_MEMORY,
        ),
        (
            'do embedding request: Post "http://127.0.0.1:35135/v1/embeddings": EOF',
            Failure.CRASHED,
        ),
        ('model "x" not found, try pulling it first', Failure.OTHER),
    ],
)
def test_error_texts_say_what_happened_to_the_runner(text: str, failure: Failure) -> None:
    assert classify(text) is failure
    assert classify(text.upper()) is failure
