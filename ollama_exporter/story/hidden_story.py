# SPDX-License-Identifier: Apache-2.0
"""Replaces model names in what people are shown. Pure."""

from collections.abc import Callable

from msgspec.structs import replace

from ollama_exporter.story.past import Past, PastEvent, Stay
from ollama_exporter.story.phrases import WORDS
from ollama_exporter.story.status import AdviceNow, ModelNow, Status

Hide = Callable[[str], str]


def hidden_status(status: Status, hide: Hide) -> Status:
    """Return a status without names of models, nor what gives them away."""
    return replace(
        status,
        models=tuple(_model(each, hide) for each in status.models),
        waiting=tuple(replace(each, model=hide(each.model)) for each in status.waiting),
        advice=tuple(_advice(each, hide) for each in status.advice),
    )


def hidden_past(past: Past, hide: Hide) -> Past:
    """Return records without names of models."""
    return replace(
        past,
        events=tuple(_event(each, hide) for each in past.events),
        stays=tuple(_stay(each, hide) for each in past.stays),
        requests=tuple(replace(each, model=hide(each.model)) for each in past.requests),
        minutes=tuple(replace(each, model=hide(each.model)) for each in past.minutes),
    )


def _model(model: ModelNow, hide: Hide) -> ModelNow:
    return replace(model, name=hide(model.name), parameter_size="", quantization="")


def _advice(advice: AdviceNow, hide: Hide) -> AdviceNow:
    return replace(advice, model=hide(advice.model), line="")  # the line calls it by its name


def _event(event: PastEvent, hide: Hide) -> PastEvent:
    by = hide(event.by)
    return replace(event, model=hide(event.model), by=by, text=_sentence(event.text, hide))


def _stay(stay: Stay, hide: Hide) -> Stay:
    return replace(stay, model=hide(stay.model), why=_sentence(stay.why, hide))


def _sentence(text: str, hide: Hide) -> str:
    """Return a sentence of `unload_in_words` whose cause is hidden."""
    for words in WORDS.values():
        name = text.removeprefix(f"{words} by ")
        if name != text:
            return f"{words} by {hide(name)}"
    return text
