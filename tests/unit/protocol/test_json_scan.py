# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.protocol.json_scan import (
    DEEPEST,
    decode_scalar,
    decode_string,
    fold,
    items_in,
    scan_object,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=6), st.sampled_from([None, 2]), st.booleans())
def test_the_members_of_any_object_are_found(
    value: dict[str, object],
    indent: int | None,
    ascii_: bool,  # noqa: FBT001 - given by hypothesis
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_).encode()
    scanned = scan_object(body)
    assert scanned is not None
    assert scanned.is_closed
    found = {decode_string(m.key): json.loads(body[m.begin : m.end]) for m in scanned.members}
    assert found == value


@pytest.mark.parametrize("body", [b"", b"[1]", b"null", b'"{}"', b"\xef\xbb\xbf{}"])
def test_what_is_not_an_object_has_no_members(body: bytes) -> None:
    assert scan_object(body) is None


@pytest.mark.parametrize("body", [b'{"a":1', b'{"a":1,}', b'{"a"}', b'{"a":}', b'{"a":[}', b"{,}"])
def test_an_object_that_is_not_valid_is_not_closed(body: bytes) -> None:
    scanned = scan_object(body)
    assert scanned is not None
    assert not scanned.is_closed


def test_a_member_that_is_cut_off_does_not_count() -> None:
    scanned = scan_object(b'{"a":1,"num_ctx":819')
    assert scanned is not None
    assert [member.key for member in scanned.members] == [b'"a"']


@pytest.mark.parametrize(("depth", "is_closed"), [(DEEPEST - 1, True), (DEEPEST + 1, False)])
def test_nesting_is_scanned_as_deep_as_the_server_decodes(depth: int, *, is_closed: bool) -> None:
    scanned = scan_object(b'{"x":' + b"[" * depth + b"]" * depth + b"}")
    assert scanned is not None
    assert scanned.is_closed is is_closed


@pytest.mark.parametrize(
    ("raw", "folded"),
    [
        (b'"Keep_Alive"', "keep_alive"),
        ('"\u212aeep_alive"'.encode(), "keep_alive"),
        (b'"\\u212aeep_alive"', "keep_alive"),
        ('"option\u017f"'.encode(), "options"),
        (b'"mod\\u0065l"', "model"),
        ('"meßages"'.encode(), "meßages"),
    ],
)
def test_keys_are_folded_as_go_folds_them(raw: bytes, folded: str) -> None:
    assert fold(raw) == folded


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'"a\\n\\"\\\\\\/"', 'a\n"\\/'),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\ude00\\ud83d"', "\ufffd\ufffd"),
        (b'"\xff"', "\ufffd"),
        (b"5", None),
        (b'"', None),
    ],
)
def test_strings_are_decoded_as_go_decodes_them(raw: bytes, text: str | None) -> None:
    assert decode_string(raw) == text


@pytest.mark.parametrize(
    "raw", [b"1e400", b"-1e400", b"9" * 400, b"01", b"+1", b".5", b"1.", b"{}", b"[]", b"nul", b""]
)
def test_what_go_rejects_raises(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a scalar"):
        decode_scalar(raw)


@pytest.mark.parametrize(
    ("raw", "value"), [(b"8.192e3", 8192.0), (b"true", True), (b"null", None), (b'"x"', "x")]
)
def test_scalars(raw: bytes, value: object) -> None:
    assert decode_scalar(raw) == value


@pytest.mark.parametrize(
    ("array", "items"),
    [
        (b"[]", []),
        (b"[ \n ]", []),
        (b'[1, "a,]", [2, {"b": []}] , null]', [b"1", b'"a,]"', b'[2, {"b": []}]', b"null"]),
        (b"[1, 2", None),
        (b"[[1] 2]", None),
        (b"[[1", None),
        (b"[1]]", [b"1"]),
        (b"{}", None),
        (b"", None),
    ],
)
def test_the_items_of_an_array(array: bytes, items: list[bytes] | None) -> None:
    assert items_in(array) == items
