# SPDX-License-Identifier: Apache-2.0
"""What the proxy sets in a request, by the rules and by what is resident. Pure.

A keep_alive is set in a request only if that request loads its model. For a resident model it could
replace a longer one, or keep a busy model that the scheduler wants to evict: `apply.py` renews such
a model after the request. A num_ctx is never set for a model that is resident with another one,
because the server would reload the model.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ollama_exporter.actions.defaults.defaults_section import Autopilot, Rule
from ollama_exporter.protocol import json_edit
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.request_body import BodyReader, RequestFields, read
from ollama_exporter.protocol.routes import Route

KEEP_ALIVE: Final = ("keep_alive",)
NUM_CTX: Final = ("options", "num_ctx")
NULL: Final = b"null"
N = TypeVar("N", int, float)


class ResidentRunner(Struct, frozen=True):
    """The runner that a request will use, as far as known. `context`: tokens."""

    context: int | None = None


class RuleLimits(Struct, frozen=True):
    """The limits of one model: its rule, and the autopilot's value where the rule has none."""

    keep_alive: float | None = None
    num_ctx: int | None = None
    max_keep_alive: float | None = None
    max_num_ctx: int | None = None
    max_context: int | None = None  # the model's own

    def lowered_to(self, max_context: int | None) -> "RuleLimits":
        """Return the limits as the server applies them to a model with this maximum context."""
        return replace(self, num_ctx=_least(self.num_ctx, max_context), max_context=max_context)

    def wanted(self, asked: RequestFields) -> float | None:
        """Return the keep_alive that the runner should have after the request; None: unchanged."""
        if asked.keep_alive is None:
            return self.keep_alive
        if self.max_keep_alive is not None and asked.keep_alive > self.max_keep_alive:
            return self.max_keep_alive
        return None


class Changed(Struct, frozen=True):
    """A rewritten body. `changes`: values of the metric's label."""

    body: bytes
    asked: RequestFields  # of the rewritten body
    changes: tuple[str, ...]
    said: str  # value of the response header


class Rules(Struct, frozen=True):
    """The rules in force. `autopilot_value`: the keep_alive that the autopilot gives a model."""

    rules: tuple[Rule, ...]
    autopilot: Autopilot | None = None
    autopilot_value: Callable[[str], float | None] = lambda _model: None

    def limits(self, model: str) -> RuleLimits | None:
        """Return the limits for a normalised name. The first rule that matches counts."""
        if not self.rules and self.autopilot is None:
            return None
        rule = next((rule for rule in self.rules if rule.matches(model)), None)
        found = RuleLimits()
        if rule is not None:
            found = RuleLimits(rule.keep_alive, rule.num_ctx, rule.max_keep_alive, rule.max_num_ctx)
        if found.keep_alive is None and self.autopilot is not None:
            given = self.autopilot_value(model) if self.autopilot.follows(model) else None
            found = replace(found, keep_alive=_least(given, found.max_keep_alive))
        return None if found == RuleLimits() else found


def _least(value: N | None, bound: N | None) -> N | None:
    return value if value is None or bound is None else min(value, bound)


def change(
    route: Route,
    body: bytes,
    rules: Rules,
    resident: Callable[[str], ResidentRunner | None],
    max_context: Callable[[str], int | None] = lambda _model: None,
) -> Changed | None:
    """Return a native request with the values that the rules set; None: it stays as it is.

    `resident`: returns a model's runner; None: no runner is known. `max_context`: returns the
    largest num_ctx of a model, to which the server lowers a larger one.
    """
    asked = read(route, body, complete=True)
    edits = _edits(route, asked, rules, resident, max_context)
    if not edits:
        return None
    new: bytes | None = body
    for edit in edits:
        new = None if new is None else json_edit.set_member(new, edit.path, edit.value)
    if new is None:  # too many members or brackets to set them in their place
        new = _with_appended(route, body, edits)
    return None if new is None else _changed(new, asked, edits)


