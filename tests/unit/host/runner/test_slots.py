# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.host.runner.slots import MOST_SLOTS, Slot, decode_slots
from tests.support.growth import assert_linear
from tests.support.paths import DATA

RAW = DATA / "runner"


def decoded(name: str) -> tuple[Slot, ...] | None:
    return decode_slots((RAW / f"slots-{name}.json").read_bytes())


def test_slots_that_were_never_used_have_no_task() -> None:
    assert decoded("never-used") == (Slot(0, 4096, busy=False), Slot(1, 4096, busy=False))


def test_a_busy_slot_says_how_far_it_is() -> None:
    found = decoded("one-busy")
    assert found is not None
    assert found[0] == Slot(0, 4096, busy=False, task=2, held=224)
    assert (found[1].busy, found[1].task) == (True, 1)
    assert found[1].held == 28 + found[1].decoded


def test_real_answers_of_all_states_are_read() -> None:
    busy = {name: sum(s.busy for s in decoded(name) or ()) for name in ("one-busy", "idle-after")}
    assert busy == {"one-busy": 1, "idle-after": 0}


def test_prompts_in_an_answer_are_not_kept() -> None:
    """LLAMA_SERVER_SLOTS_DEBUG=1 puts them there."""
    real = decoded("debug-reading-prompt")
    assert real == (Slot(0, 4096, busy=False), Slot(1, 4096, busy=True, task=1, held=2048))
    assert b"zqsecretzq" in (RAW / "slots-debug-reading-prompt.json").read_bytes()
    assert "zqsecretzq" not in repr(real)
    prompt = "the prompt of somebody"
    slot = {"id": 0, "n_ctx": 8, "is_processing": True, "id_task": 1, "n_prompt_tokens": 5}
    body = json.dumps([{**slot, "prompt": prompt, "generated": prompt, "params": {"x": prompt}}])
    assert decode_slots(body.encode()) == (Slot(0, 8, busy=True, task=1, held=5),)
    assert prompt not in repr(decode_slots(body.encode()))


@pytest.mark.parametrize(
    "slot",
    [
        {"id": None},
        {"id": -1},
        {"n_ctx": 0},
        {"n_ctx": "4096"},
        {"is_processing": 1},
        {"n_ctx": 1e300},
        {"id": True},
    ],
)
def test_an_odd_slot_costs_itself(slot: dict[str, object]) -> None:
    good = {"id": 3, "n_ctx": 8, "is_processing": False}
    body = json.dumps([good, good | slot]).encode()
    assert decode_slots(body) == (Slot(3, 8, busy=False),)


@pytest.mark.parametrize(
    "odd", [{"id_task": -1}, {"n_prompt_tokens": 2**63}, {"next_token": [{"n_decoded": "9"}]}]
)
def test_an_odd_count_is_left_out(odd: dict[str, object]) -> None:
    good = {"id": 3, "n_ctx": 8, "is_processing": False}
    assert decode_slots(json.dumps([good | odd]).encode()) == (Slot(3, 8, busy=False),)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"[1]", b'{"error":{"code":501}}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_such_answer_is_none(body: bytes) -> None:
    assert decode_slots(body) is None


def test_the_number_of_slots_is_bounded() -> None:
    many = [{"id": n, "n_ctx": 8, "is_processing": False} for n in range(10 * MOST_SLOTS)]
    assert len(decode_slots(json.dumps(many).encode()) or ()) == MOST_SLOTS


@given(st.binary(max_size=200))
def test_nothing_raises(body: bytes) -> None:
    decode_slots(body)


@pytest.mark.parametrize("piece", [b'{"id":0},', b"[", b'"\\"",', b"[1,2],"])
def test_answers_are_read_in_linear_time(piece: bytes) -> None:
    assert_linear(decode_slots, lambda size: b"[" + piece * (size // len(piece)))
