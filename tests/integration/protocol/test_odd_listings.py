# SPDX-License-Identifier: Apache-2.0
"""An exporter and a server whose listings have one odd entry among good ones."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporting import Running, Samples, exporting
from tests.support.faultserver import Asked, FaultServer, answer, entry, faultserver, good

GOOD = entry("good:latest", None)
ODD: dict[str, dict[str, Any]] = {
    "size null": {"size": None},
    "size a float": {"size": 4.9e9, "digest": None},
    "digest null": {"digest": None},
    "a time in seconds": {"expires_at": 1893456000},
    "a word for a time": {"expires_at": "Forever"},
    "2 to the 64th": {"expires_at": 18446744073709551615, "size": 18446744073709551616},
    "a wrong type inside": {"details": {"family": {"deep": [1]}}},
    "no name": {"name": None, "model": None},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_one_odd_entry_costs_itself_and_not_the_listing(changes: dict[str, Any]) -> None:
    odd = {**entry("odd:latest", None, digest="cd" * 32), **changes}
    listing = json.dumps({"models": [odd, GOOD]}).encode()
    # /api/tags has no deadlines and no details that are read
    paths = ["/api/ps", *(["/api/tags"] if {"size", "digest", "name"} & changes.keys() else [])]

    async def behave(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
        listed = asked.path in ("/api/ps", "/api/tags")
        await (answer(listing) if listed else good)(server, asked, writer)

    async def main() -> Running:
        async with faultserver(behave) as server, exporting(server.url) as exporter:
            samples = await exporter.until(
                lambda s: (
                    s["ollama_up", ""] == 1
                    and all(s["ollama_malformed_entries_total", f"path={p}"] > 0 for p in paths)
                )
            )
            assert samples["ollama_poll_failures_total", "reason=malformed"] == 0
            assert samples["ollama_model_memory_bytes", "model=good:latest"] == GOOD["size"]
            assert is_listed(samples, "odd:latest") == ("name" not in changes)
            assert not any(value != value for value in samples.values())  # noqa: PLR0124 - NaN
            return exporter

    exporter = asyncio.run(main())
    assert exporter.log.count("Ignoring fields of a listing that cannot be read") == len(paths)


RAW_VALUES = ["NaN", "-Infinity", "1e999", "0x10", "01", "undefined", "[" * 3000 + "]" * 3000]


@pytest.mark.parametrize("raw", RAW_VALUES, ids=lambda raw: raw[:10])
def test_a_value_that_is_no_json_costs_itself_and_not_the_listing(raw: str) -> None:
    odd = json.dumps({**entry("odd:latest", None, digest="cd" * 32), "size": "HERE"})
    entries = f"{odd.replace(json.dumps('HERE'), raw)}, {json.dumps(GOOD)}"
    listing = f'{{"models": [{entries}], "other": {raw}}}'.encode()

    async def behave(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
        listed = asked.path in ("/api/ps", "/api/tags")
        await (answer(listing) if listed else good)(server, asked, writer)

    async def main() -> None:
        async with faultserver(behave) as server, exporting(server.url) as exporter:
            samples = await exporter.until(
                lambda s: s["ollama_malformed_entries_total", "path=/api/ps"] > 0
            )
            assert samples["ollama_up", ""] == 1
            assert samples["ollama_poll_failures_total", "reason=malformed"] == 0
            assert samples["ollama_model_memory_bytes", "model=good:latest"] == GOOD["size"]
            assert is_listed(samples, "odd:latest")

    asyncio.run(main())


def test_a_credential_file_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")

    async def main() -> None:
        async with (
            faultserver() as server,
            exporting(server.url, ollama_token_file=file, poll_interval=1.0) as exporter,
        ):
            await exporter.until(lambda s: s["ollama_up", ""] == 1)
            file.unlink()
            failed = ("ollama_exporter_credential_read_errors_total", "setting=ollama.token-file")
            await exporter.until(lambda s: s.get(failed, 0.0) > 0)

    asyncio.run(main())


def is_listed(samples: Samples, model: str) -> bool:
    return samples.get(("ollama_model_loaded", f"model={model}")) == 1
