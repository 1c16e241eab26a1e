# SPDX-License-Identifier: Apache-2.0
"""The proxy's defaults on a running exporter: what reaches the server, and what is set after."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host, Load, Runner, Unload
from tests.support.exporting import Running, exporting
from tests.support.patience import PATIENCE

CATALOGUE = default_catalogue().compressed(200.0)
HOST = Host(memory=24 * GIB, recovery=0.1, convergence=0.05)
PROXY: dict[str, Any] = {"proxy_addresses": (":0",)}
HEADER = "x-ollama-exporter-set"
MISTRAL = "model=mistral:latest"
V1 = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi [[n=2]]"}]
RENEWALS = ("ollama_keep_alive_renewals_total", f"by=defaults,{MISTRAL}")


class Session:
    """A simulated server, the exporter's proxy in front of it, clients through and past it."""

    def __init__(
        self, sim: Simulator, exporter: Running, through: httpx.AsyncClient, past: httpx.AsyncClient
    ) -> None:
        self.sim, self.exporter, self.through, self.past = sim, exporter, through, past

    async def ask(self, *, past: bool = False, **body: Any) -> httpx.Response:
        client = self.past if past else self.through
        whole = {"model": "mistral", "prompt": "hi [[n=2]]", "stream": False, **body}
        answer = await client.post("/api/generate", json=whole)
        assert answer.status_code == 200, answer.text
        return answer

    async def chat(self) -> httpx.Response:
        answer = await self.through.post(V1, json={"model": "mistral", "messages": MESSAGES})
        assert answer.status_code == 200, answer.text
        return answer

    def runner(self) -> Runner:
        return self.sim.server.engine.runners[0]

    def loads(self) -> int:
        return sum(isinstance(event, Load) for event in self.sim.truth)

    async def seen(self) -> None:
        """Wait until the exporter knows that the model is resident."""
        await self.exporter.until(lambda s: s.get(("ollama_model_loaded", MISTRAL)) == 1)


def with_rules(
    check: Callable[[Session], Awaitable[None]], *rules: Rule, host: Host = HOST, **changes: Any
) -> None:
    async def main() -> None:
        async with (
            Simulator(Config(host=host, catalogue=CATALOGUE)) as sim,
            exporting(sim.url, defaults=rules, **PROXY | changes) as exporter,
        ):
            said = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
            proxy = f"http://{vars(said[0])['address']}"
            async with (
                httpx.AsyncClient(base_url=proxy, trust_env=False, timeout=PATIENCE) as through,
                httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=PATIENCE) as past,
            ):
                await exporter.until(lambda s: ("ollama_models_installed", "") in s)
                it = Session(sim, exporter, through, past)
                await check(it)
                samples = await exporter.samples()
                assert samples["ollama_exporter_recorder_errors_total", ""] == 0

    asyncio.run(main())


def test_a_request_that_loads_its_model_gets_the_default() -> None:
    async def check(it: Session) -> None:
        answer = await it.ask()
        assert answer.headers[HEADER] == "keep_alive=10m0s"
        assert it.runner().session == 600.0
        # what the client carried, not what was made of it
        carried = ("ollama_request_keep_alive_total", f"class=absent,{MISTRAL}")
        samples = await it.exporter.until(lambda s: s.get(carried) == 1)
        changes = "ollama_request_changes_total"
        assert samples[changes, f"change=keep_alive_default,{MISTRAL}"] == 1
        assert samples[changes, f"change=keep_alive_cap,{MISTRAL}"] == 0
        await it.exporter.until(
            lambda s: s.get(("ollama_model_keep_alive_seconds", MISTRAL)) == 600
        )

    with_rules(check, Rule("*", keep_alive=600.0))


LARGE = b"x" * (1 << 20)
# Bodies that ask for more than a cap allows, and how each might get past it.
PAST_A_CAP = {
    "a megabyte before the cap": b'{"x":"%b","keep_alive":-1,"options":%b,"model":"mistral"}',
    "a megabyte behind it": b'{"model":"mistral","keep_alive":-1,"options":%.0b%b,"x":"%b"}',
    "members": b'{"model":"mistral",%b"keep_alive":-1,"options":%b}',
    "members behind it": b'{"model":"mistral","keep_alive":-1,"options":%.0b%b,%b"x":1}',
    "brackets": b'{"model":"mistral","x":[%b1],"keep_alive":-1,"options":%b}',
    "options": b'{"model":"mistral","keep_alive":-1,"options":{%b"num_ctx":65536}}%.0b',
    "twice": b'{"model":"mistral","x":"%b","KEEP_ALIVE":"1h","Options":%b,"keep_alive":-1}',
    "escaped": b'{"model":"mistral","x":"%b","keep_\\u0061live":-1,"\\u006fptions":%b}',
    "something behind the object": b'{"model":"mistral","x":"%b","keep_alive":-1,"options":%b} {}',
}
FILLINGS = {
    "members": b'"m":1,' * 17_000,
    "members behind it": b'"m":1,' * 17_000,
    "brackets": b"[[1]]," * 140_000,
    "options": b'"n":1,' * 17_000,
}


