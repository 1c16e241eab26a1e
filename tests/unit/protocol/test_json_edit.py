# SPDX-License-Identifier: Apache-2.0
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.protocol.json_edit import member, set_member
from ollama_exporter.protocol.json_scan import fold, scan_object

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " : ")])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{}", b'{"keep_alive":1}'),
        (b" { } ", b' {"keep_alive":1 } '),
        (b'{"model":"a"}', b'{"keep_alive":1,"model":"a"}'),
        (b'{"keep_alive" : "5m" , "a":1}', b'{"keep_alive" : 1 , "a":1}'),
        (b'{"keep_alive":{"x":[1,2]}}', b'{"keep_alive":1}'),
        (b'{"KEEP_alive":2,"keep_alive":3}', b'{"KEEP_alive":1,"keep_alive":1}'),
        (b'{"keep\\u005falive":2}', b'{"keep\\u005falive":1}'),
        (b'{"a":{"keep_alive":2}}', b'{"keep_alive":1,"a":{"keep_alive":2}}'),
        (b'{"a":"\\"keep_alive\\":2,"}', b'{"keep_alive":1,"a":"\\"keep_alive\\":2,"}'),
    ],
)
def test_a_member_is_set_and_nothing_else_is_touched(before: bytes, after: bytes) -> None:
    assert set_member(before, ("keep_alive",), b"1") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{}", b'{"options":{"num_ctx":8}}'),
        (b'{"options":null}', b'{"options":{"num_ctx":8}}'),
        (b'{"options":{}}', b'{"options":{"num_ctx":8}}'),
        (b'{"options": { "seed":1}}', b'{"options": {"num_ctx":8, "seed":1}}'),
        (b'{"options":{"num_ctx":4}}', b'{"options":{"num_ctx":8}}'),
        (b'{"options":[1]}', None),
        (b'{"options":"x"}', None),
    ],
)
def test_a_member_of_a_member(before: bytes, after: bytes | None) -> None:
    assert set_member(before, ("options", "num_ctx"), b"8") == after


@given(st.dictionaries(st.text(), JSON, max_size=5), SPACES, st.booleans())
def test_any_object_keeps_all_its_other_members(
    body: dict[str, Any],
    spaces: tuple[str, str],
    ascii_: bool,  # noqa: FBT001 - hypothesis hands it
) -> None:
    raw = json.dumps(body, separators=spaces, ensure_ascii=ascii_).encode()
    spliced = set_member(raw, ("keep_alive",), b"61")
    assert spliced is not None
    rest = {k: v for k, v in json.loads(spliced).items() if k.lower() != "keep_alive"}
    assert rest == {k: v for k, v in body.items() if k.lower() != "keep_alive"}
    scanned = scan_object(spliced)
    assert scanned is not None
    given = [m for m in scanned.members if fold(m.key) == "keep_alive"]
    assert {spliced[m.begin : m.end] for m in given} == {b"61"}
    if raw == b"{}":
        assert spliced == b'{"keep_alive":61}'
    elif not any(key.lower() == "keep_alive" for key in body):
        assert spliced == raw[:1] + b'"keep_alive":61,' + raw[1:]


def test_a_member_alone() -> None:
    assert member(("keep_alive",), b"-1") == b'"keep_alive":-1'
    assert member(("options", "num_ctx"), b"8") == b'"options":{"num_ctx":8}'
