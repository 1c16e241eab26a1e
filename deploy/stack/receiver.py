# SPDX-License-Identifier: Apache-2.0
"""What Alertmanager sends its notifications to: a webhook that hands each alert on."""

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
        """The name of its rule."""
        return self.labels["alertname"]

    @property
    def text(self) -> str:
        """What happened, in a sentence or two."""
        return self.annotations["description"]


class _Notification(msgspec.Struct):
    """The part that is read of Alertmanager's webhook, version 4."""

    alerts: list[dict[str, Any]]


def receiver(hear: Callable[[Alert], None]) -> Starlette:
    """Return the application; `hear` is called for each alert, in their order."""

    async def take(request: Request) -> Response:
        try:
            told = msgspec.json.decode(await request.body(), type=_Notification)
            alerts = [Alert(a["status"], a["labels"], a["annotations"]) for a in told.alerts]
        except (msgspec.MsgspecError, KeyError) as err:
            return Response(f"not a notification of Alertmanager: {err}", status_code=400)
        for alert in alerts:
            hear(alert)
        return Response()

    return Starlette(routes=[Route(PATH, take, methods=["POST"])])