@pytest.mark.parametrize("name", PAST_A_CAP)
def test_no_size_and_no_number_of_members_gets_past_a_cap(name: str) -> None:
    filling, options = FILLINGS.get(name, LARGE), b'{"num_ctx":65536}'
    form = PAST_A_CAP[name]
    behind = (b"", options, filling)
    body = form % (behind if b"%.0b%b" in form else (filling, options))
    body = b'{"prompt":"[[n=1]]","stream":false,' + body[1:]

    async def check(it: Session) -> None:
        answer = await it.through.post("/api/generate", content=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers[HEADER] == "keep_alive=1m0s, num_ctx=8192"
        assert it.runner().session == 60.0
        assert it.runner().options.num_ctx == 8192

    with_rules(check, Rule("*", max_keep_alive=60.0, max_num_ctx=8192))


SMALL = b'{"prompt":"[[n=1]]","stream":false,"keep_alive":-1,"model":"%b"}'
CAPPED = SMALL % b"mistral"
BIG = CAPPED[:-1] + b',"x":"' + b"y" * (2 << 20) + b'"}'


def asked(
    body: bytes,
    fields: bytes = b"",
    *,
    target: bytes = b"/api/generate",
    version: bytes = b"1.1",
    chunk: int = 0,
    extension: bytes = b"",
) -> bytes:
    """Return a request, in chunks of a size if one is given."""
    first = b"POST %b HTTP/%b\r\nHost: localhost\r\n%b" % (target, version, fields)
    if not chunk:
        return first + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in pieces)
    return first + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\nX-A: 1\r\n\r\n"


EXPECT, UPGRADE = b"Expect: 100-continue\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
STRANGERS = {
    "chunk extensions and a trailer": asked(CAPPED, chunk=7, extension=b";a=b"),
    "many chunks": asked(BIG, chunk=4096),
    "one large chunk": asked(BIG, chunk=len(BIG)),
    "HTTP/1.0": asked(CAPPED, version=b"1.0"),
    "a large body in HTTP/1.0": asked(BIG, version=b"1.0"),
    "a large body that waits for 100": asked(BIG, EXPECT),
    "an offer of another protocol": asked(CAPPED, UPGRADE),
    "a large body with such an offer": asked(BIG, UPGRADE),
    "a whole URL": asked(CAPPED, target=b"http://localhost/api/generate"),
    "a percent-encoded path": asked(CAPPED, target=b"/api/%67enerate?x=%00"),
    "the name in another case": asked(SMALL % b"MiSTral:Latest"),
    "the name with its registry": asked(SMALL % b"registry.ollama.ai/library/mistral"),
    "an encoding that is none": asked(CAPPED, b"Content-Encoding: identity\r\n"),
    "two objects": asked(CAPPED + CAPPED),
    "a long field": asked(CAPPED, b"X: " + b"a" * 30_000 + b"\r\n"),
}


def test_no_form_of_a_request_gets_past_a_cap() -> None:
    async def check(it: Session) -> None:
        base = it.through.base_url
        for name, raw in STRANGERS.items():
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(base.host, base.port)
                writer.write(raw)
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"HTTP/1.1 100"):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.close()
            assert head.startswith(b"HTTP/1.1 200"), name
            assert b"keep_alive=1m0s" in head or b"keep_alive<=1m0s" in head, name

    with_rules(check, Rule("*", max_keep_alive=60.0))


def test_a_request_of_the_compatible_api_is_renewed_when_it_is_over() -> None:
    async def check(it: Session) -> None:
        answer = await it.chat()
        assert answer.headers[HEADER] == "keep_alive>=10m0s afterwards"
        await it.exporter.until(lambda s: s.get(RENEWALS) == 1)
        assert it.runner().session == 600.0
        assert it.loads() == 1
        assert it.exporter.log.count("Keep-alive set after a request") == 1

    with_rules(check, Rule("*", keep_alive=600.0))


@pytest.mark.parametrize("context", [None, 2048])
def test_a_renewal_reloads_nothing(context: int | None) -> None:
    """The trap, for an automatic and an explicit context."""

    async def check(it: Session) -> None:
        options: dict[str, Any] = {} if context is None else {"options": {"num_ctx": context}}
        await it.ask(past=True, **options)
        await it.seen()
        await it.ask(**options)
        await it.exporter.until(lambda s: s.get(RENEWALS) == 1)
        await it.ask(**options)
        assert it.loads() == 1
        assert not any(isinstance(event, Unload) for event in it.sim.truth)
        assert it.runner().session == 600.0

    with_rules(check, Rule("*", keep_alive=600.0))


