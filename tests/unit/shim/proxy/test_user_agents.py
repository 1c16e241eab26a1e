# SPDX-License-Identifier: Apache-2.0
"""Families of clients by what they say in User-Agent."""

import pytest

from ollama_exporter.shim.proxy.user_agents import user_agent_family
from tests.support.growth import assert_linear


@pytest.mark.parametrize(
    ("field", "family"),
    [
        (b"ollama-python/0.6.1 (x86_64 linux) Python/3.11.2", "ollama-python"),
        (b"ollama-js/0.6.0 (x64 linux Node.js/v22)", "ollama-js"),
        (b"ollama/0.13.0 (amd64 linux) Go/go1.24", "ollama"),
        (b"OpenAI/Python 2.8.1", "openai"),
        (b"AsyncOpenAI/Python 2.8.1", "openai"),
        (b"Anthropic/Python 0.75.0", "anthropic"),
        (b"Open WebUI (https://example.org)", "open-webui"),
        (b"open-webui/0.6", "open-webui"),
        (b"langchainjs-ollama/1.0 ollama-js/0.6", "langchain"),
        (b"curl/8.5.0", "curl"),
        (b"  CURL/8.5.0", "curl"),
        (b"python-httpx/0.28.1", "python"),
        (b"Python/3.12 aiohttp/3.13", "python"),
        (b"Mozilla/5.0 (X11; Linux x86_64)", "browser"),
        (b"curlew/1.0", "other"),
        (b"", "other"),
        (b"/", "other"),
        (b"\xff\xfe", "other"),
        (b"x" * 300 + b"langchain", "other"),
    ],
)
def test_a_field_belongs_to_one_family(field: bytes, family: str) -> None:
    assert user_agent_family(field) == family


def test_a_long_field_costs_no_more_than_its_length() -> None:
    assert_linear(user_agent_family, lambda size: b"open" * (size // 4))
