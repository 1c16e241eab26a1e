# SPDX-License-Identifier: Apache-2.0
"""Short answers for people: plain text that no browser takes for anything else."""

from http import HTTPStatus
from typing import Final

from starlette.responses import PlainTextResponse, Response

NOSNIFF: Final = {"x-content-type-options": "nosniff"}


def plain(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return an answer of one line or a few."""
    return PlainTextResponse(text, status, headers=NOSNIFF)
