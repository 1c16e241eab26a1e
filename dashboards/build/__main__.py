# SPDX-License-Identifier: Apache-2.0
"""Write the dashboards: python -m dashboards.build [FOLDER]."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any, Final

with warnings.catch_warnings():
    # The SDK prefers the second schema; the classic one is what every Grafana imports.
    warnings.simplefilter("ignore", DeprecationWarning)
    from dashboards.build.memory import memory
    from dashboards.build.one_model import one_model
    from dashboards.build.overview import overview
    from dashboards.build.slow import slow
    from dashboards.build.who_uses_it import who_uses_it
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

FOLDER: Final = Path(__file__).parents[1] / "grafana"


def made() -> dict[str, str]:
    """Return each file's name and text."""
    return {
        f"{dashboard.uid}.json": json.dumps(_tidied(dashboard), sort_keys=True, indent=1) + "\n"
        for dashboard in (overview(), one_model(), slow(), memory(), who_uses_it())
    }


def _tidied(dashboard: Dashboard) -> dict[str, Any]:
    """Remove fields that the SDK writes and Grafana's own types lack."""
    made: dict[str, Any] = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    for variable in made["templating"]["list"]:
        for field in ("auto", "auto_count", "auto_min"):
            variable.pop(field, None)
    for panel in made["panels"]:
        for each in (panel, *panel.get("panels", ())):
            if each["type"] == "table":
                each["options"].pop("footer", None)
    return made


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
