# SPDX-License-Identifier: Apache-2.0
"""`record`, `advise` and `healthcheck` of one server of several."""

import asyncio
import json
import sys
import time
from pathlib import Path

from click.testing import CliRunner, Result

from ollama_exporter.cli.main import cli
from tests.support.exporting import until
from tests.support.faultserver import closed_port, entry, faultserver
from tests.support.fleets import fleet


def invoked(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "140"}).invoke(cli, arguments)


def test_advise_and_healthcheck_ask_for_a_target() -> None:
    async def main() -> None:
        targets = {"down": f"http://127.0.0.1:{closed_port()}"}
        async with faultserver() as up, fleet({"up": up.url, **targets}) as exporter:
            up.models = [entry("mine:latest", time.time() + 900.0)]
            loaded = ("ollama_model_loaded", "model=mine:latest")
            await exporter.until("up", lambda s: s[loaded] == 1)
            url, here = f"http://{exporter.address}", f"--web.listen-address={exporter.address}"
            for target in ("up", "all"):
                advice = await asyncio.to_thread(invoked, "advise", url, "--target", target)
                assert "mine:latest" in advice.output, advice.output
            as_json = await asyncio.to_thread(invoked, "advise", url, "--target=all", "--json")
            assert [x["group"] for x in json.loads(as_json.output)["models"]] == ["up"]
            for name, code in (("up", 0), ("down", 1), ("nobody", 1)):
                health = await asyncio.to_thread(invoked, "healthcheck", here, "--target", name)
                assert health.exit_code == code, health.output

    asyncio.run(main())


def test_record_needs_the_name_of_a_target_and_uses_its_credentials(tmp_path: Path) -> None:
    config, file = tmp_path / "c.yaml", tmp_path / "r.jsonl"

    async def main() -> None:
        async with faultserver() as server:
            target = {"url": server.url, "headers": {"X-Key": "sesame"}}
            config.write_text(json.dumps({"targets": {"one": target, "two": server.url}}))
            flags = ("record", str(file), f"--config.file={config}")
            missing = await asyncio.to_thread(invoked, *flags)
            assert (missing.exit_code, "one, two" in missing.output) == (2, True)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "ollama_exporter", *flags, "--target=one", "--duration=60"
            )
            await until(lambda: file.exists() and b'"poll"' in file.read_bytes())
            process.terminate()
            assert await process.wait() == 0
            assert {asked.headers.get("x-key") for asked in server.asked} == {"sesame"}

    asyncio.run(main())


def test_a_target_without_several_is_an_error() -> None:
    refused = invoked("record", "x.jsonl", "--target=one")
    assert "only with targets or targets-dir" in refused.output
    asked = invoked("advise", "--target=one", "--prometheus=http://127.0.0.1:1")
    assert "use --by instance" in asked.output
