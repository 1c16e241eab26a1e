# SPDX-License-Identifier: Apache-2.0
"""What the pages without a script say."""

import re

import msgspec

from ollama_exporter.story.document import EMPTY
from ollama_exporter.story.fleet_document import FleetDocument, TargetModel, TargetNow
from ollama_exporter.story.status import ModelNow
from ollama_exporter.web.page.fleet_page import MOST_NAMED, fleet_page
from ollama_exporter.web.page.html_page import html_page


def cells(page: bytes) -> list[str]:
    return re.findall(r"<td[^>]*>(.*?)</td>", page.decode())


def test_of_many_models_of_a_server_some_are_named() -> None:
    models = tuple(TargetModel(name=f"m{n}") for n in range(MOST_NAMED + 2))
    target = TargetNow(name="one", up=False, models=models)
    page = fleet_page(FleetDocument(now=1.0, targets=(target,)), version="1", links={})
    _, answers, named, version = cells(page)
    assert "no" in answers
    assert named == ", ".join(f"m{n}" for n in range(MOST_NAMED)) + " and 2 more"
    assert version == ""


def test_until_when_a_model_stays() -> None:
    models = (
        ModelNow(name="a", resident=True, busy=True),
        ModelNow(name="b", resident=True, pinned=True),
        ModelNow(name="c", resident=False),
        ModelNow(name="d", resident=True, rank=1),
    )
    status = msgspec.structs.replace(EMPTY.status, models=models)
    document = msgspec.json.encode(msgspec.structs.replace(EMPTY, status=status))
    found = cells(html_page(document, version="1", links={}))
    assert found[0::5][:4] == ["a", "b", "c", "d"]
    assert found[1::5][:4] == ["in memory", "in memory", "loading", "in memory"]
    assert found[2::5][:4] == ["in use", "never", "", ""]
    assert found[4::5][:4] == ["", "", "", "1"]
