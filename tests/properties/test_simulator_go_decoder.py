# SPDX-License-Identifier: Apache-2.0
"""The simulator reads request bodies as the server's decoder, Go's, does."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.simulator import gojson
from ollama_exporter.simulator.calls import ApiError, Call, body_of, field, keep_alive_of, plan
from ollama_exporter.simulator.model_files import Manifest, default_catalogue
from ollama_exporter.simulator.state import NEVER, Host
from tests.support.godecoder import Decoded, decoded_bodies
from tests.support.growth import assert_linear

FILE = next(iter(default_catalogue().manifests.values())).file


def read(raw: bytes) -> Decoded | None:
    """Return what the simulator finds in a body; None: it answers with an error."""
    try:
        body = body_of(raw)
        kept = [keep_alive_of(value) for value in body.every("keep_alive")]
        model, prompt = field(body, "model", str, ""), field(body, "prompt", str, "")
        stream, options = field(body, "stream", bool, None), field(body, "options", dict, {})
        told = {"num_ctx": options["num_ctx"]} if "num_ctx" in options else {}  # as the table
        call = Call("m", "m:latest", Manifest(FILE, "0" * 64), told)
        call.request(Host(), 1)
    except ApiError:
        return None
    seconds = keep_alive_of(body.get("keep_alive")) if kept else None
    seconds = float("inf") if seconds == NEVER else seconds
    context = options.get("num_ctx") or 0
    context = int(context) if 0 < context < 2**63 else None
    return Decoded(model.strip() or None, seconds, context or None, not prompt, stream)


@pytest.mark.parametrize("row", decoded_bodies(), ids=lambda row: repr(row[0][:60]))
def test_each_body_of_the_table_is_read_as_the_server_reads_it(
    row: tuple[bytes, Decoded | None],
) -> None:
    raw, wanted = row
    found = read(raw)
    assert found == wanted


@pytest.mark.parametrize("depth", [100, 2000, 9999])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_what_is_nested_deep_is_read_as_far_as_go_reads_it(depth: int, brackets: str) -> None:
    opening = "[" * depth if brackets == "[]" else '{"a":' * depth
    inner = "" if brackets == "[]" else "1"
    text = f'{{"x":{opening}{inner}{brackets[1] * depth},"model":"m"}}'
    assert gojson.loads(text.encode())["model"] == "m"


def test_beyond_ten_thousand_go_refuses() -> None:
    text = '{"x":' + "[" * 10_000 + "]" * 10_000 + "}"
    with pytest.raises(ValueError, match=r"^exceeded max depth$"):
        gojson.loads(text.encode())


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x, max_size=3)))
def test_values_survive_however_deep(value: object) -> None:
    for depth in (1, 50, 70):
        wrapped = value
        for _ in range(depth):
            wrapped = [wrapped]
        body = gojson.loads(json.dumps({"x": wrapped, "Model": "m"}).encode())
        assert body["model"] == "m"


@pytest.mark.parametrize(
    "unit", ['{"a":', "[", '"', '\\"', "[[", "[[n=1 ", "9", '{"a":1,"a":2}', " "]
)
@pytest.mark.parametrize("work", [gojson.loads, lambda raw: plan(FILE, raw.decode(), None)])
def test_time_grows_linearly(unit: str, work: Callable[[bytes], object]) -> None:
    def attempt(raw: bytes) -> None:
        with suppress(ValueError):
            work(raw)

    assert_linear(attempt, lambda size: b'{"x":' + unit.encode() * (size // len(unit)))
