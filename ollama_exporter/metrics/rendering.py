# SPDX-License-Identifier: Apache-2.0
"""Renders families as text: most lines change only in their number.

The client library sorts and escapes the labels of each line in each scrape, which takes 4 to 7 µs a
line. Here the text of a line up to its value is kept, which leaves about half a microsecond. The
result is the library's to the byte; what is rare in our exposition is left to the library.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from prometheus_client import exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from ollama_exporter.metrics.catalog_metric import (
    CatalogHistogram,
    CatalogMetric,
    HistogramValues,
    LabelledValue,
)
from ollama_exporter.metrics.kept_gzip import KeptGzip

# Our names need no escaping, and checking each of them costs half of the library's time.
UNESCAPED: Final = openmetrics.ALLOWUTF8
END: Final = b"# EOF\n"
MOST_HEADS: Final = 60_000  # lines; about 20 MB if all of them are long ones
KINDS: Final = frozenset({"counter", "gauge", "histogram"})
PART: Final = 100  # lines that are written at a time: 0.1 ms
PARTS_OF_RUN: Final = 5  # that are compressed together: each run costs some bytes and some time
MOST_KEPT: Final = 10_000  # lines of a family whose text is kept: some MB
CATALOG: Final = (CatalogMetric, CatalogHistogram)
NOT_OF_CATALOG: Final = -1  # in a place
A_FEW: Final = 6  # families in a run of steady ones, about
STEADY: Final = 8  # scrapes without a change
PLAIN: Final = 1e6  # below, Python and Go write a number in the same way
OUTSIDE_OPENMETRICS: Final = ("_created", "_gsum", "_gcount")  # moved to the end in the text format

# A sample's name, and its labels: their values alone if the family is one of the catalog.
Head = tuple[str, tuple[tuple[str, str], ...] | tuple[str, ...]]
Values = Sequence[LabelledValue] | Sequence[HistogramValues]
Place = tuple[str, bool, int]  # of a part of a family: its name, the format, which of its parts
# Place, None if it is not steady; number of lines; text.
Part = tuple[Place | None, int, str]
Run = tuple[Place | None, bytes]  # the place of its first part, None if they are not steady
PAUSE: Final[Run] = (None, b"")  # between two parts of the work


class _Kept(Struct, frozen=True):
    """The text of a part of a family. `changed`: the number of the scrape in which it was new."""

    values: Values
    lines: int
    text: str
    changed: int


class _Listed:
    """What the library needs from a registry."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families


