# SPDX-License-Identifier: Apache-2.0
import pytest
from starlette.testclient import TestClient

from deploy.stack.receiver import PATH, Alert, receiver


def test_each_alert_of_a_notification_is_passed_on() -> None:
    received: list[Alert] = []
    alerts = [
        {
            "status": status,
            "labels": {"alertname": "OllamaDown", "instance": "a"},
            "annotations": {"description": "It is down."},
            "startsAt": "2026-01-01T00:00:00Z",
        }
        for status in ("firing", "resolved")
    ]
    with TestClient(receiver(received.append)) as client:
        answer = client.post(PATH, json={"version": "4", "alerts": alerts})
    assert answer.status_code == 200
    assert [(alert.status, alert.name, alert.text) for alert in received] == [
        ("firing", "OllamaDown", "It is down."),
        ("resolved", "OllamaDown", "It is down."),
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"alerts": [{}]}', b'{"alerts": 1}'])
def test_anything_but_a_notification_is_rejected(body: bytes) -> None:
    received: list[Alert] = []
    with TestClient(receiver(received.append)) as client:
        assert client.post(PATH, content=body).status_code == 400
    assert received == []
