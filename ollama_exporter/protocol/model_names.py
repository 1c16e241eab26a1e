# SPDX-License-Identifier: Apache-2.0
"""Spells model names as `/api/ps` does."""

from typing import Final

DEFAULT_TAG: Final = "latest"
# Characters. `hf.co/` with the longest parts that the server accepts (types/model/name.go: 80 each)
# has 249. What is kept for each request holds its model's name, so a longer one is not kept.
MAX_LENGTH: Final = 256
# Prefixes that the server does not show, longest first.
IMPLIED: Final = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")


def without_implied(name: str) -> str:
    """Return a name, or a pattern, without the prefixes that the server does not show."""
    for prefix in IMPLIED:
        if name[: len(prefix)].lower() == prefix:
            return name[len(prefix) :]
    return name


def normalise(name: str) -> str:
    """Return a model name as `/api/ps` lists it: with a tag and without the default prefixes.

    Case is kept: the server matches names in any case but lists them as they were created.
    """
    name = without_implied(name)
    last = name.rsplit("/", 1)[-1]
    return name if ":" in last else f"{name}:{DEFAULT_TAG}"


def is_cloud_name(name: str) -> bool:
    """Return whether a name stands for a model in Ollama's cloud, by its tag in any case.

    As parseSourceSuffix does (internal/modelref/modelref.go). A copy of such a model may have any
    name: `remote_host` in `/api/tags` and in answers tells more.
    """
    if "cloud" not in name.lower():
        return False
    tag = name.rsplit("/", 1)[-1].rpartition(":")[2] if ":" in name else ""
    tag = tag.strip().lower()
    return tag == "cloud" or tag.endswith("-cloud")


def match_key(name: str) -> str:
    """Return what two names of one model have in common: Ollama matches names in any case.

    The server compares host, namespace, model and tag without case (`getExistingName` in
    server/create.go), so there is one model for both spellings.
    """
    return normalise(name).lower()
