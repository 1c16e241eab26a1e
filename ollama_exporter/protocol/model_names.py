# SPDX-License-Identifier: Apache-2.0
"""One spelling for each model name, the one that `/api/ps` uses."""

from typing import Final

DEFAULT_TAG: Final = "latest"
# Prefixes that the server leaves out when it shows a name, longest first.
IMPLIED: Final = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")


def normalise(name: str) -> str:
    """Return a model name as `/api/ps` would list it: with its tag, without what is implied.

    Case is kept: the server finds a model whatever the case, but lists the name as it was made.
    """
    for prefix in IMPLIED:
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    last = name.rsplit("/", 1)[-1]
    return name if ":" in last else f"{name}:{DEFAULT_TAG}"