def append(
    route: Route,
    asked: RequestFields,
    rules: Rules,
    resident: Callable[[str], ResidentRunner | None],
    max_context: Callable[[str], int | None] = lambda _model: None,
) -> Changed | None:
    """Return what to append to a request of which the rest is known; None: it stays as it is.

    The result's `body` is members of a JSON object. `asked`: what the request asks for.
    """
    edits = _edits(route, asked, rules, resident, max_context)
    return _changed(_members(edits), asked, edits) if edits else None


def _edits(
    route: Route,
    asked: RequestFields,
    rules: Rules,
    resident: Callable[[str], ResidentRunner | None],
    max_context: Callable[[str], int | None],
) -> Sequence["_Edit"]:
    if not route.native or asked.model is None or asked.is_stop:
        return ()
    model = normalise(asked.model)
    limits = rules.limits(model)
    if limits is None:
        return ()
    found = resident(model)
    once = asked.keep_alive == 0  # its client wants the model gone afterwards
    return (
        *(() if once else _keep_alive(asked, limits, found)),
        *_num_ctx(asked, limits.lowered_to(max_context(model)), found),
    )


def _changed(body: bytes, asked: RequestFields, edits: Sequence["_Edit"]) -> Changed:
    return Changed(
        body,
        replace(asked, **{edit.path[-1]: edit.parsed for edit in edits}),
        tuple(edit.change for edit in edits),
        ", ".join(edit.header for edit in edits),
    )


def _with_appended(route: Route, body: bytes, edits: Sequence["_Edit"]) -> bytes | None:
    """Return a body with members behind its own; None if it is not a complete object."""
    reader = BodyReader(route)
    reader.scan()
    end = reader.feed(body)
    if end is None:
        return None
    comma = b"," if reader.has_members else b""
    return body[:end] + comma + _members(edits) + body[end:]


def _members(edits: Sequence["_Edit"]) -> bytes:
    return b",".join(json_edit.member(edit.path, edit.value) for edit in edits)


class _Edit(Struct, frozen=True):
    path: tuple[str, ...]
    value: bytes
    parsed: Any  # the value of the field in `RequestFields`
    change: str
    header: str


def _keep_alive(
    asked: RequestFields, limits: RuleLimits, resident: ResidentRunner | None
) -> Sequence[_Edit]:
    if asked.keep_alive is None and not asked.has_rejected_keep_alive:
        if limits.keep_alive is None or resident is not None:
            return ()
        return (_set_keep_alive(limits.keep_alive, "keep_alive_default"),)
    cap = limits.max_keep_alive
    if cap is None or asked.keep_alive is None or asked.keep_alive <= cap:
        return ()  # None: the server rejects it
    if resident is None:
        return (_set_keep_alive(cap, "keep_alive_cap"),)
    return (_Edit(KEEP_ALIVE, NULL, None, "keep_alive_cap", f"keep_alive<={render(cap)}"),)


def _set_keep_alive(seconds: float, change: str) -> _Edit:
    value = b"-1" if math.isinf(seconds) else b'"%b"' % render(seconds).encode()
    return _Edit(KEEP_ALIVE, value, seconds, change, f"keep_alive={render(seconds)}")


def _num_ctx(
    asked: RequestFields, limits: RuleLimits, resident: ResidentRunner | None
) -> Sequence[_Edit]:
    """Return the edit of num_ctx, if any.

    A default is set if it does not reload the model. A value above the cap passes only if the model
    is resident with that very value: any other one would reload it in any case.
    """
    if asked.num_ctx is None and not asked.has_odd_num_ctx:
        wanted, change = limits.num_ctx, "num_ctx_default"
        if wanted is None or (resident is not None and resident.context != wanted):
            return ()
    else:
        wanted, change = limits.max_num_ctx, "num_ctx_cap"
        effective = _least(asked.num_ctx, limits.max_context)
        if wanted is None or effective is None or effective <= wanted:
            return ()
        if resident is not None and resident.context == effective:
            return ()
    return (_Edit(NUM_CTX, b"%d" % wanted, wanted, change, f"num_ctx={wanted}"),)
