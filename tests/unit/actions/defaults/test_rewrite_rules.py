# SPDX-License-Identifier: Apache-2.0
"""What the proxy sets in a request: by rules, and by what is resident."""

import json
import math
from typing import Any

import pytest

from ollama_exporter.actions.defaults.defaults_section import Autopilot, Rule
from ollama_exporter.actions.defaults.rewrite_rules import Changed, ResidentRunner, Rules, change
from ollama_exporter.protocol.routes import Route, route_of

GENERATE = route_of("POST", "/api/generate")
V1 = route_of("POST", "/v1/chat/completions")
KEEP = Rule("*", keep_alive=600.0)
CAP = Rule("*", max_keep_alive=3600.0)
CONTEXT = Rule("*", num_ctx=8192)
CONTEXT_CAP = Rule("*", max_num_ctx=8192)


def changed(
    body: dict[str, Any] | bytes,
    *rules: Rule,
    resident: ResidentRunner | None = None,
    route: Route = GENERATE,
) -> Changed | None:
    raw = body if isinstance(body, bytes) else json.dumps({"model": "m", "prompt": "x", **body})
    raw = raw if isinstance(raw, bytes) else raw.encode()
    return change(route, raw, Rules(rules), lambda _model: resident)


@pytest.mark.parametrize(
    ("body", "rule", "resident", "path", "value", "what"),
    [
        ({}, KEEP, None, "keep_alive", "10m0s", "keep_alive_default"),
        ({"keep_alive": None}, KEEP, None, "keep_alive", "10m0s", "keep_alive_default"),
        ({}, Rule("*", keep_alive=math.inf), None, "keep_alive", -1, "keep_alive_default"),
        ({"keep_alive": -1}, CAP, None, "keep_alive", "1h0m0s", "keep_alive_cap"),
        ({"keep_alive": "2h"}, CAP, None, "keep_alive", "1h0m0s", "keep_alive_cap"),
        # it would replace what the runner has, perhaps by less: it is set when the request is over
        ({"keep_alive": -1}, CAP, ResidentRunner(4096), "keep_alive", None, "keep_alive_cap"),
    ],
)
def test_keep_alive(  # the columns of the table
    body: dict[str, Any],
    rule: Rule,
    resident: ResidentRunner | None,
    path: str,
    value: object,
    what: str,
) -> None:
    found = changed(body, rule, resident=resident)
    assert found is not None
    assert json.loads(found.body)[path] == value
    assert found.changes == (what,)
    assert found.asked.model == "m"
    wanted = {"10m0s": 600.0, "1h0m0s": 3600.0, -1: math.inf, None: None}[value]  # type: ignore[index]  # the table's own
    assert found.asked.keep_alive == wanted


@pytest.mark.parametrize(
    ("body", "rule", "resident"),
    [
        ({}, CONTEXT, None),
        ({"options": {}}, CONTEXT, None),
        ({"options": {"num_ctx": None}}, CONTEXT, None),
        ({}, CONTEXT, ResidentRunner(8192)),
        ({"options": {"num_ctx": 131_072}}, CONTEXT_CAP, None),
        ({"options": {"num_ctx": 131_072}}, CONTEXT_CAP, ResidentRunner(8192)),
        ({"options": {"num_ctx": 131_072}, "keep_alive": 0}, CONTEXT_CAP, None),
    ],
)
def test_num_ctx(body: dict[str, Any], rule: Rule, resident: ResidentRunner | None) -> None:
    found = changed(body, rule, resident=resident)
    assert found is not None
    assert json.loads(found.body)["options"]["num_ctx"] == 8192
    assert found.asked.num_ctx == 8192
    assert found.said == "num_ctx=8192"


@pytest.mark.parametrize(
    ("body", "rule", "resident"),
    [
        ({}, KEEP, ResidentRunner(4096)),  # set afterwards
        ({}, CONTEXT, ResidentRunner(4096)),  # would reload it
        ({"options": {"num_ctx": 131_072}}, CONTEXT_CAP, ResidentRunner(131_072)),  # likewise
        ({"options": {"num_ctx": 4096}}, CONTEXT_CAP, None),
        ({"options": {"num_ctx": 4096}}, CONTEXT, None),
        ({"options": [1]}, CONTEXT, None),
        ({"keep_alive": "5m"}, KEEP, None),
        ({"keep_alive": "5m"}, CAP, None),
        ({"keep_alive": "300"}, KEEP, None),  # the server refuses it, and shall
        ({"keep_alive": True}, CAP, None),
        ({"keep_alive": 0}, KEEP, None),
        ({"keep_alive": 0, "prompt": ""}, CAP, None),
        ({"keep_alive": 0, "prompt": "", "options": {"num_ctx": 131_072}}, CONTEXT_CAP, None),
        ({}, Rule("other", keep_alive=600.0), None),
    ],
)
def test_what_stays_as_it_is(
    body: dict[str, Any], rule: Rule, resident: ResidentRunner | None
) -> None:
    assert changed(body, rule, resident=resident) is None


def test_what_is_not_understood_stays_as_it_is() -> None:
    for raw in (b"", b"{", b"[]", b'{"prompt":"x"}', b"\xff"):
        assert changed(raw, KEEP, CONTEXT) is None
    assert changed({}, KEEP, route=V1) is None


def test_both_at_once_and_all_other_bytes_as_they_were() -> None:
    rule = Rule("*", keep_alive=90.0, num_ctx=8192)
    found = changed(b'{ "model" : "m",\n "prompt":"\xc3\xa9","options":{"seed" : 1} }', rule)
    assert found is not None
    assert found.body == (
        b'{"keep_alive":"1m30s", "model" : "m",\n "prompt":"\xc3\xa9",'
        b'"options":{"num_ctx":8192,"seed" : 1} }'
    )
    assert found.said == "keep_alive=1m30s, num_ctx=8192"


def test_the_first_rule_that_matches_holds() -> None:
    rules = Rules((Rule("m", keep_alive=60.0), Rule("*", keep_alive=600.0, num_ctx=8192)))
    found = rules.limits("m:latest")
    assert found is not None
    assert (found.keep_alive, found.num_ctx) == (60.0, None)
    assert Rules(()).limits("m:latest") is None


def test_the_autopilot_fills_what_no_rule_says() -> None:
    pilot = Autopilot(("m*",))
    rules = Rules((Rule("mine", keep_alive=60.0), CAP), pilot, lambda _model: 7200.0)
    for model, expected in (("mine:latest", 60.0), ("m:latest", 3600.0), ("other:latest", None)):
        found = rules.limits(model)
        assert found is not None or expected is None
        assert found is None or found.keep_alive == expected
    unpiloted = Rules((), pilot, lambda _model: None)
    assert unpiloted.limits("m:latest") is None
