# SPDX-License-Identifier: Apache-2.0
"""What changed between two statuses, for a reader who has the old one. Pure."""

from typing import Any

from ollama_exporter.story.status import Status


def difference_of(old: Status, new: Status) -> dict[str, Any]:
    """Return the fields that differ. Of the models, those that are new or changed, and the gone."""
    changed: dict[str, Any] = {
        name: getattr(new, name)
        for name in Status.__struct_fields__
        if name != "models" and getattr(old, name) != getattr(new, name)
    }
    before = {model.name: model for model in old.models}
    models = [model for model in new.models if before.get(model.name) != model]
    if models:
        changed["models"] = models
    gone = sorted(before.keys() - {model.name for model in new.models})
    if gone:
        changed["gone"] = gone
    return changed
