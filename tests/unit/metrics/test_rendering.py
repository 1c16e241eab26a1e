# SPDX-License-Identifier: Apache-2.0
"""Our renderer writes what the client library writes, to the byte, in both formats."""

import gzip
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar, Timestamp

from ollama_exporter.metrics.catalog.family import Family
from ollama_exporter.metrics.catalog_metric import CatalogHistogram, CatalogMetric
from ollama_exporter.metrics.rendering import END, PART, PARTS_OF_RUN, STEADY, UNESCAPED, Renderer

NUMBERS: Final = st.one_of(
    st.floats(),  # with infinities, NaN, -0.0
    st.integers(-(2**63), 2**63),
    st.sampled_from([0.0, 1.0, -0.0, 1e6, -1e6, 999999.5, 1e-7, 1e21, 1234567.0]),
)
TEXTS: Final = st.text(max_size=20) | st.sampled_from(['a"b', "a\\b", "a\nb", "", "é", "llama3:8b"])
LABELS: Final = st.dictionaries(st.sampled_from(["model", "reason", "a", "z"]), TEXTS, max_size=3)


class Families:
    """A registry of fixed families."""

    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self.families


def by_library(*families: Metric, is_openmetrics: bool) -> bytes:
    """Return the library's text."""
    if is_openmetrics:
        text: bytes = openmetrics.generate_latest(Families(*families), UNESCAPED)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return text.removesuffix(END)
    return exposition.generate_latest(Families(*families), UNESCAPED)


@st.composite
def families(draw: st.DrawFn) -> Metric:
    """Draw a family of the kinds that we expose."""
    kind = draw(st.sampled_from(["counter", "gauge", "histogram"]))
    metric = Metric("ollama_x", draw(TEXTS), kind)
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
    for _ in range(draw(st.integers(0, 6))):
        suffix = draw(st.sampled_from([*suffixes[kind], *(["_created"] * (kind != "gauge"))]))
        exemplar = None
        if suffix in {"_total", "_bucket"} and draw(st.booleans()):
            at = draw(st.none() | st.floats(0, 2e9))
            exemplar = Exemplar(draw(LABELS), draw(NUMBERS), at)
        metric.add_sample(f"ollama_x{suffix}", draw(LABELS), draw(NUMBERS), exemplar=exemplar)
    return metric


@given(found=st.lists(families(), max_size=4), is_openmetrics=st.booleans())
def test_it_is_the_librarys_text_to_the_byte(found: list[Metric], *, is_openmetrics: bool) -> None:
    renderer = Renderer()
    for _ in range(2):  # the second time from what was kept
        text = renderer.render(found, is_openmetrics=is_openmetrics)
        assert text == by_library(*found, is_openmetrics=is_openmetrics)


COUNTER: Final = Family("ollama_x_total", "counter", "h", ("reason", "model"))
UNSIGNED: Final = NUMBERS.map(lambda x: x + 0)  # no -0.0, for which a kept 0.0 may stay
HISTOGRAM: Final = Family("ollama_y", "histogram", "h", ("model",), (0.5, 2.0))


@st.composite
def of_catalog(draw: st.DrawFn) -> Metric:
    """Draw a family that keeps label values and numbers."""
    if draw(st.booleans()):
        labels = st.tuples(TEXTS, TEXTS)
        values = st.lists(st.tuples(labels, UNSIGNED), max_size=5, unique_by=lambda x: x[0])
        return CatalogMetric(COUNTER, COUNTER.base, draw(values))
    counts = st.tuples(*[st.integers(0, 2**40)] * 3)
    exemplars = st.dictionaries(
        st.integers(0, 2), st.builds(Exemplar, LABELS, UNSIGNED, st.none()), max_size=2
    )
    child = st.tuples(st.tuples(TEXTS), counts, UNSIGNED, exemplars)
    children = st.lists(child, max_size=3, unique_by=lambda x: x[0])
    return CatalogHistogram(HISTOGRAM, ("0.5", "2.0", "+Inf"), draw(children))


@given(found=st.lists(of_catalog(), min_size=2, max_size=4), is_openmetrics=st.booleans())
def test_families_of_the_catalog_are_written_likewise(
    found: list[Metric], *, is_openmetrics: bool
) -> None:
    renderer = Renderer(most_heads=3)
    for each in [*found, *found]:  # one after the other takes the place of what was kept
        text = renderer.render([each], is_openmetrics=is_openmetrics)
        assert text == by_library(each, is_openmetrics=is_openmetrics)


