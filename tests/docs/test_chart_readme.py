# SPDX-License-Identifier: Apache-2.0
"""The README of the chart says what its values say, and the schema knows each of them."""

import json
from typing import Any

import yaml

from tools.chart_reference import CHART, readme, values

SOURCE = (CHART / "values.yaml").read_text("utf-8")


def test_the_readme_lists_the_values_as_they_are() -> None:
    text = (CHART / "README.md").read_text("utf-8")
    assert text == readme(text, SOURCE), "run: python -m tools.chart_reference"


def test_every_value_is_described() -> None:
    described = {value.path for value in values(SOURCE)}
    missing = [path for path in leaves(yaml.safe_load(SOURCE)) if not covers(described, path)]
    assert missing == []


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert schema["additionalProperties"] is False
    loaded = yaml.safe_load(SOURCE)
    assert set(loaded) <= set(schema["properties"])
    for key, value in loaded.items():
        known = schema["properties"][key].get("properties")
        if isinstance(value, dict) and known is not None:
            assert set(value) == set(known), key


def leaves(value: Any, path: str = "") -> list[str]:
    if not isinstance(value, dict) or not value:
        return [path]
    return [x for key, each in value.items() for x in leaves(each, f"{path}.{key}".lstrip("."))]


def covers(described: set[str], path: str) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:count]) in described for count in range(1, len(parts) + 1))
