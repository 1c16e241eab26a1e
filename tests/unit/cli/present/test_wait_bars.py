# SPDX-License-Identifier: Apache-2.0

from msgspec import structs

from ollama_exporter.cli.present.wait_bars import bar, beside, fitting, parts, words
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.shim.observation import Observation, Outcome, Start
from tests.support.benches import GENERATE


def observation(start: Start, load: float, answer: float, model: str = "m:latest") -> Observation:
    total = load + 0.5 + answer
    reading = ResponseFields(
        ResponseEnd.COMPLETE, load=load, prompt_eval=0.5, eval=answer, total=total
    )
    return Observation(
        1, "POST", GENERATE, 0.0, total + 0.5, 200, Outcome.ANSWERED, RequestFields(model), reading,
        model=model, start=start,
    )  # fmt: skip


def test_a_bar_shows_each_part_with_its_own_letter() -> None:
    seen = observation(Start.COLD, 7.0, 2.0)
    assert [(p.name, p.seconds) for p in parts(seen)] == [
        ("load", 7.0), ("prompt", 0.5), ("answer", 2.0), ("rest", 0.5),
    ]  # fmt: skip
    assert bar(seen, longest=10.0).plain == "|" + "L" * 28 + "P" * 2 + "A" * 8 + "·" * 2 + "|"
    assert words(seen) == "load 7.0, prompt 0.5, answer 2.0, rest 0.5"
    assert "nothing" in words(
        structs.replace(seen, ended=0.0, response=ResponseFields(ResponseEnd.COMPLETE))
    )


def test_a_cold_request_is_shown_beside_a_warm_one_with_a_similar_answer() -> None:
    seen = [
        observation(Start.COLD, 7.0, 2.0),
        observation(Start.WARM, 0.0, 9.0),
        observation(Start.WARM, 0.0, 2.1),
        observation(Start.WARM, 0.0, 2.0, "other:latest"),
    ]
    title, cold, warm = (line.plain for line in beside(seen, columns=100))
    assert title == "A cold and a warm request to m:latest:"
    assert cold.startswith("  cold  10.0 s |LLL")
    assert warm.startswith("  warm   3.1 s |PP")
    assert "answer 2.1" in warm
    assert beside(seen[1:], columns=80) == []


def test_a_bar_shrinks_so_that_its_line_fits() -> None:
    assert fitting(200, "answered m:latest ", " cold, 10.0 s") == 40
    assert fitting(60, "a" * 20, "b" * 20) == 18
    assert fitting(50, "a" * 20, "b" * 25) == 0  # too narrow to say anything
    seen = observation(Start.COLD, 7.0, 2.0)
    assert len(bar(seen, longest=10.0, width=18).plain) == 20
    pair = [seen, observation(Start.WARM, 0.0, 2.0)]
    assert all(len(line.plain) <= 72 for line in beside(pair, columns=72))
