# SPDX-License-Identifier: Apache-2.0
"""The board of `top`: what it says, and that it always fits."""

from datetime import UTC
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ollama_exporter.cli.present.board import (
    SORTS,
    BoardState,
    board,
    shown_models,
    table,
)
from ollama_exporter.cli.present.board_lines import LEAST_WIDTH
from ollama_exporter.protocol.keepalive import FOR_EVER
from ollama_exporter.story.document import EMPTY, StatusDocument
from ollama_exporter.story.past import Outage, Past, PastEvent, PastRequest, Stay
from ollama_exporter.story.status import (
    AdviceNow,
    MemoryNow,
    ModelNow,
    ServerNow,
    Status,
    WaitingNow,
)

NOW: Final = 1_795_800_000.0
MODELS: Final = (
    ModelNow(
        name="llama3.2:latest",
        resident=True,
        deadline=NOW + 92,
        keep_alive=300.0,
        size=2_600_000_000,
        size_vram=2_600_000_000,
        rank=2,
        slots=4,
        slots_busy=1,
        tokens_per_second=80.4,
        parameter_size="3.2B",
        quantization="Q4_K_M",
        context=4096,
        context_used=1200,
    ),
    ModelNow(
        name="mistral:latest",
        resident=True,
        pinned=True,
        keep_alive=FOR_EVER,
        size=5_200_000_000,
        size_vram=2_600_000_000,
        rank=1,
    ),
    ModelNow(name="qwen2.5:7b", resident=False, loading_since=NOW - 3),
    ModelNow(name="busy:1b", resident=True, busy=True, deadline=NOW - 5, size=90_000_000, rank=3),
)
DOCUMENT: Final = StatusDocument(
    now=NOW,
    status=Status(
        server=ServerNow(url="http://127.0.0.1:11434", up=True, version="0.33.0"),
        memory=MemoryNow(used=7_800_000_000, most=10_000_000_000),
        models=MODELS,
        waiting=(WaitingNow(model="qwen2.5:7b", since=NOW - 3),),
        advice=(
            AdviceNow(
                model="llama3.2:latest",
                advised=1800.0,
                in_force=300.0,
                samples=40,
                basis="much data",
                saves="saves 12 loads a day",
                line="curl http://127.0.0.1:11434/api/generate",
            ),
        ),
    ),
    past=Past(
        events=(
            PastEvent(id=1, kind="loaded", at=NOW - 500, low=NOW - 505, text="loaded", model="a"),
            PastEvent(
                id=2,
                kind="unloaded",
                at=NOW - 200,
                low=NOW - 201,
                text="evicted by mistral:latest",
                model="llama3.2:latest",
                reason="evicted",
                evidence=("a request for another model was waiting for a load",),
                sure=0.97,
            ),
        ),
        stays=(
            Stay(id=3, model="llama3.2:latest", start=NOW - 550, end=NOW - 300, loading=NOW - 590),
            Stay(id=4, model="llama3.2:latest", start=NOW - 100),
            Stay(id=5, model="mistral:latest", start=NOW - 400, dead=True),
        ),
        requests=(
            PastRequest(
                id=6,
                model="llama3.2:latest",
                at=NOW - 100,
                took=17.3,
                start="cold",
                outcome="answered",
                parts=(("load", 15.0), ("answer", 2.3)),
            ),
        ),
    ),
)


def text(state: BoardState = BoardState(), *, width: int = 80, height: int = 24) -> str:  # noqa: B008 - frozen
    lines = board(DOCUMENT, state, now=NOW, width=width, height=height, zone=UTC)
    return "\n".join(line.plain.rstrip() for line in lines)


