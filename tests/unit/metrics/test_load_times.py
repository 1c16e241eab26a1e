# SPDX-License-Identifier: Apache-2.0
"""A load that its process showed and a request measured is one load."""

from ollama_exporter.metrics.load_times import MOST_MODELS, LoadTimes, Span


def totals(loads: LoadTimes) -> tuple[float, float]:
    """Return sum and number of what was observed."""
    values = {s.name: s.value for metric in loads.collect() for s in metric.samples}
    return (
        values.get("ollama_model_load_seconds_sum", 0.0),
        values.get("ollama_model_load_seconds_count", 0.0),
    )


def test_the_process_is_seen_first() -> None:
    loads = LoadTimes()
    loads.on_process_load("a:latest", "a:latest", 4.0, ended=104.2)
    loads.on_request_load("a:latest", "a:latest", 4.5, Span(99.8, 104.3))
    assert totals(loads) == (4.0, 1)


def test_the_request_ends_first() -> None:
    loads = LoadTimes()
    loads.on_request_load("a:latest", "a:latest", 4.5, Span(99.8, 104.3))
    loads.on_process_load("a:latest", "a:latest", 4.0, ended=104.9)
    assert totals(loads) == (4.5, 1)


def test_each_load_of_a_model_counts() -> None:
    loads = LoadTimes()
    loads.on_process_load("a:latest", "a:latest", 4.0, ended=104.0)
    loads.on_request_load("a:latest", "a:latest", 2.0, Span(200.0, 202.0))
    loads.on_process_load("a:latest", "a:latest", 2.0, ended=202.5)
    loads.on_process_load("a:latest", "a:latest", 1.0, ended=300.0)
    assert totals(loads) == (7.0, 3)


def test_models_that_share_a_label_are_told_apart() -> None:
    loads = LoadTimes()
    loads.on_process_load("a:latest", "other", 4.0, ended=104.0)
    loads.on_request_load("b:latest", "other", 2.0, Span(101.0, 103.0))
    assert totals(loads) == (6.0, 2)


def test_what_is_remembered_has_a_limit() -> None:
    loads = LoadTimes()
    for number in range(MOST_MODELS + 1):
        loads.on_process_load(f"{number}:latest", "other", 1.0, ended=10.0)
    loads.on_request_load("0:latest", "other", 1.0, Span(9.0, 10.0))  # forgotten: counted again
    loads.on_request_load("1:latest", "other", 1.0, Span(9.0, 10.0))
    assert totals(loads)[1] == MOST_MODELS + 2
