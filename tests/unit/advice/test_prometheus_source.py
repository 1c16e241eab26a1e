# SPDX-License-Identifier: Apache-2.0
"""What is made of the answers of Prometheus."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ollama_exporter.advice.model_usage import KEEP_ALIVES
from ollama_exporter.advice.prometheus_source import (
    HistoryQuery,
    Prometheus,
    from_prometheus,
    label,
    window,
)
from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.errors import SourceError

DAY = 86400.0


class Answers(BoundedClient):
    """Gives one answer to every query, or by what the query contains."""

    def __init__(self, *bodies: tuple[str, bytes]) -> None:
        super().__init__()
        self.bodies, self.queries = bodies, list[str]()

    def fetch(
        self, method: str, url: str, *, hint: str = "", form: Mapping[str, str] | None = None
    ) -> bytes:
        assert (method, url) == ("POST", "http://prom/api/v1/query")
        assert hint == ". Is Prometheus running there?"
        self.queries.append((form or {})["query"])
        return next(body for part, body in self.bodies if part in self.queries[-1])


def vector(*values: float | str, **more: Any) -> bytes:
    series = [{"metric": {"model": "m:latest"}, "value": [1, str(value)]} for value in values]
    return json.dumps({"status": "success", "data": {"result": series}, **more}).encode()


def test_the_span_and_the_share_of_it_with_samples_are_asked_for() -> None:
    client = Answers(
        ("min(min_over_time", vector(1000.0)),
        ("vector(time())", vector(1000.0 + DAY)),
        ("count(count_over_time", vector(2)),
        ("max(count_over_time", vector(150)),
        ("ollama_model_loads_total", vector(7, warnings=["partial \x1b[31m", "partial \x1b[31m"])),
        ("", vector()),
    )
    history = from_prometheus(client, "http://prom/", HistoryQuery(DAY, "instance"))
    assert (history.source, history.span, history.hosts) == (
        "http://prom/, the last 24 hours",
        DAY,
        2,
    )
    assert history.covered == pytest.approx(0.5)  # 150 of 300 steps
    assert len(history.warnings) == 1
    assert history.warnings[0].isprintable()
    by_model = [query for query in client.queries if " by (" in query]
    assert all("instance" in query for query in by_model)
    medians = [query for query in by_model if "quantile_over_time(0.5, " in query]
    assert len(medians) == len(KEEP_ALIVES)
    assert all(any(name in query for query in medians) for name in KEEP_ALIVES)


@pytest.mark.parametrize("moment", [vector(), vector("NaN"), vector("+Inf")])
def test_without_samples_there_is_nothing_to_advise(moment: bytes) -> None:
    client = Answers(("vector(time())", moment), ("min(min_over_time", vector(1.0)), ("", vector()))
    with pytest.raises(SourceError, match="has no samples of ollama_exporter in the last 48 h"):
        from_prometheus(client, "http://prom", HistoryQuery(2 * DAY))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "does not look like a Prometheus server"),
        (vector("x"), "does not look like a Prometheus server"),
        (b'{"status":"error","error":"bad_data: no"}', "rejects a query: bad_data: no"),
    ],
)
def test_what_is_no_answer_is_one_line(body: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        Prometheus(Answers(("", body)), "http://prom").vector("up")


def test_only_so_many_warnings_are_kept() -> None:
    many = vector(1, warnings=[f"warning {n}" for n in range(99)])
    source = Prometheus(Answers(("", many)), "http://prom")
    assert (source.number("a"), source.number("b")) == (1.0, 1.0)
    assert source.warnings == [f"warning {n}" for n in range(10)]


def test_a_window_and_a_label_are_read() -> None:
    assert (window("1w12h"), label("instance")) == (7.5 * DAY, "instance")
