# SPDX-License-Identifier: Apache-2.0
import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.errors import TargetError
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.wire import decode_ps, decode_tags, decode_version

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["models", "name", "digest", "expires_at", "size", "details"]),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=20,
)


@given(st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
def test_decoding_raises_nothing_but_our_error(body: bytes) -> None:
    for decode in (decode_ps, decode_tags, decode_version):
        with contextlib.suppress(TargetError):
            decode(body)


@given(st.lists(JSON))
def test_no_entry_makes_a_listing_malformed(entries: list[object]) -> None:
    body = json.dumps({"models": [{"name": "a", "digest": "d"}, *entries]}).encode()
    assert decode_ps(body)[0].name == decode_tags(body)[0].name == "a:latest"


@given(st.floats(min_value=1e-3, max_value=1e7))
def test_a_written_keep_alive_is_read_back(seconds: float) -> None:
    assert keepalive.parse(keepalive.render(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.one_of(JSON, st.from_regex(r"[-+]?[0-9.]{0,4}(ns|us|ms|s|m|h|x)?", fullmatch=True)))
def test_a_keep_alive_is_seconds_nothing_or_refused(value: object) -> None:
    with contextlib.suppress(keepalive.KeepAliveError):
        seconds = keepalive.parse(value)
        assert seconds is None or seconds >= 0 or math.isinf(seconds)


@given(st.text(min_size=1))
def test_normalising_twice_is_normalising_once(name: str) -> None:
    assert normalise(normalise(name)) == normalise(name)


@given(st.lists(st.text(), max_size=300), st.integers(1, 20))
def test_the_model_label_is_bounded_whatever_comes(names: list[str], limit: int) -> None:
    labels = ModelLabels(limit)
    given_out = [labels.label(name) for name in names]
    assert len(set(given_out) - {OTHER}) <= limit
    assert [labels.label(name) for name in names] == given_out