BOARD: Final = """\
Ollama 0.33.0 at http://127.0.0.1:11434 answers                         17:20:00
Next unload  llama3.2:latest in 1:32, unless it is used again
Evict first  mistral:latest (probably), if another model needs memory
Last unload  llama3.2:latest, 3 min ago: evicted by mistral:latest
Memory       █████████░░░ 7.8 GB, at most 10.0 GB so far, 67 % on the GPU

  MODEL           LAST 10 MIN           UNLOAD IN RANK   MEMORY  GPU SLOTS TOK/S
  llama3.2:latest ▒▒█████████······████      1:32   2.   2.6 GB 100%   1/4    80
  qwen2.5:7b      ····················▒   loading
  busy:1b         ·····················    in use   3.    90 MB
  mistral:latest  ·······xxxxxxxxxxxxxx     never   1.   5.2 GB  50%

WAITING FOR A LOAD (1)
  qwen2.5:7b for 3 s

WHAT HAPPENED
  17:16:40  llama3.2:latest unloaded: evicted by mistral:latest (97 % sure)
  17:11:40  a: loaded





q quit  s sort: unload  / filter  up/down choose  Enter story  ? help"""


def test_a_terminal_of_80_columns() -> None:
    assert text() == BOARD


def test_a_bar_shows_what_is_not_known_as_such() -> None:
    past = Past(
        outages=(Outage(id=1, start=0.0, end=NOW - 550, text="the exporter did not run"),),
        stays=(
            Stay(id=2, model="m", start=NOW - 400, low=NOW - 450, end=NOW - 200, end_low=NOW - 250),
            Stay(id=3, model="m", start=NOW - 100, loading=NOW - 101),  # shorter than a cell
        ),
    )
    document = StatusDocument(now=NOW, status=EMPTY.status, past=past)
    state = BoardState(view="story", chosen="m")
    lines = board(document, state, now=NOW, width=60, height=24, zone=UTC)
    bar = "?????··········░░░░░███████████████░░░░░·········▒██████████"
    assert bar in [line.plain for line in lines]


def test_a_long_name_hides_neither_when_nor_why() -> None:
    name = "<img src=x>" * 20
    model = ModelNow(name=name, resident=True, deadline=NOW + 92, rank=1, rank_known=True)
    gone = PastEvent(id=1, kind="unloaded", at=NOW - 5, low=NOW - 6, text="crashed", model=name)
    status = structs.replace(EMPTY.status, models=(model,))
    document = StatusDocument(now=NOW, status=status, past=Past(events=(gone,)))
    lines = board(document, BoardState(), now=NOW, width=80, height=24, zone=UTC)
    _, leaves, first, last, *rest = [line.plain.rstrip() for line in lines]
    assert leaves.endswith("… in 1:32, unless it is used again")
    assert first.endswith("…, if another model needs memory")
    assert last.endswith("…, 5 s ago: crashed")
    assert any(line.endswith("… unloaded: crashed") for line in rest)


def test_an_advice_is_worded_as_on_the_page() -> None:
    for samples, saves, words in (
        (4, "", "none yet: 4 of 5 idle gaps seen"),
        (5, "", "no other keep-alive is clearly better"),
        (5, "saves 3 loads a day", "keep-alive 30m (some data) saves 3 loads a day"),
    ):
        advice = AdviceNow(
            model="m",
            advised=1800.0,
            in_force=None,
            samples=samples,
            basis="some data",
            saves=saves,
        )
        status = structs.replace(EMPTY.status, advice=(advice,))
        lines = board(
            StatusDocument(now=NOW, status=status),
            BoardState(view="story", chosen="m"),
            now=NOW,
            width=80,
            height=24,
            zone=UTC,
        )
        assert f"Advice: {words}" in [line.plain for line in lines]


def test_the_story_of_a_model() -> None:
    told = text(BoardState(view="story", chosen="llama3.2:latest"), width=100)
    for expected in (
        "3.2B Q4_K_M  keep-alive 5m  unloads in: 1:32",
        "context 1200 of 4096 tokens  slots 1 of 4",
        "Advice: keep-alive 30m (much data) saves 12 loads a day",
        "  curl http://127.0.0.1:11434/api/generate",
        "because a request for another model was waiting for a load",
        "cold request 17.3 s  load 15.0 s, answer 2.3 s",
    ):
        assert expected in told


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("unload", "llama3.2:latest"),
        ("name", "busy:1b"),
        ("memory", "mistral:latest"),
        ("rank", "mistral:latest"),
    ],
)
def test_models_are_sorted(sort: str, first: str) -> None:
    assert shown_models(DOCUMENT, BoardState(sort=sort))[0].name == first
    assert set(SORTS) == {"unload", "name", "memory", "rank"}


