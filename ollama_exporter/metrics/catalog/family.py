# SPDX-License-Identifier: Apache-2.0
"""One metric family as the catalog declares it."""

from typing import Final, Literal

from msgspec import Struct

Kind = Literal["gauge", "counter", "histogram"]
# Experimental: it may change in any release, because it is young, or rests on what other programs
# do not promise (a port of a runner, the wording of a log). See docs/compatibility.md.
Stability = Literal["stable", "experimental"]
MODEL: Final = ("model",)


class Family(Struct, frozen=True):
    """One metric family. `source`: what fills it, if polls alone do not."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    source: str = ""
    stability: Stability = "stable"

    @property
    def base(self) -> str:
        """The name without the suffix that the client library adds to a counter's samples."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name
