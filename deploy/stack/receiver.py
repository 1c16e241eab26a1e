# SPDX-License-Identifier: Apache-2.0
"""The webhook to which Alertmanager sends its notifications."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH: Final = "/alerts"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a notification."""

    status: str  # firing, resolved
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the alert's rule."""
        return self.labels["alertname"]

    @property
    def text(self) -> str:
        """The description: what happened, in a sentence or two."""
        return self.annotations["description"]


class _Notification(msgspec.Struct):
    """The part of Alertmanager's webhook message, version 4, that we read."""

    alerts: list[dict[str, Any]]


def receiver(on_alert: Callable[[Alert], None]) -> Starlette:
    """Return the application. It calls `on_alert` for each alert, in order."""

    async def on_request(request: Request) -> Response:
        try:
            notification = msgspec.json.decode(await request.body(), type=_Notification)
            alerts = [
                Alert(a["status"], a["labels"], a["annotations"]) for a in notification.alerts
            ]
        except (msgspec.MsgspecError, KeyError) as err:
            return Response(f"not a notification of Alertmanager: {err}", status_code=400)
        for alert in alerts:
            on_alert(alert)
        return Response()

    return Starlette(routes=[Route(PATH, on_request, methods=["POST"])])
