# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.host.runner.slots import Slot
from ollama_exporter.recordings.format import RecordedLook, Recording
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.slot_summary import ModelSlots, slot_summary
from ollama_exporter.residency.facts import WeightsNamed
from tests.support.paths import DATA


def test_looks_are_summed_up_for_each_model() -> None:
    used = Slot(0, 1000, busy=True, task=1, held=500, decoded=400)
    done = Slot(0, 1000, busy=False, task=1, held=599)
    looks = (
        RecordedLook(10.0, 10.0, 7, "sha256-a", (used,)),
        RecordedLook(11.0, 11.0, 7, "sha256-a", None),
        RecordedLook(12.0, 12.0, 7, "sha256-a", (done,)),
        RecordedLook(12.0, 12.0, 8, "sha256-bbbbbbbbbbbbbbbbbb", (done,)),
        RecordedLook(12.0, 12.0, 9, "", (done,)),
    )
    recording = Recording((), (), (WeightsNamed(1.0, "m:latest", "sha256-a"),), looks=looks)
    assert list(slot_summary(recording)) == [
        ModelSlots("m:latest", 2, 1.0, 499, 0.5),
        ModelSlots("sha256-bbbbbbbbbbbb", 1, 0.0, 0, 0.0),
        ModelSlots("unknown", 1, 0.0, 0, 0.0),
    ]


def test_a_recording_of_a_real_server_holds_looks() -> None:
    recording = read_recording(DATA / "polls" / "busy-1.jsonl.gz")
    assert len(recording.looks) == 1204
    assert sum(look.slots is None for look in recording.looks) == 6
    found = {each.model: each for each in slot_summary(recording)}
    assert sum(each.looks for each in found.values()) == 1198
    assert all(0 <= each.fill <= 1 for each in found.values())
    assert sum(each.busy_seconds for each in found.values()) == pytest.approx(300, abs=200)
