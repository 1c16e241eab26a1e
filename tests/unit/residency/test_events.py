# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of reasons and evidence."""

from ollama_exporter.residency.events import Evidence


def test_no_sentence_stands_for_two_kinds_of_evidence() -> None:
    assert len(Evidence.__members__) == len(set(Evidence))


def test_each_sentence_continues_because() -> None:
    for sentence in Evidence:
        assert sentence[0].islower() or sentence.startswith("E "), sentence
        assert not sentence.endswith("."), sentence
        assert len(sentence) < 80, sentence
