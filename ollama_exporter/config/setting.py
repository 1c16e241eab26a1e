# SPDX-License-Identifier: Apache-2.0
"""One row of the schema: a setting, with everything that is known of it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ollama_exporter.config.target import HeaderField

T = TypeVar("T")
Parser = Callable[[str, object], T]  # label of the value's source, raw value
PREFIX: Final = "OLLAMA_EXPORTER_"
_ROW: Final = "setting"  # key in a dataclass field's metadata
_UNITS: Final = (("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))


class Setting(Struct, frozen=True, kw_only=True):
    """A setting. `name` is its key in the file; with two dashes before it, its flag."""

    name: str
    parse: Parser[Any]
    default: Any
    help: str
    metavar: str = ""  # empty for a switch
    reloadable: bool = False
    is_section: bool = False  # a mapping in the file; no flag and no variable
    field: str = ""  # its attribute of `Settings`

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value."""
        return isinstance(self.default, bool)

    @property
    def is_list(self) -> bool:
        """Whether its flag can be given several times."""
        return isinstance(self.default, tuple)

    @property
    def flag(self) -> str:
        """Its flag."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return variable(self.name)


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + re.sub(r"[.-]", "_", name).upper()


def setting(
    name: str,
    parse: Parser[T],
    default: T,
    help: str,  # noqa: A002 - click's word for it
    *,
    metavar: str = "",
    reloadable: bool = False,
) -> T:
    """Declare a setting as a field of a dataclass."""
    row = Setting(
        name=name, parse=parse, default=default, help=help, metavar=metavar, reloadable=reloadable
    )
    return field(default=default, metadata={_ROW: row})


def section(name: str, parse: Parser[T], default: T) -> T:
    """Declare a section of the configuration file likewise. A reload applies its changes."""
    row = Setting(
        name=name, parse=parse, default=default, help="", reloadable=True, is_section=True
    )
    return field(default=default, metadata={_ROW: row})


def rows(declared: type) -> Iterator[Setting]:
    """Yield the settings that a dataclass declares."""
    for each in fields(declared):
        row: Setting = each.metadata[_ROW]
        yield replace(row, field=each.name)


# -- values as the file, the variables and the flags take them ------------------------------------


def written(value: object) -> str:
    """Return a value as YAML, on one line. It can be pasted into the configuration file."""
    match value:
        case float(seconds):
            return duration_text(seconds)
        case Path():
            value = str(value)
        case tuple():
            value = [str(item) if isinstance(item, HeaderField) else item for item in value]
        case _:
            pass
    import yaml  # noqa: PLC0415 - 10 ms, and most starts write no value

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def duration_text(seconds: float) -> str:
    """Return a duration in its largest unit that gives a whole number."""
    for unit, length in _UNITS:
        count = seconds / length
        if count >= 1 and abs(count - round(count)) < 1e-9:  # noqa: PLR2004 - float noise
            return f"{round(count)}{unit}"
    return f"{seconds:g}s"


def as_word(value: object) -> str:
    """Return a value as its flag or variable takes it; empty for an unset one."""
    match value:
        case None | ():
            return ""
        case bool():
            return "true" if value else "false"
        case tuple(values):
            separator = "\n" if isinstance(values[0], HeaderField) else ","
            return separator.join(map(str, values))
        case str() | Path() | int():
            return str(value)
        case _:
            return written(value)
