# SPDX-License-Identifier: Apache-2.0
"""`--target`: one server of several, by its name in the configuration."""

from typing import Final

from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError
from ollama_exporter.fleet.target_files import TargetFolder
from ollama_exporter.fleet.target_section import TargetSettings

MOST_NAMED: Final = 20  # names in a message


def chosen_target(settings: Settings, name: str | None) -> TargetSettings | None:
    """Return the target of that name; None: the settings have one server. Raises ConfigError."""
    if not settings.has_fleet:
        if name is not None:
            raise ConfigError("target", name, "only with targets or targets-dir: --config.file")
        return None
    known = {each.name: each for each in settings.targets}
    if settings.targets_dir is not None:
        folder = TargetFolder(settings.targets_dir, check=lambda _target: None)
        folder.first_read(known)
        known |= {each.name: each for each in folder.targets}
    if name is None or name not in known:
        names = ", ".join(sorted(known)[:MOST_NAMED])
        raise ConfigError("target", name, f"accepted: one of the targets: {names}")
    return known[name]
