# SPDX-License-Identifier: Apache-2.0
"""Real SDKs, unchanged, through the proxy and with the shim inside: the same results as without."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import anthropic
import ollama
import openai
import pytest
from prometheus_client import CollectorRegistry

from ollama_exporter import Observation, instrument, uninstrument
from ollama_exporter.shim.observation import Outcome
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.programs import program
from tests.support.proxying import Proxied, proxied

QUICK: Final = Config(catalogue=default_catalogue().compressed(60.0))
CLIENTS: Final = Path(sys.prefix) / "clients"
WORDS: Final = "say [[n=3 ttft=0.01 tps=200]]"
CHAT: Final[list[Any]] = [{"role": "user", "content": WORDS}]


def run(check: Callable[[str, str, Proxied], None]) -> None:
    """Run a check in a thread: it gets the URLs of server and proxy, and the proxy."""

    async def main() -> None:
        async with Simulator(QUICK) as sim, proxied(sim.url) as proxy:
            await asyncio.to_thread(check, sim.url, proxy.url, proxy)

    asyncio.run(main())


def sdkcalls(folder: Path | None, *arguments: str) -> list[Any]:
    """Run the program of calls with the ollama-python of a folder, or with the newest."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(str(p) for p in (folder, ROOT) if p is not None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.sdkcalls", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("version", ["0.4", "newest"])
def test_ollama_python_gets_the_same_through_proxy_and_transport(version: str) -> None:
    folder = None if version == "newest" else CLIENTS / f"ollama-{version}"
    if folder is not None and not folder.is_dir():
        assert not os.environ.get("CI"), f"{folder} is not there, and in CI it must be"
        pytest.skip("no old ollama-python: make clients")

    def check(server: str, proxy: str, through: Proxied) -> None:
        bare, none = sdkcalls(folder, server)
        assert bare[:2] == [" w0 w1 w2", [" w0", " w1", " w2", ""]]
        assert bare[-3] == [404, "model 'absent' not found"]
        assert none == []
        assert sdkcalls(folder, proxy)[0] == bare
        inside, seen = sdkcalls(folder, server, "in-process")
        assert inside == bare
        of_proxy = [
            [s.route.label, s.code, s.outcome, s.response.output_tokens]
            for s in through.observations
        ]
        assert seen == of_proxy
        assert [s.outcome for s in through.observations].count(Outcome.REJECTED) == 1
        assert through.errors == []

    run(check)


def test_the_module_functions_of_ollama_python_are_instrumented_and_released() -> None:
    def check(server: str, _: str, __: Proxied) -> None:
        seen: list[Observation] = []
        default = ollama.Client(server)
        module = sys.modules["ollama"]
        before = module._client  # noqa: SLF001 - the instance behind the functions
        module._client = default  # type: ignore[attr-defined]  # noqa: SLF001 - as $OLLAMA_HOST would have had it
        try:
            instrument(registry=CollectorRegistry(), on_request=seen.append)
            assert default.generate("llama3.2", WORDS).response == " w0 w1 w2"
            uninstrument()
            default.generate("llama3.2", WORDS)
        finally:
            module._client = before  # type: ignore[attr-defined]  # noqa: SLF001 - as it was
            default._client.close()  # noqa: SLF001 - older ones have no close of their own
        assert [s.model for s in seen] == ["llama3.2:latest"]

    run(check)


def openai_calls(client: Any) -> list[object]:
    """Call everything; untyped, because plain dicts serve as well as the SDK's own types."""
    chat, complete = client.chat.completions, client.completions
    usage = {"include_usage": True}
    streamed = chat.create(model="llama3.2", messages=CHAT, stream=True, stream_options=usage)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    answer = chat.create(model="llama3.2", messages=CHAT).choices[0].message.content
    return [
        answer,
        [part.choices[0].delta.content if part.choices else part.usage for part in streamed],
        chat.create(model="llama3.2", messages=CHAT, tools=[tool]).choices[0].finish_reason,
        chat.create(model="llama3.2", messages=CHAT, response_format=schema).choices[0].index,
        complete.create(model="llama3.2", prompt=WORDS).choices[0].text,
        [c.choices[0].text for c in complete.create(model="llama3.2", prompt=WORDS, stream=True)],
        client.responses.create(model="llama3.2", input=WORDS).output_text,
        [
            event.type
            for event in client.responses.create(model="llama3.2", input=WORDS, stream=True)
        ],
        len(client.embeddings.create(model="nomic-embed-text", input="x").data),
        sorted(model.id for model in client.models.list()),
    ]


def test_openai_s_sdk_gets_the_same_through_proxy_and_transport() -> None:
    def check(server: str, proxy: str, through: Proxied) -> None:
        seen: list[Observation] = []

        def client(url: str) -> openai.OpenAI:
            return openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0)

        inside = client(server)
        instrument(inside, registry=CollectorRegistry(), on_request=seen.append)
        with client(server) as bare, client(proxy) as proxied_, inside:
            wanted = openai_calls(bare)
            assert wanted[0] == " w0 w1 w2"
            assert openai_calls(proxied_) == wanted
            assert openai_calls(inside) == wanted
            for each in (proxied_, inside):
                with pytest.raises(openai.NotFoundError):
                    each.chat.completions.create(model="absent", messages=CHAT)
        for told in (through.observations, seen):
            outcomes = [s.outcome for s in told]
            assert outcomes == [Outcome.ANSWERED] * 10 + [Outcome.REJECTED]
        assert [s.response for s in seen] == [s.response for s in through.observations]

    run(check)


