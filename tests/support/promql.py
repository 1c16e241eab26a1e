# SPDX-License-Identifier: Apache-2.0
"""What PromQL says: which series an expression reads, and what is done with them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import promql_parser

from ollama_exporter.metrics.catalog import FAMILIES
from ollama_exporter.metrics.family import Family

SUFFIX: Final = re.compile(r"_(bucket|sum|count)$")
COUNTED: Final = frozenset({"rate", "increase", "irate", "resets"})  # of counters only
PRINTF: Final = re.compile(r'printf "((?:[^"\\]|\\.)*)"[^|{}]*\| query')


@dataclass(frozen=True, slots=True)
class Read:
    """A series that is read: `function` is the one right around it, where there is one.

    `window`: seconds of its range, 0 for none.
    """

    name: str
    matchers: tuple[tuple[str, str, str], ...]  # label, operator, value
    function: str
    window: float = 0.0


def reads(expression: str) -> list[Read]:
    """Return the series that an expression reads, in their order. Raises ValueError."""
    found: list[Read] = []

    def visit(node: promql_parser.Expr, function: str, window: float = 0.0) -> None:
        match node:
            case promql_parser.VectorSelector():
                ours = tuple(
                    (m.name, str(m.op).partition(".")[2], m.value) for m in node.matchers.matchers
                )
                found.append(Read(node.name or "", ours, function, window))
            case promql_parser.MatrixSelector():
                visit(node.vector_selector, function, node.range.total_seconds())
            case promql_parser.Call():
                for argument in node.args:
                    visit(argument, node.func.name)
            case promql_parser.BinaryExpr():
                visit(node.lhs, "")
                visit(node.rhs, "")
            case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
                pass
            case (
                promql_parser.AggregateExpr()
                | promql_parser.ParenExpr()
                | promql_parser.SubqueryExpr()
                | promql_parser.UnaryExpr()
            ):
                visit(node.expr, "")
            case _:
                raise AssertionError(node)

    visit(promql_parser.parse(expression), "")
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
