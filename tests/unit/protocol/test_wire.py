# SPDX-License-Identifier: Apache-2.0
import json
import math
from dataclasses import replace
from typing import Any, Final

import pytest

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.malformed_entries import MalformedEntries
from ollama_exporter.protocol.wire import (
    LARGEST_LOOSE,
    RunningModel,
    decode_details,
    decode_ps,
    decode_tags,
    decode_version,
    parse_time,
)
from tests.support.answers import body_of
from tests.support.exporting import Records, same_logger


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


def listing(*entries: object) -> bytes:
    return json.dumps({"models": entries}).encode()


@pytest.mark.parametrize(
    "given",
    [
        entry(details={"families": None, "family": None}, new_field=[1]),
        entry(context_length=None),
        {"model": "a", "digest": "d", "expires_at": "2026-06-04T21:38:31Z"},
    ],
    ids=["families null", "no context", "no name"],
)
def test_absent_and_unknown_fields_are_not_malformed(given: dict[str, Any]) -> None:
    malformed = MalformedEntries()
    (model,) = decode_ps(listing(given), malformed.add)
    assert (model.name, model.digest, model.context) == ("a:latest", "d", None)
    assert malformed.counts == {"/api/ps": 0, "/api/tags": 0}


def test_an_empty_and_a_null_list_are_empty() -> None:
    assert decode_ps(b'{"models":[]}') == decode_ps(b'{"models":null}') == ()


def test_two_entries_of_one_name_are_both_there() -> None:
    models = decode_ps(listing(entry(digest="old"), entry(digest="new")))
    assert [model.key for model in models] == [("a:latest", "old"), ("a:latest", "new")]


def test_ten_thousand_models_are_read() -> None:
    assert len(decode_ps(listing(*(entry(name=f"m{n}") for n in range(10_000))))) == 10_000


GOOD: Final = RunningModel("good:latest", "g", 1780609111.0, 5, 3, 4096, "llama")
ODD: Final = True


@pytest.mark.parametrize(
    ("field", "written", "found", "odd"),
    [
        ("size", "null", {"size": 0}, ODD),
        ("size", "4.9e9", {"size": 4_900_000_000}, not ODD),
        ("size", "1e999", {"size": 0}, ODD),
        ("size", "-1", {"size": 0}, ODD),
        ("size", "true", {"size": 0}, ODD),
        ("size", "0.5", {"size": 0}, ODD),
        ("size", "18446744073709551615", {"size": 0}, ODD),
        ("size", "9" * 5000, {"size": 0}, ODD),
        ("size_vram", "null", {"size_vram": None}, ODD),
        ("size_vram", '"3"', {"size_vram": None}, ODD),
        ("size_vram", "[1]", {"size_vram": None}, ODD),
        ("context_length", "4096.0", {"context": 4096}, not ODD),
        ("context_length", "0", {"context": None}, not ODD),
        ("context_length", '"4096"', {"context": None}, ODD),
        ("digest", "null", {"digest": ""}, ODD),
        ("digest", "7", {"digest": ""}, ODD),
        ("digest", "{}", {"digest": ""}, ODD),
        ("expires_at", "1893456000", {"expires_at": 0.0}, ODD),
        ("expires_at", '"Forever"', {"expires_at": 0.0}, ODD),
        ("expires_at", "18446744073709551615", {"expires_at": 0.0}, ODD),
        ("expires_at", '"2026-13-99T00:00:00Z"', {"expires_at": 0.0}, ODD),
        ("expires_at", '"10000-01-01T00:00:00Z"', {"expires_at": math.inf}, not ODD),
        ("expires_at", "null", {"expires_at": 0.0}, ODD),
        ("details", "[]", {"family": ""}, ODD),
        ("details", '"x"', {"family": ""}, ODD),
        ("details", '{"family":5,"format":"gguf"}', {"family": "", "format": "gguf"}, ODD),
        ("details", f'{{"family":"{"x" * 1000}"}}', {"family": "x" * 64}, not ODD),
        ("details", f'{{"family":"{"x" * 100_000}"}}', {"family": ""}, ODD),
        ("name", "null", {}, ODD),  # `model` is the same
    ],
)
def test_an_odd_field_costs_itself(
    field: str,
    written: str,
    found: dict[str, Any],
    odd: bool,  # noqa: FBT001 - a row of the table
) -> None:
    """Each of these cost the listing, and with it `ollama_up`."""
    fields = {
        "name": '"good"', "model": '"good"', "digest": '"g"', "size": "5", "size_vram": "3",
        "expires_at": '"2026-06-04T21:38:31Z"', "context_length": "4096",
        "details": '{"family":"llama"}',
    }  # fmt: skip
    good, other = (
        "{" + ",".join(f'"{key}":{value}' for key, value in each.items()) + "}"
        for each in (fields, {**fields, field: written})
    )
    malformed = MalformedEntries()
    body = f'{{"models":[{good},{other},{good}]}}'.encode()
    assert decode_ps(body, malformed.add) == (GOOD, replace(GOOD, **found), GOOD)
    assert malformed.counts["/api/ps"] == odd


