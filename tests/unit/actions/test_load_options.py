# SPDX-License-Identifier: Apache-2.0
"""What clients requested of a model, and what its runner was given."""

import msgspec

from ollama_exporter.actions.load_options import LoadOptions
from ollama_exporter.actions.saved_options import SavedOptions
from ollama_exporter.protocol.request_body import RequestFields

BATCH = (("num_batch", 256), ("use_mmap", False))
MINE = RequestFields(num_ctx=8192, options=BATCH)


def weights(name: str) -> str:
    return {"mine:latest": "mistral:latest"}.get(name, name)


def test_names_of_one_runner_share_what_it_was_given_until_it_is_gone() -> None:
    it = LoadOptions(weights)
    assert it.on_request_end("mine:latest", MINE, at=10)
    assert not it.on_request_end("mine:latest", MINE, at=11)
    given = {"num_ctx": 4096, "num_batch": 256, "use_mmap": False}
    assert it.for_resident("mistral:latest", 4096) == given
    it.on_loaded("mistral:latest", 4096, not_before=5)
    assert it.for_resident("mistral:latest", 4096) == given
    it.on_unloaded("mistral:latest", not_after=12)
    assert it.for_resident("mistral:latest", 4096) == {"num_ctx": 4096}
    assert it.for_load("mine:latest") == given | {"num_ctx": 8192}


def test_the_last_request_counts_whatever_its_name() -> None:
    it = LoadOptions(weights)
    it.on_request_end("mine:latest", MINE, at=10)
    it.on_request_end("mistral:latest", RequestFields(), at=20)
    assert it.for_resident("mine:latest", 4096) == {"num_ctx": 4096}


def test_all_of_it_outlasts_a_restart() -> None:
    it, later = LoadOptions(weights), LoadOptions(weights)
    it.on_request_end("mine:latest", MINE, at=10)
    it.on_listed("llama3.2:latest", 2048)
    saved = msgspec.json.decode(msgspec.json.encode(it.saved()), type=SavedOptions)
    later.restore(saved)
    assert later.saved() == it.saved() == saved
    assert later.for_load("llama3.2:latest") == {"num_ctx": 2048}
    assert later.for_resident("mine:latest", 4096)["num_batch"] == 256