LONG: Final = [
    CatalogMetric(COUNTER, COUNTER.base, [(("a", str(number)), 1.0) for number in range(1300)]),
    CatalogHistogram(
        HISTOGRAM,
        ("0.5", "2.0", "+Inf"),
        [((str(number),), (1, 2, 3), 4.0, {}) for number in range(300)],
    ),
]


@pytest.mark.parametrize("family", LONG, ids=["counter", "histogram"])
def test_a_long_family_comes_in_short_runs_with_pauses_in_between(family: Metric) -> None:
    renderer = Renderer()
    for _ in range(STEADY + 3):
        runs = [text for _, text in renderer.runs([family], is_openmetrics=False)]
        whole = b"".join(runs)
        assert whole == by_library(family, is_openmetrics=False)
        assert max(text.count(b"\n") for text in runs) <= PART * PARTS_OF_RUN + 2  # HELP and TYPE
        parts = whole.count(b"\n") // PART
        assert parts <= runs.count(b"") <= len(runs) <= 1.5 * parts
    # and is compressed once, as long as nothing changes
    compressed = [
        list(renderer.compressed.gzip(renderer.runs([family], is_openmetrics=False)))
        for _ in range(3)
    ]
    assert all(a is b for a, b in zip(compressed[1][:-1], compressed[2][:-1], strict=True))


@given(
    changes=st.lists(st.sets(st.integers(0, 9), max_size=2), min_size=STEADY + 8, max_size=30),
    is_openmetrics=st.booleans(),
)
def test_a_compressed_scrape_is_its_text_whatever_has_changed(
    changes: list[set[int]], *, is_openmetrics: bool
) -> None:
    renderer, values = Renderer(), [0.0] * 10
    families = [Family(f"ollama_{'x' * number}", "gauge", "h", ("model",)) for number in range(10)]
    for changed in changes:
        for number in changed:
            values[number] += 1
        found: list[Metric] = [
            CatalogMetric(family, family.name, [(("a",), value)])
            for family, value in zip(families, values, strict=True)
        ]
        found.append(GaugeMetricFamily("z", "h", value=values[0]))
        runs = renderer.runs(found, is_openmetrics=is_openmetrics)
        text = gzip.decompress(b"".join(renderer.compressed.gzip(runs)))
        assert text == by_library(*found, is_openmetrics=is_openmetrics)


RARE: Final = [
    InfoMetricFamily("a", "h", {"x": "y"}),
    StateSetMetricFamily("a", "h", {"x": True}),
    SummaryMetricFamily("a", "h", count_value=2, sum_value=3),
    GaugeHistogramMetricFamily("a", "h", buckets=[("1", 1), ("+Inf", 2)], gsum_value=2),
    HistogramMetricFamily("a", "h", buckets=[("1", 1), ("+Inf", 2)], sum_value=2),
    UnknownMetricFamily("a", "h", value=1),
    GaugeMetricFamily("a_seconds", "h", value=1, unit="seconds"),
    CounterMetricFamily("a", "h", value=1, created=5),
]


@pytest.mark.parametrize("is_openmetrics", [True, False])
@pytest.mark.parametrize("family", RARE, ids=[each.type for each in RARE])
def test_what_is_rare_is_left_to_the_library(family: Metric, *, is_openmetrics: bool) -> None:
    text = Renderer().render([family], is_openmetrics=is_openmetrics)
    assert text == by_library(family, is_openmetrics=is_openmetrics)


@pytest.mark.parametrize("is_openmetrics", [True, False])
def test_a_timestamp_is_written(*, is_openmetrics: bool) -> None:
    family = GaugeMetricFamily("a", "h", labels=["x"])
    family.add_metric(["y"], 1.0, timestamp=Timestamp(5, 6000))
    text = Renderer().render([family], is_openmetrics=is_openmetrics)
    assert text == by_library(family, is_openmetrics=is_openmetrics)


def test_the_lines_that_are_kept_are_bounded() -> None:
    renderer = Renderer(most_heads=100)
    for number in range(1000):
        family = GaugeMetricFamily("a", "h", labels=["model"])
        family.add_metric([f"model-{number}"], number)
        assert str(number).encode() in renderer.render([family], is_openmetrics=False)
        assert renderer.heads <= 100
