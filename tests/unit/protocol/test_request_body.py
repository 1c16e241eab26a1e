# SPDX-License-Identifier: Apache-2.0
import json
import math
from typing import Any

import pytest

from ollama_exporter.protocol.request_body import (
    ENDLESS_OPTION,
    KEPT,
    NOTHING,
    BodyReader,
    RequestFields,
    read,
)
from ollama_exporter.protocol.routes import OTHER, route_of

ENDLESS = (("num_gpu", ENDLESS_OPTION),)


def asked(path: str = "/api/generate", *, complete: bool = True, **body: Any) -> RequestFields:
    return read(route_of("POST", path), json.dumps(body).encode(), complete=complete)


def test_model_keep_alive_and_options_are_read() -> None:
    found = asked(model="m", prompt="hi", keep_alive="10m", options={"num_ctx": 8192}, stream=False)
    assert found == RequestFields(
        "m", 600.0, 8192, has_reload_option=True, is_empty=False, stream=False
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("5m", 300), (-1, math.inf), (0, 0), ("0", 0), (1.5, 1.5), (None, None)],
)
def test_keep_alive_in_all_its_forms(written: object, seconds: float | None) -> None:
    assert asked(model="m", prompt="x", keep_alive=written).keep_alive == seconds


@pytest.mark.parametrize("refused", [True, "300", [], {}])
def test_a_keep_alive_that_the_server_refuses_is_none(refused: object) -> None:
    assert asked(model="m", prompt="x", keep_alive=refused).keep_alive is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"])
def test_the_other_apis_carry_neither_keep_alive_nor_options(path: str) -> None:
    found = asked(path, model="m", keep_alive=0, options={"num_ctx": 1})
    assert found == RequestFields("m")


@pytest.mark.parametrize(
    ("path", "body", "stop"),
    [
        ("/api/generate", {"keep_alive": 0}, True),
        ("/api/generate", {"prompt": "", "keep_alive": 0.0}, True),
        ("/api/chat", {"messages": [], "keep_alive": "0s"}, True),
        ("/api/chat", {"messages": [{}], "keep_alive": 0}, False),
        ("/api/generate", {"prompt": "x", "keep_alive": 0}, False),
        ("/api/generate", {"keep_alive": "5m"}, False),
        ("/api/embed", {"keep_alive": 0}, False),
    ],
)
def test_a_stop_call_is_an_empty_one_with_keep_alive_zero(
    path: str, body: dict[str, Any], *, stop: bool
) -> None:
    assert asked(path, model="m", **body).is_stop is stop


@pytest.mark.parametrize(
    ("options", "reloading", "num_ctx"),
    [
        ({"num_ctx": 4096}, True, 4096),
        ({"num_gpu": 1}, True, None),
        ({"use_mmap": None}, False, None),
        ({"temperature": 0}, False, None),
        ({"num_ctx": "x"}, True, None),
        ("none", False, None),
    ],
)
def test_options_that_can_force_a_reload(
    options: object, *, reloading: bool, num_ctx: int | None
) -> None:
    found = asked(model="m", prompt="x", options=options)
    assert (found.has_reload_option, found.num_ctx) == (reloading, num_ctx)


def test_the_beginning_of_a_long_body_is_enough() -> None:
    route = route_of("POST", "/api/chat")
    body = b'{"model":"m","options":{"num_ctx":9},"messages":[{"images":["' + b"A" * 5000
    assert read(route, body, complete=False) == RequestFields(
        "m", num_ctx=9, has_reload_option=True
    )
    tricky = b'{"format":{"model":"no"},"x":"\\",\\"model\\":\\"no","model":"m","messages":["'
    assert read(route, tricky, complete=False).model == "m"


def test_a_beginning_that_is_cut_is_not_taken_for_an_empty_prompt() -> None:
    body = b'{"model":"m","keep_alive":0,"prompt":"long'
    assert not read(route_of("POST", "/api/generate"), body, complete=False).is_stop


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"model":7}', b"null"])
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    assert read(route_of("POST", "/api/generate"), body, complete=True).model is None
    assert read(OTHER, body, complete=False).model is None


def test_the_model_of_a_form_is_one_of_its_fields() -> None:
    route = route_of("POST", "/v1/audio/transcriptions")
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\nRIFF\r\n--b\r\n"
        b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--b--\r\n'
    )
    assert read(route, form, complete=True).model == "whisper"
    assert read(route, b"RIFF", complete=True) == NOTHING


