# SPDX-License-Identifier: Apache-2.0
"""`--proxy.request-usage`: the proxy counts tokens that clients do not ask for."""

import json
import re

import httpx
import pytest

from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support.loops import Run
from tests.support.patience import PATIENCE
from tests.support.proxying import Proxied, proxied
from tests.support.rawserver import Link, answers, caller, rawserver
from tests.support.through import CHUNKED, LAST, chunk

INSTANT = Config(catalogue=default_catalogue().compressed(1000.0))
HELLO = "words [[n=3 ttft=0.01 tps=200]]"
ASKED: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": HELLO}]},
    "/v1/completions": {"prompt": HELLO},
}
VARYING = re.compile(r'cmpl-\d+"|"created":\d+')
EVENTS = CHUNKED.replace(b"Transfer", b"Content-Type: text/event-stream\r\nTransfer")
RECORD = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":5}}\n\n'
BODY = b'{"model":"m","stream":true}'
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nContent-Length: "


def _tokens(proxy: Proxied) -> list[int | None]:
    return [seen.response.output_tokens for seen in proxy.observations]


@pytest.mark.parametrize("path", ASKED)
def test_a_client_gets_the_same_and_its_tokens_are_counted(run: Run, path: str) -> None:
    async def main() -> None:
        async with (
            Simulator(INSTANT) as sim,
            proxied(sim.url, asks_usage=True) as proxy,
            httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client,
        ):
            body = {"model": "llama3.2", "stream": True, **ASKED[path]}
            through, direct = [
                (await client.post(f"{url}{path}", json=body)).text for url in (proxy.url, sim.url)
            ]
            assert VARYING.sub("-", through) == VARYING.sub("-", direct)
            assert "usage" not in through
            own = {**body, "stream_options": {"include_usage": True}}
            assert '"total_tokens"' in (await client.post(f"{proxy.url}{path}", json=own)).text
            plain = await client.post(f"{proxy.url}{path}", json={**body, "stream": False})
            assert plain.json()["usage"]["completion_tokens"] == 3
        assert _tokens(proxy) == [3, 3, 3]

    run(main())


@pytest.mark.parametrize("padding", [0, 2 << 20])
def test_an_answer_that_cannot_be_compressed_is_asked_for_and_a_large_request_as_well(
    run: Run, padding: int
) -> None:
    async def main() -> None:
        body = BODY[:-1] + b',"x":"%b"}' % (b"a" * padding)
        answer = EVENTS + chunk(RECORD + b"data: [DONE]\n\n") + LAST
        async with (
            rawserver(answers(answer)) as server,
            proxied(server.url, asks_usage=True) as proxy,
            caller(proxy.port) as client,
        ):
            got = await client.ask(POST + b"%d\r\n\r\n%b" % (len(body), body))
            assert got.body == b"data: [DONE]\n\n"
            (request,) = server.requests()
            assert not request.all(b"accept-encoding")
            sent = json.loads(request.body)
            assert sent.pop("stream_options") == {"include_usage": True}
            assert sent == json.loads(body)
        assert _tokens(proxy) == [5]

    run(main())


@pytest.mark.parametrize("padding", [0, 2 << 20])
def test_usage_that_a_client_wants_reaches_it_however_large_its_request(
    run: Run, padding: int
) -> None:
    async def main() -> None:
        wish = b',"stream_options":{"include_usage":true}'
        body = BODY[:-1] + wish + b',"x":"%b"}' % (b"a" * padding)
        answer = EVENTS + chunk(RECORD + b"data: [DONE]\n\n") + LAST
        async with (
            rawserver(answers(answer)) as server,
            proxied(server.url, asks_usage=True) as proxy,
            caller(proxy.port) as client,
        ):
            got = await client.ask(POST + b"%d\r\n\r\n%b" % (len(body), body))
            assert got.body == RECORD + b"data: [DONE]\n\n"
            assert server.requests()[0].body == body
        assert _tokens(proxy) == [5]

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        EVENTS.replace(b"\r\nTransfer", b"\r\nContent-Encoding: gzip\r\nTransfer") + chunk(RECORD),
        CHUNKED + chunk(RECORD),
    ],
)
def test_what_cannot_be_read_passes_as_it_is(run: Run, answer: bytes) -> None:
    async def main() -> None:
        async with (
            rawserver(answers(answer + LAST)) as server,
            proxied(server.url, asks_usage=True) as proxy,
            caller(proxy.port) as client,
        ):
            got = await client.ask(POST + b"%d\r\n\r\n%b" % (len(BODY), BODY))
            assert got.body == RECORD

    run(main())


def test_a_stream_that_breaks_off_keeps_its_unfinished_line(run: Run) -> None:
    async def script(link: Link) -> None:
        await link.request()
        link.send(EVENTS + chunk(b'data: {"choices":[{}]}\n\ndata: {"cho'))
        link.close()

    async def main() -> None:
        async with (
            rawserver(script) as server,
            proxied(server.url, asks_usage=True) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(POST + b"%d\r\n\r\n%b" % (len(BODY), BODY))
            await client.gone()
            assert client.rest.endswith(chunk(b'data: {"cho'))

    run(main())
