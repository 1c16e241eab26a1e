# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.support.slow_first import slow_first


def test_each_worker_begins_with_its_share_of_what_is_slow() -> None:
    items = [*range(1, 6), *[0] * 15]  # each takes so many seconds
    ordered = slow_first(items, float, workers=4)
    stretches = [ordered[at : at + 5] for at in range(0, 20, 5)]
    assert stretches == [[5, 0, 0, 0, 0], [4, 0, 0, 0, 0], [3, 0, 0, 0, 0], [2, 1, 0, 0, 0]]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_none_is_lost_and_the_others_keep_their_order(count: int, workers: int) -> None:
    items = [*range(count), *[-number for number in range(1, count)]]
    ordered = slow_first(items, lambda number: max(0, number), workers=workers)
    assert sorted(ordered) == sorted(items)
    assert [item for item in ordered if item <= 0] == [item for item in items if item <= 0]