def test_a_request_has_its_model_in_no_other_field() -> None:
    assert asked(name="m", prompt="x").model is None
    assert asked(model="", prompt="x").model is None


def test_a_name_that_no_model_can_have_is_not_kept() -> None:
    assert asked(model="m" * 900_000, prompt="x").model is None
    form = b'name="model"\r\n\r\n' + b"m" * 900_000
    found = read(route_of("POST", "/v1/audio/transcriptions"), form, complete=False).model
    assert found is None


@pytest.mark.parametrize(
    ("written", "value"),
    [("8192.0", 8192), ("8.192e3", 8192), ("8192.9", 8192), ("-1", None), ("1e300", None)],
)
def test_a_context_is_truncated_as_the_server_does(written: str, value: int | None) -> None:
    body = b'{"model":"m","options":{"num_ctx":%b,"num_gpu":1e0}}' % written.encode()
    found = read(route_of("POST", "/api/generate"), body, complete=True)
    assert (found.num_ctx, found.options) == (value, (("num_gpu", 1),))


@pytest.mark.parametrize("written", ['"-1"', '"300"', '"5 m"', "true", "1e400", "[]", "{}", '""'])
def test_a_keep_alive_that_the_server_rejects_is_not_absent(written: str) -> None:
    body = b'{"model":"m","prompt":"x","keep_alive":%b}' % written.encode()
    found = read(route_of("POST", "/api/generate"), body, complete=True)
    assert (found.keep_alive, found.has_rejected_keep_alive) == (None, True)
    assert not read(route_of("POST", "/v1/messages"), body, complete=True).has_rejected_keep_alive


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (b'"keep_alive":' + b"1" * (KEPT + 1), RequestFields("m", math.inf)),
        (b'"model":"' + b"x" * KEPT + b'"', RequestFields(None)),
        (b'"options":{"num_gpu":' + b"1" * (KEPT + 1) + b"}", RequestFields("m", options=ENDLESS)),
    ],
)
def test_a_value_that_is_too_long_to_be_kept_is_above_every_limit(
    member: bytes, expected: RequestFields
) -> None:
    body = b'{"model":"m","prompt":"x",' + member + b"}"
    found = read(route_of("POST", "/api/generate"), body, complete=False)
    assert (found.model, found.keep_alive) == (expected.model, expected.keep_alive)
    assert found.options == expected.options


def test_null_leaves_a_text_as_it_is_and_what_is_no_text_takes_it_away() -> None:
    route = route_of("POST", "/api/generate")
    for value, model in ((b"null", "m"), (b"7", None)):
        body = b'{"model":"m","prompt":"x","prompt":null,"model":%b}' % value
        found = read(route, body, complete=True)
        assert (found.model, found.is_empty) == (model, False)


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ('"stream_options":{"include_usage":true}', True),
        ('"Stream_Options":{"x":[1],"Include_Usage":true}', True),
        ('"stream_options":{"include_usage":false}', False),
        ('"stream_options":{"include_usage":1}', False),
        ('"stream_options":{"include_usage":true},"stream_options":{}', True),
        ('"stream_options":{"include_usage":true},"stream_options":null', False),
        ('"stream_options":["include_usage"]', False),
    ],
)
def test_usage_is_wanted_alike_in_short_and_in_long_bodies(members: str, *, wanted: bool) -> None:
    route = route_of("POST", "/v1/chat/completions")
    body = b'{"model":"m",%b}' % members.encode()
    for is_whole in (True, False):
        assert read(route, body, complete=is_whole).wants_usage is wanted


def test_an_option_that_is_no_scalar_is_rejected_as_the_server_does() -> None:
    found = asked(model="m", prompt="x", options={"num_gpu": [1], "num_ctx": {}})
    assert (found.options, found.num_ctx, found.has_odd_num_ctx) == ((), None, True)


def test_a_form_gives_its_model_wherever_it_is_cut() -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\nX: y\r\n\r\nwhisper\r\n--b--\r\n'
    )
    for cut in range(1, len(form)):
        reader = BodyReader(route_of("POST", "/v1/audio/transcriptions"))
        reader.scan()
        reader.feed(form[:cut])
        reader.feed(form[cut:])
        assert reader.fields(complete=True).model == "whisper", cut
    cut_off = form[: form.index(b"er\r\n")]
    assert (
        read(route_of("POST", "/v1/audio/transcriptions"), cut_off, complete=False).model == "whisp"
    )
