# SPDX-License-Identifier: Apache-2.0
"""What PromQL says: which series an expression reads, and what is done with them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import promql_parser

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog.family import Family

SUFFIX: Final = re.compile(r"_(bucket|sum|count)$")
COUNTED: Final = frozenset({"rate", "increase", "irate", "resets"})  # of counters only
PRINTF: Final = re.compile(r'printf "((?:[^"\\]|\\.)*)"[^|{}]*\| query')


@dataclass(frozen=True, slots=True)
class Read:
    """A series that is read: `function` is the one right around it, where there is one.

    `window`: seconds of its range, 0 for none. `grouped`: the labels that an aggregation keeps.
    """

    name: str
    matchers: tuple[tuple[str, str, str], ...]  # label, operator, value
    function: str
    window: float = 0.0
    grouped: frozenset[str] = frozenset()


NOTHING: Final = Read("", (), "")


def reads(expression: str) -> list[Read]:
    """Return the series that an expression reads, in their order. Raises ValueError."""
    found: list[Read] = []

    def visit(node: promql_parser.Expr, around: Read) -> None:
        match node:
            case promql_parser.VectorSelector():
                ours = tuple(
                    (m.name, str(m.op).partition(".")[2], m.value) for m in node.matchers.matchers
                )
                found.append(replace(around, name=node.name or "", matchers=ours))
            case promql_parser.MatrixSelector():
                window = node.range.total_seconds()
                visit(node.vector_selector, replace(around, window=window))
            case promql_parser.Call():
                makes_labels = node.func.name == "label_replace"
                inside = NOTHING if makes_labels else replace(NOTHING, grouped=around.grouped)
                for argument in node.args:
                    visit(argument, replace(inside, function=node.func.name))
            case promql_parser.BinaryExpr():  # a label may come from either side
                visit(node.lhs, NOTHING)
                visit(node.rhs, NOTHING)
            case promql_parser.AggregateExpr():
                by = node.modifier
                kept = by.labels if by and by.type == promql_parser.AggModifierType.By else ()
                visit(node.expr, replace(NOTHING, grouped=frozenset(kept)))
            case (
                promql_parser.ParenExpr() | promql_parser.SubqueryExpr() | promql_parser.UnaryExpr()
            ):
                visit(node.expr, replace(NOTHING, grouped=around.grouped))
            case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
                pass
            case _:
                raise AssertionError(node)

    visit(promql_parser.parse(expression), NOTHING)
    return found


def family_of(name: str) -> Family | None:
    """Return the family of the catalogue that a series belongs to."""
    family = FAMILIES.get(name)
    if family is not None:
        return family if family.kind != "histogram" else None  # its bare name is no series
    family = FAMILIES.get(SUFFIX.sub("", name))
    return family if family is not None and family.kind == "histogram" else None


def in_annotations(rule: Mapping[str, Any]) -> Iterator[str]:
    """Yield the queries that an alert's annotations ask, %q filled in."""
    for text in rule.get("annotations", {}).values():
        for query in PRINTF.findall(text):
            yield query.replace('\\"', '"').replace("%q", '"x"')
