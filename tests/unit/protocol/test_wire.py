# SPDX-License-Identifier: Apache-2.0
import json
import math
from typing import Any

import pytest

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.wire import (
    RunningModel,
    decode_ps,
    decode_tags,
    decode_version,
    models_from,
    parse_time,
)
from tests.support.answers import body_of


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
