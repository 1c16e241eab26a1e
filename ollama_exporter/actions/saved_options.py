# SPDX-License-Identifier: Apache-2.0
"""What the state file keeps of the options that clients request."""

from msgspec import Struct, field

from ollama_exporter.moments import Moment


class RequestedOptions(Struct, frozen=True):
    """The runner options of the last request that loaded or used a model."""

    num_ctx: int | None = None  # None: the request had none, so the server chose
    others: tuple[tuple[str, int | bool], ...] = ()


class ServedOptions(Struct, frozen=True):
    """The options of the last request that a resident runner served. `at`: on the timeline."""

    at: Moment
    options: RequestedOptions


class SavedOptions(Struct, frozen=True):
    """All that `LoadOptions` remembers, by model."""

    requested: dict[str, RequestedOptions] = field(default_factory=dict)
    served: dict[str, ServedOptions] = field(default_factory=dict)
    listed: dict[str, int] = field(default_factory=dict)
