# SPDX-License-Identifier: Apache-2.0
import asyncio

from ollama_exporter.actions.shared_blobs import MAX_NAMES, SharedBlobs
from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.wire import InstalledModel, ModelDetails


class Library:
    """Shows weights, and how often it was asked."""

    def __init__(self, **weights: str) -> None:
        self.weights, self.asked = weights, 0

    async def details(self, name: str) -> ModelDetails:
        self.asked += 1
        short = name.partition(":")[0].lower()
        if short not in self.weights:
            raise TargetError(FailureReason.STATUS, "HTTP status 404")
        return ModelDetails(self.weights[short] or None, 4096)


def test_names_with_one_digest_share_a_runner_before_anything_is_asked() -> None:
    library = Library()
    blobs = SharedBlobs(library)
    names = [("A:latest", "1"), ("b:latest", "1"), ("c:latest", "2"), ("d:latest", "")]
    blobs.on_installed([InstalledModel(name, digest, 5, remote=False) for name, digest in names])
    assert blobs.listed_name("b", ["A:latest"]) == "A:latest"
    assert blobs.listed_name("c", ["A:latest"]) is None
    assert blobs.listed_name("d", ["e:latest"]) is None
    assert library.asked == 0


def test_a_name_with_another_digest_is_asked_for_again() -> None:
    library = Library(a="sha256-1")
    blobs = SharedBlobs(library)
    for digest, asked in (("1", 1), ("1", 1), ("2", 2), ("2", 2)):
        blobs.on_installed([InstalledModel("a:latest", digest, 5, remote=False)])
        asyncio.run(blobs.resolve([("a", 0)]))
        assert library.asked == asked


def test_names_of_the_same_weights_are_one_runner() -> None:
    library = Library(a="sha256-1", b="sha256-1", c="sha256-2", cloud="")
    blobs = SharedBlobs(library)
    names = [(name, 5) for name in ("a", "B:latest", "c", "cloud", "absent")]
    asyncio.run(blobs.resolve(names))
    assert blobs.listed_name("a", ["a:latest"]) == "a:latest"
    assert blobs.listed_name("A", ["a:latest"]) == "a:latest"
    assert blobs.listed_name("b", ["c:latest", "a:latest"]) == "a:latest"
    assert blobs.listed_name("c", ["a:latest"]) is None
    assert blobs.listed_name("cloud", ["a:latest"]) is None
    assert blobs.listed_name("absent", ["a:latest"]) is None
    assert blobs.is_resolved("cloud")
    assert not blobs.is_resolved("absent")
    asyncio.run(blobs.resolve([("a", 5), ("b", 0), ("c", 6)]))
    assert library.asked == 6  # only the one that was made anew


def test_only_so_many_names_are_asked_for_and_known_ones_go_on_being() -> None:
    library = Library(**{f"m{n}": "sha256-1" for n in range(MAX_NAMES + 5)})
    blobs = SharedBlobs(library)
    asyncio.run(blobs.resolve((f"m{n}", 0) for n in range(MAX_NAMES + 5)))
    assert library.asked == MAX_NAMES
    assert not blobs.is_resolved(f"m{MAX_NAMES}")
    asyncio.run(blobs.resolve([("m0", 7)]))
    assert library.asked == MAX_NAMES + 1
