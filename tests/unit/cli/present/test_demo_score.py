# SPDX-License-Identifier: Apache-2.0
from ollama_exporter.cli.present.demo_score import TrueUnload, score, summary
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Evidence, Reason, Unloaded

START = 1_800_000_000.0


def model(name: str = "mistral:latest", expires_in: float = 20.0) -> RunningModel:
    return RunningModel(name, "0" * 64, START + expires_in, size=5 << 30)


def unloaded(reason: Reason, at: float, name: str = "mistral:latest") -> Unloaded:
    return Unloaded(
        model(name),
        reason,
        (Evidence.BACK_SOON, Evidence.CONTEXT_KEEPS_CHANGING),
        START + at - 1,
        START + at,
        START + at + 0.5,
        START,
        by="qwen2.5:7b" if reason is Reason.EVICTED else None,
    )


def test_the_score_tells_right_unknown_wrong_invented_and_unseen_apart() -> None:
    told = [
        unloaded(Reason.EXPIRED, 10.0),
        unloaded(Reason.UNKNOWN, 20.0),
        unloaded(Reason.STOPPED, 30.0),
        unloaded(Reason.EVICTED, 40.0),
    ]
    truth = [
        TrueUnload("mistral:latest", "expired", START + 9.5),
        TrueUnload("mistral:latest", "crashed", START + 19.5),
        TrueUnload("mistral:latest", "evicted", START + 29.5),
        TrueUnload("llama3.2:latest", "stopped", START + 39.5),
    ]
    scores = score(told, truth)
    assert scores.right == {"expired": 1}
    assert scores.unknown == {"crashed": 1}
    assert scores.wrong == [(told[2], truth[2]), (told[3], None)]
    assert scores.unseen == {"stopped": 1}
    text = "\n".join(summary(scores, START))
    assert "expired          1 right" in text
    assert "crashed          1 unknown" in text
    assert "wrong: mistral:latest at 0:30.0 was called stopped and was evicted" in text
    assert "was called evicted and was not unloaded" in text
    assert "too short for the polls to see: stopped 1" in text


def test_a_demonstration_cut_short_says_so() -> None:
    assert summary(score([], []), START)[-1] == "  nothing yet"


def test_a_crash_that_was_known_at_once_is_the_one_that_left_the_list_later() -> None:
    crashed = TrueUnload("mistral:latest", "crashed", START + 60.0, decided=START + 9.5)
    scores = score([unloaded(Reason.CRASHED, 10.0)], [crashed])
    assert scores.right == {"crashed": 1}
    assert scores.wrong == []