@pytest.mark.parametrize(
    "odd", [{}, {"name": None}, {"name": ""}, {"name": 7}, [], "a", 5, None, {"name": "m" * 2000}]
)
def test_an_entry_without_a_name_is_left_out(odd: object) -> None:
    malformed = MalformedEntries()
    (model,) = decode_ps(listing(entry(), odd), malformed.add)
    (installed,) = decode_tags(listing(odd, entry(size=7)), malformed.add)
    assert (model.name, installed.name, installed.size) == ("a:latest", "a:latest", 7)
    assert malformed.counts == {"/api/ps": 1, "/api/tags": 1}


def test_the_first_malformed_entry_is_logged() -> None:
    log = Records()
    with same_logger() as logger:
        logger.addHandler(log)
        malformed = MalformedEntries()
        for _ in range(3):
            decode_ps(listing(entry(size="5", digest=7)), malformed.add)
    assert log.count("Ignoring fields of a listing that cannot be read") == 1
    assert vars(log.records[0])["fields"] == "digest, size"


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    (model,) = decode_ps(b'{"models":[{"name":"a\xff"}]}')
    assert model.name == "a\ufffd:latest"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"<html>", b'{"models":5}', b'{"models":{}}', b'{"mod']
)
def test_what_is_not_a_listing_is_malformed(body: bytes) -> None:
    with pytest.raises(TargetError) as caught:
        decode_ps(body)
    assert caught.value.reason is FailureReason.MALFORMED


def test_a_version_has_a_bounded_length() -> None:
    assert decode_version(json.dumps({"version": "9" * 200_000}).encode()) == "9" * 64


@pytest.mark.parametrize(
    ("fields", "remote"),
    [
        ({"name": "gpt-oss:120b-cloud", "remote_host": "https://ollama.com:443"}, True),
        ({"name": "mycoder", "remote_model": "gpt-oss:120b"}, True),
        ({"name": "kimi:1T-Cloud"}, True),
        ({"name": "x:cloud"}, True),
        ({"name": "my-cloud"}, False),
        ({"name": "host:5000/my-cloud"}, False),
        ({"name": "a", "remote_host": ""}, False),
    ],
)
def test_a_remote_model_is_known_by_its_host_or_its_tag(
    fields: dict[str, str], *, remote: bool
) -> None:
    (model,) = decode_tags(listing(fields))
    assert model.remote is remote


def test_a_large_listing_that_is_no_json_is_refused_at_once() -> None:
    piece = b'{"name":"a","size":NaN},'
    small = b'{"models":[' + piece * 100 + b'{"name":"b"}]}'
    assert len(decode_ps(small)) == 101
    large = b'{"models":[' + piece * (LARGEST_LOOSE // len(piece)) + b'{"name":"b"}]}'
    with pytest.raises(TargetError, match="malformed"):
        decode_ps(large)


@pytest.mark.parametrize(
    "cut", ['{"models":[{"name":"a"},{"name":"b","size":NaN}', '{"models":[{"name":"a","x":NaN}]']
)
def test_a_listing_that_was_cut_is_no_listing(cut: str) -> None:
    with pytest.raises(TargetError):
        decode_ps(cut.encode())


def test_half_a_character_in_a_name_is_replaced() -> None:
    (found,) = decode_ps(b'{"models":[{"name":"a\\ud83d"}]}')
    assert found.name == "a\ufffd:latest"


def test_values_that_are_no_json_cost_themselves_in_other_answers_too() -> None:
    assert decode_version(b'{"version":"0.33.0","commit":NaN}') == "0.33.0"
    weights = b"sha256-" + b"a" * 64
    shown = b'{"modelfile":"FROM /blobs/' + weights + b'","model_info":{"x":Infinity}}'
    assert decode_details(shown).weights == weights.decode()


@pytest.mark.parametrize("body", [b'{"version":5,"x":NaN}', b'{"x":NaN}'])
def test_a_version_that_is_none_is_malformed_also_beside_what_is_no_json(body: bytes) -> None:
    with pytest.raises(TargetError) as caught:
        decode_version(body)
    assert caught.value.reason is FailureReason.MALFORMED


def test_a_moment_that_is_none_costs_an_installed_model_nothing_else() -> None:
    (found,) = decode_tags(b'{"models":[{"name":"a","size":7,"modified_at":"soon"}]}')
    assert (found.name, found.size, found.modified) == ("a:latest", 7, 0.0)
