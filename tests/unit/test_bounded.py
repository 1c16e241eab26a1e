# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.bounded import BoundedDict


def test_a_new_entry_evicts_the_oldest() -> None:
    entries = BoundedDict[str, int](2)
    entries["a"], entries["b"], entries["c"] = 1, 2, 3
    assert dict(entries) == {"b": 2, "c": 3}
    assert "a" not in entries
    assert len(entries) == 2


def test_an_assignment_makes_its_key_the_newest_and_a_look_up_does_not() -> None:
    entries = BoundedDict[str, int](2)
    entries["a"], entries["b"] = 1, 2
    entries["a"] = 10
    assert entries["b"] == 2
    entries["c"] = 3
    assert dict(entries) == {"a": 10, "c": 3}


def test_setdefault_update_and_pop_keep_the_bound() -> None:
    entries = BoundedDict[str, int](2)
    entries.update({"a": 1, "b": 2, "c": 3})
    assert entries.setdefault("d", 4) == 4
    assert entries.setdefault("d", 5) == 4
    assert list(entries) == ["c", "d"]
    assert entries.pop("c") == 3
    del entries["d"]
    assert not entries
    assert repr(entries) == "BoundedDict({}, limit=2)"


def test_a_limit_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="0"):
        BoundedDict[str, int](0)
