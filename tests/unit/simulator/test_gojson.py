# SPDX-License-Identifier: Apache-2.0
"""JSON and moments as Go writes and refuses them."""

import re
from datetime import timedelta, timezone

import pytest

from ollama_exporter.simulator import gojson


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b"  ", "missing request body"),
        (b"{oops", "invalid character 'o' looking for beginning of object key string"),
        (b'{"a":x}', "invalid character 'x' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b'{"a":', "unexpected EOF"),
        (b"[1]", "json: cannot unmarshal array into Go value of type api.Request"),
    ],
)
def test_bad_bodies_are_refused_in_the_words_of_the_server(body: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        gojson.loads(body)


def test_html_and_line_separators_are_escaped() -> None:
    assert gojson.dumps({"a": "<&>\u2028ä"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028ä"}'.encode()


@pytest.mark.parametrize(
    ("seconds", "hours", "text"),
    [
        (0.0, 0, "1970-01-01T00:00:00Z"),
        (1.5, 0, "1970-01-01T00:00:01.5Z"),
        (1.000000001, 5.5, "1970-01-01T05:30:01.000000001+05:30"),
        (1.5, -7, "1969-12-31T17:00:01.5-07:00"),
        (2.0**33, 0, "2242-03-16T12:56:32Z"),
    ],
)
def test_moments_have_up_to_nine_digits_and_a_numeric_offset(
    seconds: float, hours: float, text: str
) -> None:
    assert gojson.moment(seconds, timezone(timedelta(hours=hours))) == text


def test_zero_values_are_left_out() -> None:
    assert gojson.without_zeros({"a": 0, "b": "", "c": None, "d": 1}) == {"d": 1}


def test_kinds_are_named_as_go_names_them() -> None:
    values: list[object] = [True, "", 1, 1.5, [], {}]
    kinds = [gojson.kind_of(value) for value in values]
    assert kinds == ["bool", "string", "number", "number", "array", "object"]
