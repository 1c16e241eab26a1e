# SPDX-License-Identifier: Apache-2.0
"""With `--metrics.hide-models`, names of models reach no metric and no page."""

from pathlib import Path

import pytest

from ollama_exporter.errors import ConfigError
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.hidden_labels import DETAILS, DIGEST, NAMES
from ollama_exporter.metrics.hidden_names import HiddenNames, hidden_names
from ollama_exporter.metrics.labels import OTHER
from ollama_exporter.metrics.rendering import Renderer
from ollama_exporter.poller.published import ServerState
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import (
    Event,
    Evidence,
    ModelState,
    Reason,
    Unloaded,
    View,
)
from ollama_exporter.story.hidden_story import hidden_past, hidden_status
from ollama_exporter.story.history import History
from tests.support.metering import Metered, metered
from tests.support.storytelling import MadeUp, listing, resident, unloaded
from tests.support.whole_scrape import render

SECRET = ("secretive", "c0ffee", "8.8B", "IQ4_XS")  # of the one model, in all their places
# Labels of the catalog whose values no model and no user chooses.
HARMLESS = frozenset(
    {
        *("batch", "build", "by", "change", "class", "client", "code", "collector"),
        *("context_shift", "finish", "flash_attention", "format", "gpu_layers", "kind"),
        *("kv_cache_type", "label", "le", "level", "outcome", "path", "phase", "pythonversion"),
        *("reason", "revision", "route", "setting", "source", "speculative", "start", "state"),
        *("version", "why"),
    }
)


def _metered(hidden: HiddenNames | None) -> Metered:
    model = RunningModel(
        "secretive:latest", "c0ffee" * 10, 1e9, 2**30, 2**30, 4096, "secretive", "gguf", "8.8B",
        "IQ4_XS",
    )  # fmt: skip
    states = ModelState("secretive:latest", (model,), 1.0, None, None)
    server = ServerState(up=True, installed=(("secretive:latest", 4), ("secretive:8b", 5)))
    built = metered(
        view=View((states,), 0, (), None, 1.0),
        server=server,
        expected=("secretive:latest",),
        hidden=hidden,
    )
    evidence = (Evidence.DEADLINE_BETWEEN_POLLS,)
    event: Event = Unloaded(
        model, Reason.EVICTED, evidence, 1.0, 2.0, 3.0, 0.5, by="secretive:8b", early=0.0
    )
    built.instruments.lifecycle.on_event(event)
    built.instruments.gaps.add("secretive:latest", 5.0, inferred=True)
    return built


def _text(built: Metered, renderer: Renderer | None = None) -> str:
    return render(built.registry, renderer or Renderer())[1].decode()


def test_no_family_shows_a_name_and_each_keeps_its_series() -> None:
    shown, hidden = _text(_metered(None)), _text(_metered(HiddenNames()))
    assert all(word in shown for word in SECRET)
    assert not any(word in hidden for word in SECRET)
    assert len(hidden.splitlines()) == len(shown.splitlines())
    assert f'model="{HiddenNames()("secretive:latest")}"' in hidden


def test_names_are_hidden_in_text_that_was_kept_and_in_what_came_since() -> None:
    built, renderer = _metered(HiddenNames()), Renderer()
    first = _text(built, renderer)
    count = first.count("idle_gap_seconds_count")
    assert _text(built, renderer).count("idle_gap_seconds_count") == count
    built.instruments.gaps.add("secretive:8b", 5.0, inferred=True)
    assert _text(built, renderer).count("idle_gap_seconds_count") == count + 1
    assert "secretive" not in _text(built, renderer)


def test_each_label_of_the_catalog_is_known_to_be_harmless_or_is_hidden() -> None:
    labels = {label for family in FAMILIES.values() for label in family.labels}
    assert labels >= HARMLESS
    assert labels - HARMLESS == NAMES | DETAILS | {DIGEST}


def test_the_page_shows_no_name() -> None:
    hide = HiddenNames(b"key")
    told = MadeUp(listing(resident("secretive:latest", 1000.0)))
    history = History()
    history.on_change(
        (
            unloaded(
                "secretive:latest", since=1.0, at=2.0, reason=Reason.EVICTED, by="secretive:8b"
            ),
        ),
        told.published,
        1000.0,
    )
    status = hidden_status(told.narrator().status(1000.0), hide)
    past = hidden_past(history.past(since=0.0), hide)
    assert "secretive" not in f"{status}{past}"
    assert [event.text for event in past.events] == [f"evicted by {hide('secretive:8b')}"]
    assert {model.name for model in status.models} == {hide("secretive:latest")}


def test_a_hash_depends_on_the_key_and_leaves_the_label_of_many_alone() -> None:
    one, two = HiddenNames(b"one"), HiddenNames(b"two")
    assert one("a:latest") == HiddenNames(b"one")("a:latest") != two("a:latest")
    assert one("a:latest") != one("b:latest")
    assert (one(OTHER), one("")) == (OTHER, "")


def test_a_key_without_hashes_and_an_empty_key_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("key\n")
    with pytest.raises(ConfigError, match=r"set it together with metrics\.hide-models=hash"):
        hidden_names("off", file)
    found = hidden_names("hash", file)
    assert found is not None
    assert found("a") == HiddenNames(b"key")("a")
    file.write_text("")
    with pytest.raises(ConfigError, match="one line of text"):
        hidden_names("hash", file)
