# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.residency.events import ModelState, View
from ollama_exporter.shim.polled_residence import PolledResidence

LISTED = RunningModel("llama3:latest", "d1", 900.0)
STATE = ModelState("llama3:latest", (LISTED,), 7.0, None, None)
INSTALLED = [
    InstalledModel("llama3:latest", "d1", 5, remote=False),
    InstalledModel("Copy:latest", "d1", 5, remote=False),  # the same manifest
    InstalledModel("child:latest", "d2", 5, remote=False),  # other parameters, the same weights
    InstalledModel("other:latest", "d3", 5, remote=False),
    InstalledModel("mycoder:latest", "d4", 1, remote=True),
]
WEIGHTS = {"d1": "sha256-1", "d2": "sha256-1", "d3": "sha256-3"}


def residence(
    *,
    resident: tuple[ModelState, ...] = (STATE,),
    weights: dict[str, str] | None = None,
    installed: list[InstalledModel] | None = INSTALLED,
    up: bool = True,
) -> PolledResidence:
    published = Published(ServerState(up=up), View(resident, 0, (), None, 10.0))
    known = WEIGHTS if weights is None else weights
    made = PolledResidence(lambda: published, weights=known.get)
    if installed is not None:
        made.on_installed(installed)
    return made


@pytest.mark.parametrize(
    ("name", "resident"),
    [
        ("llama3:latest", True),
        ("Copy:latest", True),
        ("child:latest", True),
        ("other:latest", False),
        ("unheard-of:latest", False),
    ],
)
def test_names_that_share_weights_share_a_runner(name: str, *, resident: bool) -> None:
    polled = residence()
    assert polled.is_resident(name) is resident
    assert polled.loaded_at(name) == (7.0 if resident else None)


@pytest.mark.parametrize(
    ("name", "resident"),
    [("Copy:latest", True), ("child:latest", None), ("other:latest", None)],
)
def test_without_weights_it_is_unknown_whether_a_runner_is_shared(
    name: str, *, resident: bool | None
) -> None:
    assert residence(weights={"d2": "sha256-1", "d3": "sha256-3"}).is_resident(name) is resident
    assert residence(weights={"d1": "sha256-1"}).is_resident(name) is resident


def test_with_nothing_resident_nothing_is_shared() -> None:
    assert residence(resident=(), weights={}).is_resident("other:latest") is False
    assert residence(resident=(), installed=None).is_resident("other:latest") is False


def test_before_the_installed_models_are_known_only_a_listed_name_is_certain() -> None:
    polled = residence(installed=None)
    assert polled.is_resident("llama3:latest") is True
    assert polled.is_resident("other:latest") is None


def test_while_the_server_does_not_answer_nothing_is_known() -> None:
    assert residence(up=False).is_resident("llama3:latest") is None


def test_weights_that_a_model_does_not_have_are_not_shared() -> None:
    assert residence(weights={"d1": "", "d3": ""}).is_resident("other:latest") is False


def test_a_name_has_the_server_s_spelling() -> None:
    polled = residence()
    assert polled.canonical_name("copy:LATEST") == "Copy:latest"
    assert residence(installed=None).canonical_name("LLAMA3:latest") == "llama3:latest"
    assert polled.canonical_name("unheard-of:latest") is None


def test_a_remote_model_is_known_by_its_listing_first_and_by_its_name_second() -> None:
    polled = residence()
    assert polled.is_remote("MyCoder:latest")
    assert not polled.is_remote("llama3:latest")
    assert polled.is_remote("gpt-oss:120b-cloud")
    assert residence(installed=None).is_remote("gpt-oss:120b-cloud")
