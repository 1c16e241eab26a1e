# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from ollama_exporter.cli.present.quantities import gpu_share, memory, moment, remaining


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.0"), (-1, "0:00.0"), (59.96, "1:00.0"), (62.5, "1:02.5")]
)
def test_moments_count_from_the_start(seconds: float, text: str) -> None:
    assert moment(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 MiB"), (300 << 20, "300 MiB"), (5 << 30, "5.0 GiB")]
)
def test_memory_is_written_for_people(size: int, text: str) -> None:
    assert memory(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(math.inf, "never"), (-0.5, "in use"), (0.0, "0 s"), (19.6, "20 s"), (125.0, "2 min 5 s")],
)
def test_what_is_left_of_a_keep_alive(seconds: float, text: str) -> None:
    assert remaining(seconds) == text


@pytest.mark.parametrize(
    ("size", "on_gpu", "text"),
    [(8, 6, "75%"), (8, 0, "0%"), (8, None, ""), (None, 6, ""), (0, 0, "")],
)
def test_how_much_is_on_the_gpu(size: int | None, on_gpu: int | None, text: str) -> None:
    assert gpu_share(size, on_gpu) == text
