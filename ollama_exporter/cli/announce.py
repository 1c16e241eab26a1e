# SPDX-License-Identifier: Apache-2.0
"""Announces a stop to a running exporter, so that it does not count as `unknown`."""

import http.client
import json
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from ollama_exporter.web.announcements import STOPPING

TIMEOUT: Final = 1.0


def announce_stop(exporter: str, model: str, server: str) -> None:
    """Announce to the exporter at a URL that a model is about to be stopped. Never raises."""
    parts = urlsplit(exporter)
    if parts.scheme != "http" or parts.hostname is None:
        return
    with suppress(OSError, http.client.HTTPException, ValueError):
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
        try:
            body = json.dumps({"model": model, "url": server})
            connection.request("POST", STOPPING, body, {"content-type": "application/json"})
            connection.getresponse().read()
        finally:
            connection.close()