def test_a_renewal_carries_the_other_options_that_clients_ask_for() -> None:
    async def check(it: Session) -> None:
        options: dict[str, Any] = {"options": {"num_ctx": 2048, "num_batch": 64, "use_mmap": False}}
        await it.ask(past=True, **options)
        await it.seen()
        await it.ask(**options)
        await it.exporter.until(lambda s: s.get(RENEWALS) == 1)
        assert it.loads() == 1

    with_rules(check, Rule("*", keep_alive=600.0))


def test_a_client_cannot_pin_a_model() -> None:
    async def check(it: Session) -> None:
        answer = await it.ask(keep_alive=-1)
        assert answer.headers[HEADER] == "keep_alive=1h0m0s"
        assert it.runner().session == 3600.0
        await it.seen()
        answer = await it.ask(keep_alive=-1)  # it is resident now: left, and looked at afterwards
        assert answer.headers[HEADER].startswith("keep_alive<=1h0m0s")
        assert it.runner().session == 3600.0
        answer = await it.ask(keep_alive="10m")
        assert HEADER not in answer.headers
        assert it.runner().session == 600.0
        carried = ("ollama_request_keep_alive_total", f"class=never,{MISTRAL}")
        await it.exporter.until(lambda s: s.get(carried) == 2)

    with_rules(check, Rule("*", max_keep_alive=3600.0))


def test_num_ctx_is_set_where_it_reloads_nothing() -> None:
    async def check(it: Session) -> None:
        answers = await asyncio.gather(*(it.ask() for _ in range(3)))
        assert [answer.headers[HEADER] for answer in answers] == ["num_ctx=2048"] * 3
        assert (it.loads(), it.runner().options.num_ctx) == (1, 2048)
        await it.seen()
        await it.ask(past=True, options={"num_ctx": 4096})
        context = ("ollama_model_context_tokens", MISTRAL)
        await it.exporter.until(lambda s: s.get(context) == 4096)
        answer = await it.ask()  # the server decides, as without us
        assert HEADER not in answer.headers

    with_rules(check, Rule("*", num_ctx=2048))


def test_a_stop_stays_a_stop_and_what_no_rule_is_for_stays_as_it_is() -> None:
    async def check(it: Session) -> None:
        await it.ask()
        answer = await it.ask(prompt="", keep_alive=0)
        assert HEADER not in answer.headers
        assert answer.json()["done_reason"] == "unload"
        other = await it.ask(model="llama3.2")
        assert HEADER not in other.headers

    with_rules(check, Rule("mistral", keep_alive=600.0))


def test_a_large_body_gets_the_default_as_well() -> None:
    async def check(it: Session) -> None:
        answer = await it.ask(images=["x" * (1 << 20)])
        assert answer.headers[HEADER] == "num_ctx=2048"
        assert it.runner().options.num_ctx == 2048
        answer = await it.through.post(
            "/api/generate",
            content=b'{"model":"mistral","prompt":"[[n=1]]"}',
            headers={"expect": "100-continue"},
        )
        assert answer.status_code == 200
        assert it.loads() == 1

    with_rules(check, Rule("*", num_ctx=2048))


def test_without_rules_nothing_is_said_or_set() -> None:
    async def check(it: Session) -> None:
        answer = await it.ask()
        assert HEADER not in answer.headers
        assert it.runner().session == HOST.keep_alive
        samples = await it.exporter.samples()
        assert not any(name.startswith("ollama_request_changes") for name, _ in samples)

    with_rules(check)


def test_a_pin_by_the_operator_is_for_ever() -> None:
    async def check(it: Session) -> None:
        await it.chat()
        await it.exporter.until(lambda s: s.get(RENEWALS) == 1)
        (listed,) = it.sim.server.engine.listed()
        assert listed.expires_at - it.sim.server.clock() > 1e9

    with_rules(check, Rule("*", keep_alive=math.inf))


def test_another_name_of_a_resident_model_is_resident() -> None:
    async def check(it: Session) -> None:
        await it.past.post("/api/copy", json={"source": "mistral", "destination": "mine"})
        await it.ask(past=True, keep_alive="2h")
        await it.seen()
        answer = await it.ask(model="mine")
        assert answer.headers[HEADER] == "keep_alive>=10m0s afterwards"
        assert (it.loads(), it.runner().session) == (1, 7200)

    with_rules(check, Rule("*", keep_alive=600.0, num_ctx=2048))


def test_rules_without_a_proxy_are_said_to_have_no_effect() -> None:
    async def main() -> None:
        async with (
            Simulator(Config(host=HOST, catalogue=CATALOGUE)) as sim,
            exporting(sim.url, defaults=(Rule("*", keep_alive=600.0),)) as exporter,
        ):
            assert exporter.log.count("Defaults have no effect: set --proxy.listen-address") == 1

    asyncio.run(main())
