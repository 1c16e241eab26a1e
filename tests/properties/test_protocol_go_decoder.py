# SPDX-License-Identifier: Apache-2.0
"""What we read of a request, and what we set in it, is what the server's decoder makes of it."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.protocol.json_edit import member, set_member
from ollama_exporter.protocol.request_body import BodyReader, RequestFields, read
from ollama_exporter.protocol.routes import route_of
from tests.support.godecoder import Decoded, decoded_bodies

GENERATE = route_of("POST", "/api/generate")
BODIES = decoded_bodies()
ACCEPTED = [(body, server) for body, server in BODIES if server is not None]
REJECTED = [body for body, server in BODIES if server is None]
# Keys that the decoder matches and keys that it does not, with values of all kinds.
KEYS = st.sampled_from(
    [
        *("model", "Model", "mod\\u0065l", "prompt", "PROMPT", "stream", "keep_alive"),
        *("Keep_Alive", "\\u212aeep_alive", "\u212aeep_alive", "options", "option\u017f"),
        *("opti\\u006fns", "x", "num_ctx", "messages"),
    ]
)
SCALARS = st.sampled_from(
    [
        *('"m"', '""', '"\\ud83d"', '"5m"', '"300"', "0", "-1", "300", "8.192e3", "1e400"),
        *("true", "false", "null", "9" * 5000),
    ]
)
CONTEXTS = st.tuples(st.sampled_from(["num_ctx", "Num_Ctx", "num\\u005fctx", "seed"]), SCALARS).map(
    lambda pair: f'{{"{pair[0]}":{pair[1]}}}'
)
BLANKS = st.sampled_from(["", " ", "\n\t"])
MEMBERS = st.tuples(BLANKS, KEYS, BLANKS, SCALARS | CONTEXTS | st.just("[]"), BLANKS).map(
    lambda part: f'{part[0]}"{part[1]}"{part[2]}:{part[3]}{part[4]}'
)
OBJECTS = st.lists(MEMBERS, max_size=6).map(lambda members: "{" + ",".join(members) + "}")


def decoded(fields: RequestFields) -> Decoded:
    return Decoded(fields.model, fields.keep_alive, fields.num_ctx, fields.is_empty, fields.stream)


def rounded(found: Decoded) -> tuple[object, ...]:
    """Return the values; the server's keep_alive has whole nanoseconds."""
    kept = found.keep_alive
    seconds = kept if kept is None or math.isinf(kept) else round(kept, 6)
    return (found.model, seconds, found.num_ctx, found.is_empty, found.stream)


def test_the_table_has_enough() -> None:
    assert len(ACCEPTED) > 250
    assert len(REJECTED) > 100


@pytest.mark.parametrize(("body", "server"), ACCEPTED)
def test_what_we_read_is_what_the_server_decodes(body: bytes, server: Decoded) -> None:
    assert rounded(decoded(read(GENERATE, body, complete=True))) == rounded(server)


@pytest.mark.parametrize("body", REJECTED)
def test_what_the_server_rejects_is_never_a_stop(body: bytes) -> None:
    fields = read(GENERATE, body, complete=True)
    if b"keep_alive" in body.lower() and fields.has_rejected_keep_alive:
        assert fields.keep_alive is None
    assert not (fields.has_rejected_keep_alive and fields.is_stop)


@pytest.mark.parametrize(("body", "server"), ACCEPTED)
def test_what_we_set_is_what_the_server_decodes(body: bytes, server: Decoded) -> None:
    edited = set_member(body, ("keep_alive",), b'"61s"')
    assert edited is not None
    edited = set_member(edited, ("options", "num_ctx"), b"77")
    assert edited is not None
    found = decoded(read(GENERATE, edited, complete=True))
    assert found == Decoded(server.model, 61.0, 77, server.is_empty, server.stream)


@pytest.mark.parametrize(("body", "server"), ACCEPTED)
def test_what_we_append_is_what_the_server_decodes(body: bytes, server: Decoded) -> None:
    """Checked with Go 1.26: of equal keys the last one counts, and maps are merged."""
    found = decoded(read(GENERATE, appended(body), complete=True))
    assert found == Decoded(server.model, 61.0, 77, server.is_empty, server.stream)


def appended(body: bytes) -> bytes:
    reader = BodyReader(GENERATE)
    reader.scan()
    end = reader.feed(body)
    assert end is not None
    new = member(("keep_alive",), b'"61s"') + b"," + member(("options", "num_ctx"), b"77")
    return body[:end] + (b"," if reader.has_members else b"") + new + body[end:]


def scanned(pieces: list[bytes]) -> tuple[RequestFields, int | None]:
    """Return what a scan finds in the pieces of a body, and where its object ends."""
    reader, before, end = BodyReader(GENERATE), 0, None
    reader.scan()
    for piece in pieces:
        found = reader.feed(piece)
        end = before + found if found is not None else end
        before += len(piece)
    return reader.fields(complete=True), end


@given(st.one_of(OBJECTS.map(str.encode), st.sampled_from([body for body, _ in BODIES])), st.data())
def test_every_cutting_of_a_body_gives_the_same(body: bytes, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 2, 3, 7, 64]))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    whole = scanned([body])
    assert scanned(pieces) == whole
    assert whole[0] == read(GENERATE, body, complete=True)


@given(OBJECTS)
def test_the_fast_way_and_the_scan_agree(text: str) -> None:
    """The server ignores what follows the object, and msgspec does not: that forces a scan."""
    body = text.encode()
    assert read(GENERATE, body, complete=True) == read(GENERATE, body + b" {}", complete=True)


@given(OBJECTS, st.integers(0, 200))
def test_a_cut_body_gives_no_member_that_the_cut_changed(text: str, cut: int) -> None:
    body = text.encode()
    part = read(GENERATE, body[:cut], complete=False)
    assert not part.is_empty
    if part.num_ctx is not None:
        assert part.num_ctx in (300, 8192)


def test_a_lone_surrogate_does_not_hide_a_keep_alive() -> None:
    body = json.dumps({"model": "m", "prompt": "\ud83d", "keep_alive": -1}).encode()
    assert read(GENERATE, body, complete=True).keep_alive == math.inf
