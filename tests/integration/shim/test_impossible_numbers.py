# SPDX-License-Identifier: Apache-2.0
"""Numbers in answers that no server can mean do not reach a sum."""

import asyncio
import json
import math

import httpx
import pytest

from tests.support.exporting import exporting
from tests.support.faultserver import Asked, FaultServer, entry, faultserver, good, send
from tests.support.patience import PATIENCE

WEEK = 7 * 86_400
MODEL = "llama3:latest"


@pytest.mark.parametrize("written", ["1e308", "9" * 400, "1e999", "-1", '"x"', str(2**63)])
def test_sums_stay_finite_and_sane(written: str) -> None:
    record = (
        f'{{"model":"{MODEL}","done":true,"total_duration":{written},"load_duration":{written},'
        f'"prompt_eval_duration":{written},"eval_duration":{written},"eval_count":{written},'
        f'"prompt_eval_count":4}}\n'
    ).encode()

    async def behave(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path.startswith("/api/generate"):
            kind = "Content-Type: application/x-ndjson\r\nConnection: close\r\n"
            await send(writer, record, headers=kind)
            writer.close()  # the body of the request was not read
        else:
            await good(server, asked, writer)

    async def main() -> None:
        async with (
            faultserver(behave) as server,
            exporting(server.url, proxy_addresses=(":0",)) as exporter,
        ):
            server.models = [entry(MODEL, None)]
            said = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
            url = f"http://{vars(said[0])['address']}/api/generate"
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                answer = await client.post(url, content=json.dumps({"model": MODEL, "prompt": "x"}))
                assert answer.content == record
            tokens = ("ollama_request_prompt_tokens_total", f"model={MODEL}")
            samples = await exporter.until(lambda s: s.get(tokens) == 4)
            sums = {k: v for k, v in samples.items() if k[0].endswith("seconds_sum")}
            assert all(math.isfinite(value) and value < WEEK for value in sums.values()), sums
            assert samples["ollama_exporter_recorder_errors_total", ""] == 0
            served = f"code=200,model={MODEL},route=/api/generate"
            assert samples["ollama_requests_total", served] == 1
            assert samples.get(("ollama_request_failures_total", f"model={MODEL}")) is None

    asyncio.run(main())