def test_a_filter_and_help_and_a_problem() -> None:
    assert (
        "llama3.2"
        not in text(BoardState(pattern="qwen")).partition("MODEL")[2].partition("WHAT")[0]
    )
    assert "no such model" in text(BoardState(pattern="nothing"))
    assert "1 goes first if another model needs memory" in text(BoardState(view="help"))
    lines = board(
        EMPTY, BoardState(), now=NOW, width=80, height=24, zone=UTC, problem="no exporter there"
    )
    assert "! no exporter there" in [line.plain for line in lines]
    assert "nothing is in memory" in lines[1].plain


NAMES: Final = st.text(min_size=1, max_size=120).filter(lambda name: name.isprintable())


@given(
    names=st.lists(NAMES, max_size=60),
    width=st.integers(1, 250),
    height=st.integers(6, 80),
    view=st.sampled_from(["models", "story", "help"]),
)
def test_it_always_fits(names: list[str], width: int, height: int, view: str) -> None:
    models = tuple(ModelNow(name=name, resident=True, deadline=NOW + 5, size=1) for name in names)
    document = StatusDocument(
        now=NOW, status=Status(server=EMPTY.status.server, memory=MemoryNow(), models=models)
    )
    state = BoardState(view=view, chosen=names[0] if names else "")
    lines = board(document, state, now=NOW, width=width, height=height, zone=UTC)
    assert len(lines) == height
    assert all(line.cell_len <= max(width, LEAST_WIDTH) for line in lines)


def test_a_pipe_gets_values() -> None:
    lines = [line.split("\t") for line in table(DOCUMENT, now=NOW)]
    assert all(len(line) == len(lines[0]) for line in lines)
    assert lines[0][:3] == ["model", "unloads_in_seconds", "eviction_rank"]
    assert [line[:4] for line in lines[1:]] == [
        ["busy:1b", "in use", "3", "90000000"],
        ["llama3.2:latest", "92", "2", "2600000000"],
        ["mistral:latest", "never", "1", "5200000000"],
        ["qwen2.5:7b", "loading", "", "0"],
    ]


def story_of(*models: ModelNow, **more: Any) -> list[str]:
    """Return the lines of the view of the first model."""
    status = structs.replace(EMPTY.status, models=models)
    document = StatusDocument(now=NOW, status=status, **more)
    state = BoardState(view="story", chosen=models[0].name)
    lines = board(document, state, now=NOW, width=80, height=24, zone=UTC)
    return [line.plain.rstrip() for line in lines]


def test_models_that_stay_are_due_at_no_time() -> None:
    pinned = ModelNow(name="m", resident=True, pinned=True, last_use=NOW - 7300)
    lines = story_of(pinned)
    assert "Next unload  nothing is due: every model is in use or stays forever" in lines
    assert "last used 2.0 h ago" in lines
    assert "UNLOAD IN" not in "".join(lines)


def test_an_exit_that_was_seen_late_says_since_when_it_may_be() -> None:
    gone = PastEvent(
        id=1, kind="unloaded", at=NOW - 9, low=NOW - 40, text="crashed", model="m", reason="crashed"
    )
    lines = story_of(ModelNow(name="m", resident=True), past=Past(events=(gone,)))
    assert "            after 17:19:20" in lines


def test_a_filter_is_shown_while_it_is_typed_and_a_long_stay_in_hours() -> None:
    assert text(BoardState(typing=True, pattern="qw")).splitlines()[-1] == "/qw_"
    long = ModelNow(name="m", resident=True, deadline=NOW + 2 * 3600 + 61)
    assert any("unloads in: 2:01:01" in line for line in story_of(long))
