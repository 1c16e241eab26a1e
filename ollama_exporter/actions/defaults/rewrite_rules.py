# SPDX-License-Identifier: Apache-2.0
"""What the proxy sets in a request, decided by rules and by what is resident. Pure.

A keep_alive goes into a request only when that will load its model. One for a resident model could
replace a longer one, or keep a busy one that was told to go: it is set afterwards, with care, by
`acting/`. A num_ctx never goes to a model that is resident with another one: it would be reloaded.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from ollama_exporter.actions.defaults.defaults_section import Autopilot, Rule
from ollama_exporter.protocol import json_edit
from ollama_exporter.protocol import request_body as reading
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.routes import Route

KEEP_ALIVE: Final = ("keep_alive",)
NUM_CTX: Final = ("options", "num_ctx")
NULL: Final = b"null"


@dataclass(frozen=True, slots=True)
class ResidentRunner:
    """The runner that a request will find, as far as is known. `context`: tokens."""

    context: int | None = None


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """What holds for one model: its rule, and the autopilot's value where the rule has none."""

    keep_alive: float | None = None
    num_ctx: int | None = None
    max_keep_alive: float | None = None
    max_num_ctx: int | None = None

    def wanted(self, asked: RequestFields) -> float | None:
        """Return the keep_alive that a runner should have after such a request; None: its own."""
        if asked.keep_alive is None:
            return self.keep_alive
        if self.max_keep_alive is not None and asked.keep_alive > self.max_keep_alive:
            return self.max_keep_alive
        return None


@dataclass(frozen=True, slots=True)
class Changed:
    """A body with what was set in it. `changes`: values of the metric's label."""

    body: bytes
    asked: RequestFields  # what the server is asked now
    changes: tuple[str, ...]
    said: str  # for the header of the answer


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force. `piloted`: what the autopilot gives a model, if it does."""

    rules: tuple[Rule, ...]
    autopilot: Autopilot | None = None
    piloted: Callable[[str], float | None] = lambda _model: None

    def limits(self, model: str) -> RuleLimits | None:
        """Return what holds for a normalised name: the first rule that matches it."""
        rule = next((rule for rule in self.rules if rule.matches(model)), None)
        found = RuleLimits()
        if rule is not None:
            found = RuleLimits(rule.keep_alive, rule.num_ctx, rule.max_keep_alive, rule.max_num_ctx)
        if found.keep_alive is None and self.autopilot is not None:
            given = self.piloted(model) if self.autopilot.follows(model) else None
            found = replace(found, keep_alive=_least(given, found.max_keep_alive))
        return None if found == RuleLimits() else found


def _least(value: float | None, bound: float | None) -> float | None:
    return value if value is None or bound is None else min(value, bound)


def change(
    route: Route, body: bytes, rules: Rules, resident: Callable[[str], ResidentRunner | None]
) -> Changed | None:
    """Set in a native request what the rules want; None: it stays as it is.

    `resident`: the runner that is there for a model; None: none is, as far as is known.
    """
    asked = reading.read(route, body, complete=True)
    if not route.native or asked.model is None or asked.is_stop or asked.keep_alive == 0:
        return None
    model = normalise(asked.model)
    limits = rules.limits(model)
    if limits is None:
        return None
    found = resident(model)
    edits = [*_keep_alive(body, asked, limits, found), *_num_ctx(body, asked, limits, found)]
    new = body
    for edit in edits:
        spliced = json_edit.set_member(new, edit.path, edit.value)
        if spliced is None:  # options that are no object: the server refuses them by itself
            return None
        new = spliced
    if not edits:
        return None
    return Changed(
        new,
        msgspec.structs.replace(asked, **{edit.path[-1]: edit.means for edit in edits}),
        tuple(edit.change for edit in edits),
        ", ".join(edit.said for edit in edits),
    )


@dataclass(frozen=True, slots=True)
class _Edit:
    path: tuple[str, ...]
    value: bytes
    means: Any  # in the words of `Asked`
    change: str
    said: str


def _keep_alive(
    body: bytes, asked: RequestFields, limits: RuleLimits, resident: ResidentRunner | None
) -> Sequence[_Edit]:
    given = [value for value in json_edit.values_at(body, KEEP_ALIVE) if value != NULL]
    if not given and asked.keep_alive is None:
        if limits.keep_alive is None or resident is not None:
            return ()
        return (_set_keep_alive(limits.keep_alive, "keep_alive_default"),)
    cap = limits.max_keep_alive
    if cap is None or asked.keep_alive is None or asked.keep_alive <= cap:
        return ()  # None: a form that the server refuses
    if resident is None:
        return (_set_keep_alive(cap, "keep_alive_cap"),)
    return (_Edit(KEEP_ALIVE, NULL, None, "keep_alive_cap", f"keep_alive<={render(cap)}"),)


def _set_keep_alive(seconds: float, what: str) -> _Edit:
    value = b"-1" if math.isinf(seconds) else b'"%b"' % render(seconds).encode()
    return _Edit(KEEP_ALIVE, value, seconds, what, f"keep_alive={render(seconds)}")


def _num_ctx(
    body: bytes, asked: RequestFields, limits: RuleLimits, resident: ResidentRunner | None
) -> Sequence[_Edit]:
    given = [value for value in json_edit.values_at(body, NUM_CTX) if value != NULL]
    if not given:
        wanted, what = limits.num_ctx, "num_ctx_default"
    elif asked.num_ctx is not None and asked.num_ctx > (limits.max_num_ctx or math.inf):
        wanted, what = limits.max_num_ctx, "num_ctx_cap"
    else:
        return ()
    if wanted is None or (resident is not None and resident.context != wanted):
        return ()
    return (_Edit(NUM_CTX, b"%d" % wanted, wanted, what, f"num_ctx={wanted}"),)
