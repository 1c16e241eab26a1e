# SPDX-License-Identifier: Apache-2.0
"""Which family of clients a User-Agent field belongs to. Pure.

The families are a fixed list: the field is the client's own claim, and anything can be in it.
"""

from typing import Final

from ollama_exporter.metrics.labels import OTHER

LONGEST: Final = 256  # bytes of the field that are looked at
# Words that name a client wherever they stand; the first one wins.
MARKED: Final = (
    (b"open-webui", "open-webui"),
    (b"open webui", "open-webui"),
    (b"langchain", "langchain"),
    (b"llama-index", "llama-index"),
    (b"llama_index", "llama-index"),
    (b"litellm", "litellm"),
    (b"homeassistant", "home-assistant"),
    (b"ollama-python", "ollama-python"),
    (b"ollama-js", "ollama-js"),
)
# The name before the first slash, in lower case.
PRODUCTS: Final = {
    **dict.fromkeys((b"openai", b"asyncopenai", b"azureopenai", b"asyncazureopenai"), "openai"),
    **dict.fromkeys((b"anthropic", b"asyncanthropic"), "anthropic"),
    **dict.fromkeys((b"python-httpx", b"python-requests", b"python-urllib"), "python"),
    **dict.fromkeys((b"aiohttp", b"python"), "python"),
    **dict.fromkeys((b"node", b"undici", b"axios", b"node-fetch"), "node"),
    **dict.fromkeys((b"java-http-client", b"java", b"okhttp", b"apache-httpclient"), "java"),
    b"curl": "curl",
    b"go-http-client": "go",
    b"mozilla": "browser",
    b"ollama": "ollama",
    b"postmanruntime": "postman",
    b"wget": "wget",
}


def user_agent_family(field: bytes) -> str:
    """Return the family that a User-Agent field names, or `other`."""
    claimed = field[:LONGEST].strip().lower()
    for word, family in MARKED:
        if word in claimed:
            return family
    return PRODUCTS.get(claimed.split(b"/", 1)[0].split(b" ", 1)[0], OTHER)
