# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.actions.measure.summary import Kind, Sample, Spread, rows, verdict


def sample(kind: Kind, total: float, load: float | None = 0.001, **changes: float) -> Sample:
    values = {"first_token": 0.1, "prompt": 0.05, "generation": 0.5} | changes
    return Sample(
        kind,
        total,
        values["first_token"],
        load,
        values["prompt"],
        values["generation"],
        10,
        None,
        11,
    )


COLD, WARM = sample(Kind.COLD, 52.1, 48.9), sample(Kind.WARM, 3.0)


def test_medians_and_how_far_they_lie_apart() -> None:
    samples = [COLD, *(sample(Kind.WARM, total) for total in (3.0, 1.0, 2.0, 9.0))]
    cold, warm = rows(samples)
    assert (cold.kind, cold.runs) == (Kind.COLD, 1)
    assert cold.parts["load"] == Spread(48.9, 48.9, 48.9)
    assert warm.parts["total"] == Spread(2.5, 1.0, 9.0)
    assert warm.tokens_per_second == Spread(20.0, 20.0, 20.0)
    rest = warm.parts["rest"]
    assert rest is not None
    assert (rest.median, rest.low, rest.high) == pytest.approx((1.949, 0.449, 8.449))


def test_what_an_answer_does_not_say_is_not_made_up() -> None:
    silent = Sample(Kind.WARM, 1.0, None, None, None, None)
    (row,) = rows([silent])
    assert (row.parts["load"], row.parts["rest"], row.tokens_per_second) == (None, None, None)
    one = Sample(Kind.WARM, 1.0, None, None, None, 0.5, output_tokens=1)
    assert one.tokens_per_second is None


def test_the_verdict_names_the_load_and_the_keep_alive() -> None:
    assert verdict([COLD, WARM], every=360.0) == (
        "The first call costs 52.1 s, 48.9 s of it loading; a warm one 3.0 s. "
        "Keep the model for 7 minutes or more if you call it every 6 minutes."
    )
    assert verdict([COLD, WARM], every=30.0).endswith(
        "for 1 minute or more if you call it every 30 seconds."
    )
    assert verdict([COLD], every=360.0) == "The first call costs 52.1 s, 48.9 s of it loading."
    assert verdict([WARM], every=360.0) == "No cold call was measured."
    quick = sample(Kind.COLD, 3.1, 0.1)
    assert verdict([quick, WARM], every=360.0).endswith("any keep_alive will do.")
