# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.protocol.routes import LABELS, OTHER, route_of


@pytest.mark.parametrize(
    ("method", "target", "label"),
    [
        ("POST", "/api/generate", "/api/generate"),
        ("POST", "/api/chat?x=1", "/api/chat"),
        ("GET", "/api/chat", "other"),
        ("HEAD", "/", "/"),
        ("DELETE", "/api/delete", "/api/delete"),
        ("POST", "/api/blobs/sha256:0", "/api/blobs"),
        ("HEAD", "/api/blobs/sha256:0", "/api/blobs"),
        ("GET", "/api/blobs/sha256:0", "other"),
        ("GET", "/v1/models/m", "/v1/models"),
        ("GET", "/api/experimental/x", "other"),
        ("POST", "/API/CHAT", "other"),
        ("POST", "/api/chat/", "other"),
        ("POST", "/api/%67enerate", "/api/generate"),
        ("POST", "/%61%70%69%2Fchat?x=%3F", "/api/chat"),
        ("POST", "/api/chat%3Fx", "other"),
        ("POST", "/api/%zzchat", "other"),
        ("POST", "/api/%2567enerate", "other"),  # decoded once
    ],
)
def test_method_and_path_make_a_route(method: str, target: str, label: str) -> None:
    assert route_of(method, target).label == label
    assert label in LABELS


def test_what_needs_a_runner_is_measured() -> None:
    for path in ("/api/embed", "/v1/responses", "/v1/messages", "/v1/audio/transcriptions"):
        assert route_of("POST", path).runs
    assert not route_of("POST", "/api/pull").runs
    assert not OTHER.runs
