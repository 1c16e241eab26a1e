# SPDX-License-Identifier: Apache-2.0
"""Writes the table of values in the chart's README from the comments in values.yaml.

A comment that begins with `# -- ` describes the key below it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

CHART: Final = Path(__file__).parents[1] / "deploy" / "helm" / "ollama-exporter"
BEGIN: Final = "<!-- values -->\n"
END: Final = "<!-- end of values -->\n"
MARK: Final = "# -- "


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the chart: its path with dots, its default, and what it means."""

    path: str
    default: object
    text: str


def values(source: str) -> Iterator[Value]:
    """Yield the described values of a values.yaml."""
    loaded = yaml.safe_load(source)
    parents: list[tuple[int, str]] = []  # indentation and key
    text: list[str] = []
    for line in source.splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if bare.startswith(MARK):
            text = [bare.removeprefix(MARK)]
        elif bare.startswith("# ") and text:
            text.append(bare.removeprefix("# "))
        elif bare and not bare.startswith(("#", "- ")) and ":" in bare:
            key = bare.partition(":")[0]
            while parents and parents[-1][0] >= indent:
                parents.pop()
            parents.append((indent, key))
            if text:
                path = [each for _, each in parents]
                yield Value(".".join(path), _at(loaded, path), " ".join(text))
            text = []


def _at(loaded: object, path: list[str]) -> object:
    for key in path:
        assert isinstance(loaded, dict)  # noqa: S101 - the file's own structure
        loaded = loaded[key]
    return loaded


def reference(source: str) -> str:
    """Return the list of values as Markdown, within 120 columns."""
    lines: list[str] = []
    for value in values(source):
        default = yaml.safe_dump(value.default, default_flow_style=True, width=1 << 20)
        default = default.removesuffix("\n").removesuffix("\n...")
        shown = f" (`{default}`)" if len(default) <= 60 else ""  # noqa: PLR2004 - a line's worth
        lines += _wrapped(f"* **`{value.path}`**{shown}: {value.text}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> Iterator[str]:
    line, indent = "", ""
    for word in text.split(" "):
        if line and len(line) + len(word) >= 120:  # noqa: PLR2004 - columns
            yield line
            line, indent = "", "  "
        line = f"{line} {word}" if line else indent + word
    yield line


def readme(text: str, source: str) -> str:
    """Return a README with the values between its marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + "\n" + reference(source) + "\n" + END + tail


if __name__ == "__main__":
    file = CHART / "README.md"
    file.write_text(
        readme(file.read_text("utf-8"), (CHART / "values.yaml").read_text("utf-8")), "utf-8"
    )
    sys.stdout.write(f"{file.relative_to(Path.cwd())} written\n")