def anthropic_calls(client: anthropic.Anthropic) -> list[object]:
    said = client.messages.create(model="llama3.2", max_tokens=9, messages=CHAT)
    with client.messages.stream(model="llama3.2", max_tokens=9, messages=CHAT) as stream:
        text = list(stream.text_stream)
    return [said.content[0].to_dict(), said.usage.output_tokens, text]


def test_anthropic_s_sdk_gets_the_same_through_proxy_and_transport() -> None:
    def check(server: str, proxy: str, through: Proxied) -> None:
        seen: list[Observation] = []

        def client(url: str) -> anthropic.Anthropic:
            return anthropic.Anthropic(base_url=url, api_key="secret", max_retries=0)

        inside = client(server)
        instrument(inside, registry=CollectorRegistry(), on_request=seen.append)
        with client(server) as bare, client(proxy) as proxied_, inside:
            wanted = anthropic_calls(bare)
            assert wanted[1:] == [3, [" w0", " w1", " w2"]]
            assert anthropic_calls(proxied_) == wanted
            assert anthropic_calls(inside) == wanted
        for told in (through.observations, seen):
            assert [(s.outcome, s.response.output_tokens) for s in told] == [
                (Outcome.ANSWERED, 3),
                (Outcome.ANSWERED, 3),
            ]

    run(check)


async def async_answers(server: str) -> list[object]:
    """Ask with the asynchronous clients of two SDKs, instrumented."""
    seen: list[Observation] = []
    first = openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="x")
    second = anthropic.AsyncAnthropic(base_url=server, api_key="x")
    for client in (first, second):
        instrument(client, registry=CollectorRegistry(), on_request=seen.append)
    async with first, second:
        stream = await first.chat.completions.create(model="llama3.2", messages=CHAT, stream=True)
        said = [part.choices[0].delta.content async for part in stream]
        message = await second.messages.create(model="llama3.2", max_tokens=9, messages=CHAT)
    return [said, message.usage.output_tokens, [s.outcome for s in seen]]


def test_asynchronous_clients_of_other_sdks_are_instrumented() -> None:
    def check(server: str, _: str, __: Proxied) -> None:
        said, tokens, outcomes = asyncio.run(async_answers(server))
        assert (said, tokens) == ([" w0", " w1", " w2", None], 3)
        assert outcomes == [Outcome.ANSWERED, Outcome.ANSWERED]

    run(check)


def test_ollama_s_javascript_client_gets_the_same_through_the_proxy() -> None:
    node, folder = program("node"), CLIENTS / "js"
    if not folder.is_dir():
        assert not os.environ.get("CI"), f"{folder} is not there, and in CI it must be"
        pytest.skip("no JavaScript client: make clients")

    def check(server: str, proxy: str, through: Proxied) -> None:
        script = str(ROOT / "tests" / "support" / "sdkcalls.mjs")
        said = [
            json.loads(
                subprocess.run(
                    [node, script, url, str(folder)],
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=PATIENCE,
                ).stdout
            )
            for url in (server, proxy)
        ]
        assert said[0] == said[1]
        assert said[0][:2] == [" w0 w1 w2", [" w0", " w1", " w2", ""]]
        wanted = [*([Outcome.ANSWERED] * 4), Outcome.REJECTED, Outcome.CLIENT_GONE]
        end = monotonic() + PATIENCE
        while len(through.observations) < len(wanted):  # the proxy hears of the last one's end
            assert monotonic() < end
            sleep(0.01)
        assert [s.outcome for s in through.observations] == wanted

    run(check)


@pytest.mark.parametrize("size", [100 << 10, 3 << 20])
def test_a_request_of_any_size_has_its_model_also_where_it_stands_last(size: int) -> None:
    """The OpenAI SDK writes the messages first."""

    def check(url: str, _proxied: str, _proxy: Proxied) -> None:
        seen: list[Observation] = []
        picture = "A" * size
        with openai.OpenAI(base_url=f"{url}/v1", api_key="x", timeout=PATIENCE) as client:
            instrument(client, registry=CollectorRegistry(), on_request=seen.append)
            client.chat.completions.create(
                messages=CHAT, model="mistral", extra_body={"picture": picture}
            )
            client.chat.completions.create(
                messages=CHAT, model="mistral", extra_body={"picture": picture}, stream=True
            ).close()
        with ollama.Client(host=url, timeout=PATIENCE) as native:
            instrument(native, registry=CollectorRegistry(), on_request=seen.append)
            native.generate("mistral", WORDS, images=[picture], keep_alive="7m")
        assert [each.model for each in seen] == ["mistral:latest"] * 3
        assert seen[-1].request_fields.keep_alive == 420.0

    run(check)
