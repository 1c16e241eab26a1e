# SPDX-License-Identifier: Apache-2.0
"""The rate limit."""

from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.web.locks.token_bucket import TokenBucket
from ollama_exporter.web.locks.web_config import RateLimit


def test_a_burst_then_one_each_interval() -> None:
    bucket = TokenBucket(RateLimit(2.0, 3), now=10.0)
    assert [bucket.is_allowed(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.is_allowed(at) for at in (11.9, 12.0, 13.9, 14.0)] == [False, True, False, True]


def test_a_burst_of_nothing_allows_nothing() -> None:
    bucket = TokenBucket(RateLimit(1.0, 0), now=0.0)
    assert not any(bucket.is_allowed(float(at)) for at in range(100))


@given(
    st.floats(0.01, 100), st.integers(0, 20), st.lists(st.floats(0, 10), min_size=1, max_size=50)
)
def test_never_more_than_the_burst_and_the_time_allow(
    interval: float, burst: int, waits: list[float]
) -> None:
    bucket, now, passed = TokenBucket(RateLimit(interval, burst), now=0.0), 0.0, 0
    for wait in waits:
        now += wait
        passed += bucket.is_allowed(now)
        assert passed <= burst + now / interval + 1e-6