class Renderer:
    """Renders families in both formats. Scrapes that take turns may share it."""

    def __init__(self, *, most_heads: int = MOST_HEADS) -> None:
        self._heads: dict[Head, str] = {}  # name and labels -> the line up to its value
        self._beginnings: dict[tuple[str, str, str, bool], str] = {}  # one or two for each family
        self._texts: dict[Place, _Kept] = {}
        self._scrape = 0  # how many there were
        self._most_heads = most_heads
        self.compressed = KeptGzip()

    @property
    def heads(self) -> int:
        """The number of lines that are kept."""
        return len(self._heads)

    def render(self, families: Iterable[Metric], *, is_openmetrics: bool) -> bytes:
        """Return the text of families, without the last line of OpenMetrics."""
        return b"".join(text for _, text in self.runs(families, is_openmetrics=is_openmetrics))

    def runs(self, families: Iterable[Metric], *, is_openmetrics: bool) -> Iterator[Run]:
        """Yield the same in runs of some hundred lines that have changed lately, or have not.

        Empty runs in between take no place. They end the parts of the work.
        """
        self._scrape += 1
        texts: list[str] = []
        run, size, written = None, 0, 0
        for family in families:
            for place, lines, text in self._parts(family, is_openmetrics=is_openmetrics):
                # Where steady runs begin must not depend on what is before: that may change.
                is_first = place is not None and _begins_run(place)
                is_full = size >= PART * PARTS_OF_RUN
                if texts and (is_first or is_full or (place is None) != (run is None)):
                    yield run, "".join(texts).encode()
                    texts, size = [], 0
                if not texts:
                    run = place
                texts.append(text)
                size += lines
                written += lines
                if written >= PART:
                    yield PAUSE
                    written = 0
        yield run, "".join(texts).encode()

    def _parts(self, family: Metric, *, is_openmetrics: bool) -> Iterable[Part]:
        """Return the text of a family, in several parts if it is a long one."""
        if isinstance(family, CATALOG):
            place = (family.name, is_openmetrics, 0)
            before = self._texts.get(place)
            # Most have not changed. Equal numbers count as unchanged: 0.0 stays, if it is -0.0.
            if before is not None and before.values == family.values:
                return ((place if self._is_steady(before) else None, before.lines, before.text),)
            return self._of_catalog(family, is_openmetrics=is_openmetrics)
        place = (family.name, is_openmetrics, NOT_OF_CATALOG)
        before = self._texts.get(place)
        texts: list[str] = []
        if not self._append(texts, family, is_openmetrics=is_openmetrics):
            texts.append(_by_library(family, is_openmetrics=is_openmetrics))
        text = "".join(texts)
        if before is not None and before.text == text:
            return ((place if self._is_steady(before) else None, len(texts), text),)
        self._texts[place] = _Kept((), len(texts), text, self._scrape)
        return ((None, len(texts), text),)

    def _is_steady(self, kept: "_Kept") -> bool:
        """Return whether a text has not changed for a while.

        One that changes now and then would split the run that it is in, and join it again.
        """
        return self._scrape - kept.changed > STEADY

    def _append(self, texts: list[str], family: Metric, *, is_openmetrics: bool) -> bool:
        """Append a family; return False, and append nothing, if it is not a plain one."""
        if family.type not in KINDS or family.unit:
            return False
        heads, lines = self._heads, []
        for sample in family.samples:
            name, labels, value, timestamp, exemplar, native = sample
            key = (name, tuple(labels.items()))
            head = heads.get(key)
            if head is None:
                if name.removeprefix(family.name) in OUTSIDE_OPENMETRICS:
                    return False
                head = self._keep(key, sample.labels)
            if timestamp is not None or native is not None:
                return False
            text = _text(value)
            if exemplar is None or not is_openmetrics:
                lines.append(f"{head}{text}\n")
            else:
                lines.append(f"{head}{text}{_exemplar(exemplar)}\n")
        texts.append(self._beginning(family, is_openmetrics=is_openmetrics))
        texts += lines
        return True

    def _of_catalog(
        self, family: CatalogMetric | CatalogHistogram, *, is_openmetrics: bool
    ) -> Iterator[Part]:
        each = len(family.le) + 2 if isinstance(family, CatalogHistogram) else 1
        step, total = max(1, PART // each), len(family.values)
        for start in range(0, max(1, total), step):
            values = family.values[start : start + step]
            place = (family.name, is_openmetrics, start // step)
            before = self._texts.get(place)
            if before is not None and before.values == values:
                yield place if self._is_steady(before) else None, before.lines, before.text
                continue
            lines = [] if start else [self._beginning(family, is_openmetrics=is_openmetrics)]
            if isinstance(family, CatalogHistogram):
                chosen = family.values[start : start + step]
                self._append_buckets(lines, family, chosen, is_openmetrics=is_openmetrics)
            else:
                self._append_values(lines, family, family.values[start : start + step])
            text = "".join(lines)
            if total * each <= MOST_KEPT:
                self._texts[place] = _Kept(values, len(lines), text, self._scrape)
            yield None, len(lines), text

    def _append_values(
        self, lines: list[str], family: CatalogMetric, values: Sequence[LabelledValue]
    ) -> None:
        heads, name, names = self._heads, family.sample_name, family.label_names
        for labels, value in values:
            key = (name, labels)
            head = heads.get(key) or self._keep(key, dict(zip(names, labels, strict=True)))
            lines.append(f"{head}{_text(value)}\n")

    def _append_buckets(
        self,
        lines: list[str],
        family: CatalogHistogram,
        children: Sequence[HistogramValues],
        *,
        is_openmetrics: bool,
    ) -> None:
        name, names = family.name, family.label_names
        bucket, count, sum_ = f"{name}_bucket", f"{name}_count", f"{name}_sum"
        for values, counts, total, exemplars in children:
            labels, below = dict(zip(names, values, strict=True)), 0.0
            for number, (le, here) in enumerate(zip(family.le, counts, strict=True)):
                below += here
                key = (bucket, (*values, le))
                head = self._heads.get(key) or self._keep(key, {**labels, "le": le})
                exemplar = exemplars.get(number) if is_openmetrics else None
                after = "" if exemplar is None else _exemplar(exemplar)
                lines.append(f"{head}{_text(below)}{after}\n")
            for key, value in (((count, values), below), ((sum_, values), total)):
                head = self._heads.get(key) or self._keep(key, labels)
                lines.append(f"{head}{_text(value)}\n")

    def _beginning(self, family: Metric, *, is_openmetrics: bool) -> str:
        about = (family.name, family.type, family.documentation, is_openmetrics)
        beginning = self._beginnings.get(about)
        if beginning is None:
            beginning = self._beginnings[about] = _beginning(*about)
        return beginning

    def _keep(self, key: Head, labels: Mapping[str, str]) -> str:
        """Return a line up to its value, and keep it."""
        if len(self._heads) >= self._most_heads:
            self._heads.clear()  # models come and go; the lines in use return with the next scrape
        pairs = ",".join(f'{name}="{_escaped(labels[name])}"' for name in sorted(labels))
        head = f"{key[0]}{{{pairs}}} " if pairs else f"{key[0]} "
        self._heads[key] = head
        return head


def _begins_run(place: Place) -> bool:
    name, _, part = place
    return not part % PARTS_OF_RUN if part > 0 else not len(name) % A_FEW


def _beginning(name: str, kind: str, text: str, is_openmetrics: bool) -> str:  # noqa: FBT001 - a key
    if is_openmetrics:
        return f"# HELP {name} {_escaped(text)}\n# TYPE {name} {kind}\n"
    if kind == "counter":
        name += "_total"
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _exemplar(exemplar: Exemplar) -> str:
    labels = ",".join(f'{k}="{_escaped(v)}"' for k, v in sorted(exemplar.labels.items()))
    timestamp = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{labels}}} {_number(exemplar.value)}{timestamp}"


def _text(value: float) -> str:
    number = float(value)
    return repr(number) if -PLAIN < number < PLAIN else _number(number)


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library has no types there


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _by_library(family: Metric, *, is_openmetrics: bool) -> str:
    if not is_openmetrics:
        return exposition.generate_latest(_Listed(family), UNESCAPED).decode()
    text: bytes = openmetrics.generate_latest(_Listed(family), UNESCAPED)  # type: ignore[no-untyped-call]  # likewise
    return text.removesuffix(END).decode()
