# SPDX-License-Identifier: Apache-2.0
"""Weights to names, on virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.host.blob_lookup import (
    ATTEMPTS,
    CATCH_UP,
    LONGEST_LOAD,
    MOST_MODELS,
    BlobLookup,
)
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import WeightsNamed
from tests.support.machine import hexed
from tests.support.timelines import GivenTimeline
from tests.support.virtual import now, run_virtually


@dataclass(slots=True)
class Server:
    """Answers from what is installed; `asked`: what it was asked, in order."""

    installed: list[InstalledModel] = field(default_factory=list)
    weights: dict[str, str | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failing: int = 0

    def pull(self, name: str, digest: str, weights: str | None) -> None:
        """Install a model."""
        self.installed = [each for each in self.installed if each.name != name]
        self.installed.append(InstalledModel(name, digest, 1, remote=False))
        self.weights[name] = weights

    async def tags(self) -> tuple[InstalledModel, ...]:
        """List what is installed."""
        self.asked.append("tags")
        self._fail()
        return tuple(self.installed)

    async def show(self, name: str) -> str | None:
        """Show the weights of a model."""
        self.asked.append(name)
        self._fail()
        return self.weights[name]

    def _fail(self) -> None:
        if self.failing:
            self.failing -= 1
            raise TargetError(FailureReason.STATUS, "HTTP status 500")


@dataclass(slots=True)
class Scene:
    """A lookup at work."""

    server: Server
    lookup: BlobLookup
    told: list[tuple[str, str]]
    loading: bool = False


def listed(name: str, digest: str) -> RunningModel:
    return RunningModel(name, digest, 5.0)


def with_lookup(
    story: Callable[[Scene], Coroutine[Any, Any, None]], *, running: bool = True
) -> None:
    """Play a story with a server and a lookup."""

    async def play() -> None:
        server, told = Server(), list[tuple[str, str]]()

        def tell(fact: object) -> None:
            assert isinstance(fact, WeightsNamed)
            told.append((fact.model, fact.weights))

        scene: Scene
        lookup = BlobLookup(
            server,
            reporter=Reporter(fact=tell),
            timeline=GivenTimeline(now),
            loading=lambda: scene.loading,
        )
        scene = Scene(server, lookup, told)
        if running:
            lookup.start()
        task = asyncio.create_task(lookup.run())
        await story(scene)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(play())


def test_what_is_installed_is_asked_about_once() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.server.pull("b:latest", "2", hexed("b"))
        for _ in range(3):
            scene.lookup.on_installed(scene.server.installed)
            await asyncio.sleep(60)
        assert scene.told == [("a:latest", hexed("a")), ("b:latest", hexed("b"))]
        assert scene.server.asked == ["a:latest", "b:latest"]

    with_lookup(story)


def test_names_of_one_digest_are_told_apart_with_one_question() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.server.pull("alias:latest", "1", hexed("a"))
        scene.lookup.on_installed(scene.server.installed)
        await asyncio.sleep(60)
        assert scene.told == [("a:latest", hexed("a")), ("alias:latest", hexed("a"))]
        assert scene.server.asked == ["a:latest"]

    with_lookup(story)


def test_a_name_that_gets_new_weights_is_asked_about_when_they_are_listed() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.lookup.on_installed(scene.server.installed)
        await asyncio.sleep(60)
        scene.server.pull("a:latest", "2", hexed("b"))
        scene.lookup.on_listing([listed("a:latest", "1"), listed("a:latest", "2")])
        await asyncio.sleep(60)
        scene.lookup.on_listing([listed("a:latest", "1"), listed("a:latest", "2")])
        await asyncio.sleep(60)
        assert scene.told == [("a:latest", hexed("a")), ("a:latest", hexed("b"))]
        assert scene.lookup.resident_weights() == {hexed("a"), hexed("b")}
        assert scene.server.asked.count("a:latest") == 2

    with_lookup(story)


def test_a_name_that_returns_to_its_old_weights_is_told_again_without_a_question() -> None:
    async def story(scene: Scene) -> None:
        for digest, letter in (("1", "a"), ("2", "b"), ("1", "a")):
            scene.server.pull("a:latest", digest, hexed(letter))
            scene.lookup.on_installed(scene.server.installed)
            await asyncio.sleep(60)
        assert [weights for _, weights in scene.told] == [hexed("a"), hexed("b"), hexed("a")]
        assert scene.server.asked == ["a:latest", "a:latest"]

    with_lookup(story)


def test_old_weights_of_a_name_are_never_said_to_be_its_own_now() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("a:latest", "2", hexed("b"))
        for _ in range(5):  # resident from before the exporter began
            scene.lookup.on_listing([listed("a:latest", "1")])
            await asyncio.sleep(60)
        assert scene.told == [("a:latest", hexed("b"))]
        assert scene.server.asked == ["tags", "a:latest"]

    with_lookup(story)


def test_nothing_is_asked_while_a_model_is_loaded() -> None:
    async def story(scene: Scene) -> None:
        scene.loading = True
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.lookup.on_installed(scene.server.installed)
        await asyncio.sleep(100)
        assert scene.server.asked == []
        scene.loading = False
        await asyncio.sleep(2)
        assert scene.told == [("a:latest", hexed("a"))]

    with_lookup(story)


def test_a_runner_without_a_name_is_asked_about_though_a_model_is_loaded() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.lookup.on_installed(scene.server.installed)
        await asyncio.sleep(60)
        scene.loading = True
        scene.server.pull("a:latest", "2", hexed("b"))
        scene.lookup.on_runner(hexed("a"))  # its name is known
        await asyncio.sleep(60)
        assert scene.server.asked == ["a:latest"]
        scene.lookup.on_runner(hexed("b"))
        await asyncio.sleep(0.1)
        assert scene.told[1:] == [("a:latest", hexed("b"))]
        scene.lookup.on_runner(hexed("deleted"))
        scene.server.pull("b:latest", "3", hexed("c"))
        scene.lookup.on_listing([listed("b:latest", "3")])
        await asyncio.sleep(60)
        assert scene.told[2:] == [("b:latest", hexed("c"))]

    with_lookup(story)


def test_a_load_that_is_stuck_is_not_waited_for_for_ever() -> None:
    async def story(scene: Scene) -> None:
        scene.loading = True
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.lookup.on_installed(scene.server.installed)
        await asyncio.sleep(3 * LONGEST_LOAD)
        assert scene.told == [("a:latest", hexed("a"))]

    with_lookup(story)


def test_a_question_that_fails_is_asked_again_a_few_times() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.server.failing = 1
        scene.lookup.on_installed(scene.server.installed)
        await asyncio.sleep(60)
        assert scene.told == [("a:latest", hexed("a"))]
        scene.server.pull("b:latest", "2", hexed("b"))
        scene.server.failing = 99
        scene.lookup.on_installed(scene.server.installed)
        await asyncio.sleep(600)
        assert scene.server.asked.count("b:latest") == ATTEMPTS

    with_lookup(story)


def test_an_inventory_that_fails_is_taken_again_when_something_else_is_listed() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("a:latest", "1", hexed("a"))
        scene.server.failing = 1
        scene.lookup.on_listing([listed("a:latest", "1")])
        await asyncio.sleep(60)
        assert scene.told == []
        scene.lookup.on_listing([listed("a:latest", "1"), listed("b:latest", "2")])
        await asyncio.sleep(60)
        assert scene.told == [("a:latest", hexed("a"))]

    with_lookup(story)


def test_cloud_models_models_without_a_blob_and_deleted_ones_have_no_weights() -> None:
    async def story(scene: Scene) -> None:
        scene.server.pull("mlx:latest", "1", None)
        cloud = InstalledModel("x:cloud", "3", 1, remote=True)
        gone = InstalledModel("gone:latest", "4", 1, remote=False)
        scene.lookup.on_installed([*scene.server.installed, cloud, gone])
        scene.lookup.on_installed([*scene.server.installed, cloud])
        await asyncio.sleep(60)
        assert scene.told == []
        assert scene.server.asked == ["mlx:latest"]

    with_lookup(story)


def test_what_is_remembered_has_a_limit() -> None:
    async def story(scene: Scene) -> None:
        for number in range(MOST_MODELS + 10):
            scene.server.pull("a:latest", str(number), hexed("a"))
            scene.lookup.on_installed(scene.server.installed)
            await asyncio.sleep(1)
        scene.lookup.on_listing([listed("a:latest", "0")])
        assert scene.lookup.resident_weights() == frozenset()  # the oldest are forgotten
        scene.lookup.on_listing([listed("a:latest", str(MOST_MODELS))])
        assert scene.lookup.resident_weights() == {hexed("a")}

    with_lookup(story)


def test_what_is_resident_at_the_start_is_named_at_once_even_while_a_model_is_loaded() -> None:
    async def story(scene: Scene) -> None:
        scene.loading = True
        for name, letter in (("a:latest", "a"), ("b:latest", "b"), ("c:latest", "c")):
            scene.server.pull(name, letter, hexed(letter))
        scene.lookup.on_listing([listed("b:latest", "b"), listed("c:latest", "old")])
        await scene.lookup.catch_up()
        assert now() == 0.0
        assert scene.told == [("b:latest", hexed("b"))]
        assert scene.server.asked == ["tags", "b:latest"]

    with_lookup(story, running=False)


def test_a_server_that_never_answers_is_not_waited_for_for_long() -> None:
    async def story(scene: Scene) -> None:
        await scene.lookup.catch_up()
        assert now() == CATCH_UP
        assert scene.told == []

    with_lookup(story, running=False)
