# SPDX-License-Identifier: Apache-2.0
"""Several servers in one process: each by itself, changed while it runs, unharmed by the others."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic, time
from typing import Any

import bcrypt
import httpx
import pytest

from ollama_exporter.errors import ConfigError
from ollama_exporter.fleet.target_section import targets
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support import faultserver as faults
from tests.support.exporting import Samples, until
from tests.support.faultserver import entry, faultserver
from tests.support.fleets import fleet
from tests.support.patience import PATIENCE

UP = ("ollama_up", "")


def put(file: Path, content: object) -> None:
    """Write a file whole, by renaming."""
    beside = file.with_name(f".{file.name}")
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.replace(file)


def test_each_target_is_served_by_its_name_and_sees_nothing_of_another() -> None:
    async def main() -> None:
        async with (
            faultserver() as one,
            faultserver() as two,
            fleet({"one": one.url, "two": {"url": two.url, "labels": {"site": "x"}}}) as exporter,
        ):
            one.models = [entry("mistral:latest", None), entry("shared:latest", time() + 1000)]
            two.models = [entry("llama3.2:latest", None), entry("shared:latest", time() + 1000)]
            two.version = "0.40.0"
            first = await exporter.until(
                "one", lambda s: s["ollama_model_loaded", "model=shared:latest"] == 1
            )
            second = await exporter.until(
                "two", lambda s: s["ollama_model_loaded", "model=shared:latest"] == 1
            )
            assert ("ollama_model_loaded", "model=mistral:latest") in first
            assert ("ollama_model_loaded", "model=mistral:latest") not in second
            assert not [key for key in first if key[0].startswith(("process_", "python_"))]
            two.models = []  # gone long before its deadline
            await exporter.until("two", lambda s: s["ollama_model_unloads_pending", ""] == 2)
            first = await exporter.probe("one")
            assert first["ollama_model_unloads_pending", ""] == 0
            assert first["ollama_model_loaded", "model=shared:latest"] == 1
            await exporter.until("two", lambda s: ("ollama_version_info", "version=0.40.0") in s)
            own = await exporter.own()
            assert own["ollama_exporter_targets", ""] == 2
            assert not [key for key in own if key[0].startswith(("ollama_model", "ollama_up"))]
            answers = [r for r in exporter.log.records if r.getMessage() == "Server answers"]
            assert {vars(record)["target"] for record in answers} == {"one", "two"}

    asyncio.run(main())


def test_service_discovery_lists_every_target_with_its_labels() -> None:
    async def main() -> None:
        second = {"url": "http://127.0.0.1:2", "labels": {"rack": "7"}}
        named = {"a": "http://127.0.0.1:1", "b:1": second}
        async with fleet(named) as exporter:
            await until(lambda: exporter.log.count("Targets changed"))
            own, first, last = (await exporter.http.get("/sd")).json()
            assert own["labels"] == {"__scheme__": "http", "__metrics_path__": "/metrics"}
            assert first["targets"] == last["targets"] == [exporter.address]
            assert first["labels"] == {
                "__scheme__": "http",
                "__metrics_path__": "/probe",
                "__param_target": "a",
                "__meta_ollama_url": "http://127.0.0.1:1",
                "instance": "a",
            }
            assert last["labels"]["rack"] == "7"
            page = (await exporter.http.get("/")).text
            assert "0 of 2 servers answer" in page

    asyncio.run(main())


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400), ("target=", 400), ("target=a&target=a", 400), ("target=nobody", 404),
        ("target=http://127.0.0.1:1", 403), ("target=" + "x" * 2000, 400),
        ("target=%00%1b[31m", 404), ("target=<script>", 404),
    ],
)  # fmt: skip
def test_a_probe_of_nothing_is_refused_without_an_echo(query: str, status: int) -> None:
    async def main() -> None:
        async with fleet({"a": "http://127.0.0.1:1"}) as exporter:
            answer = await exporter.http.get(f"/probe?{query}")
            assert answer.status_code == status
            assert answer.headers["content-type"].startswith("text/plain")
            assert "script" not in answer.text
            assert "\x1b" not in answer.text

    asyncio.run(main())


def polled(times: int) -> Callable[[Samples], bool]:
    """Return whether so many polls have ended."""
    return lambda samples: samples["ollama_polls_total", ""] >= times


def test_targets_that_hang_flood_or_answer_rubbish_cost_the_others_nothing() -> None:
    """Nothing waits for a limit of time: those that hang do so as long as the test takes."""
    hanging = (faults.silent, faults.trickling)
    bad = (*hanging, faults.huge, faults.not_http, faults.cut_short)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            good = await stack.enter_async_context(faultserver())
            named = {"good": good.url}
            for number, behave in enumerate(bad * 3):
                server = await stack.enter_async_context(faultserver(behave))
                named[f"bad{number}"] = server.url
            exporter = await stack.enter_async_context(fleet(named))
            for number in range(len(bad)):
                polls = 0 if number < len(hanging) else 1
                samples = await exporter.until(f"bad{number}", polled(polls))
                assert samples[UP] == 0
            before = good.count("/api/ps")
            samples = await exporter.until(
                "good",
                lambda s: s["ollama_polls_total", ""] > 20 and good.count("/api/ps") > before,
            )
            assert samples[UP] == 1
            failures = [v for k, v in samples.items() if k[0] == "ollama_poll_failures_total"]
            assert sum(failures) == 0

    asyncio.run(main())


def test_a_reload_adds_changes_and_removes_targets_and_keeps_the_others() -> None:
    async def main() -> None:
        async with (
            faultserver() as one,
            faultserver() as two,
            fleet({"stays": one.url, "moves": one.url, "goes": one.url}) as exporter,
        ):
            one.models = [entry("mistral:latest", time() + 1000)]
            await exporter.until("moves", lambda s: s[UP] == 1)
            polls = (await exporter.until("stays", lambda s: s[UP] == 1))["ollama_polls_total", ""]
            after = targets(
                "targets",
                {
                    "stays": {"url": one.url, "labels": {"rack": "1"}, "expected-models": ["x"]},
                    "moves": two.url,
                    "comes": two.url,
                },
            )
            assert (await exporter.reload(targets=after)).status_code == 200
            end = monotonic() + PATIENCE  # the reload has taken the log's handlers away
            while sorted(await exporter.names()) != ["comes", "moves", "stays"]:
                assert monotonic() < end
            assert (await exporter.http.get("/probe?target=goes")).status_code == 404
            stays = await exporter.probe("stays")
            assert stays["ollama_polls_total", ""] >= polls
            assert stays["ollama_model_expected", "model=x:latest"] == 1
            moved = await exporter.until("moves", lambda s: s[UP] == 1)
            assert ("ollama_model_loaded", "model=mistral:latest") not in moved
            groups = (await exporter.http.get("/sd")).json()
            assert [x["labels"].get("rack") for x in groups].count("1") == 1

    asyncio.run(main())


def test_a_bad_reload_keeps_the_old_targets(tmp_path: Path) -> None:
    async def main() -> None:
        async with faultserver() as server, fleet({"a": server.url}) as exporter:
            await exporter.until("a", lambda s: s[UP] == 1)
            bad = targets(
                "targets",
                {
                    "b": server.url,
                    "c": {"url": server.url, "bearer-token-file": str(tmp_path / "x")},
                },
            )
            answer = await exporter.reload(targets=bad)
            assert answer.status_code == 500
            assert answer.text.startswith("targets.c.bearer-token-file: ")
            assert await exporter.names() == ["a"]
            own = await exporter.own()
            assert own["ollama_exporter_config_last_reload_successful", ""] == 0
            answer = await exporter.reload(targets=())
            assert (answer.status_code, "restart" in answer.text) == (500, True)

    asyncio.run(main())


def test_files_of_targets_are_followed_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        put(tmp_path / "a.json", {"a": "http://127.0.0.1:1"})
        async with faultserver() as server, fleet(targets_dir=tmp_path) as exporter:
            host = f"127.0.0.1:{server.port}"
            await until(lambda: exporter.log.count("Targets changed"))
            put(tmp_path / "b.json", [{"targets": [host], "labels": {"site": "berlin"}}])
            await until(lambda: exporter.log.count("Targets changed") == 2)
            assert await exporter.names() == ["a", host]
            assert (await exporter.until(host, lambda s: s[UP] == 1))[UP] == 1
            put(tmp_path / "a.json", {"a": {"uri": "x"}})
            await until(lambda: exporter.log.count("Targets file rejected"))
            assert await exporter.names() == ["a", host]
            assert (await exporter.own())["ollama_exporter_target_files_rejected", ""] == 1
            put(tmp_path / "a.json", {})
            await until(lambda: exporter.log.count("Targets changed") == 3)
            assert await exporter.names() == [host]
            assert (await exporter.own())["ollama_exporter_target_files_rejected", ""] == 0

    asyncio.run(main())


def test_what_cannot_be_used_at_the_start_ends_it(tmp_path: Path) -> None:
    async def start(named: object = None, **changes: object) -> None:
        async with fleet(named, **changes):  # type: ignore[arg-type]  # as a test writes it
            raise AssertionError

    token = {"a": {"url": "http://x:1", "bearer-token-file": str(tmp_path / "none")}}
    with pytest.raises(ConfigError, match=r"targets\.a\.bearer-token-file"):
        asyncio.run(start(token))
    put(tmp_path / "a.json", token)
    with pytest.raises(ConfigError, match=r"a\.json|bearer-token-file"):
        asyncio.run(start(targets_dir=tmp_path))
    put(tmp_path / "a.json", {"a": "http://x:1"})
    with pytest.raises(ConfigError, match=r"a\.json: the name 'a' is in the configuration"):
        asyncio.run(start({"a": "http://y:1"}, targets_dir=tmp_path))


def test_each_target_has_a_state_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "state"

    def written() -> list[str]:
        return sorted(each.name for each in tmp_path.iterdir())

    async def main() -> None:
        async with faultserver() as server:
            named = {"a": server.url, "b/c".replace("/", ":"): server.url}
            server.models = [entry("mistral:latest", time() + 1000)]
            async with fleet(named, state_file=file) as exporter:
                for name in named:
                    await exporter.until(
                        name, lambda s: s["ollama_model_loaded", "model=mistral:latest"] == 1
                    )
            assert written() == ["state.a", "state.b%3Ac"]
            server.models = []  # while nobody watches
            async with fleet(named, state_file=file) as exporter:
                for name in named:
                    await exporter.until(name, lambda s: s["ollama_model_unloads_pending", ""] == 1)

    asyncio.run(main())


def test_probes_and_discovery_are_behind_the_locks_of_the_port(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    file.write_text(f"basic_auth_users: {{alice: {hashed}}}\n", encoding="utf-8")

    async def main() -> None:
        async with (
            faultserver() as server,
            fleet({"a": server.url}, web_config_file=file) as exporter,
        ):
            for path in ("/probe?target=a", "/probe?target=nobody", "/sd", "/"):
                assert (await exporter.http.get(path)).status_code == 401
            exporter.http.auth = httpx.BasicAuth("alice", "secret")
            assert (await exporter.until("a", lambda s: s[UP] == 1))[UP] == 1
            assert await exporter.names() == ["a"]

    asyncio.run(main())


def test_keep_warm_of_one_target_loads_on_that_server_alone() -> None:
    async def main() -> None:
        config = Config(catalogue=default_catalogue().compressed(1000.0))
        async with Simulator(config) as warm, Simulator(config) as cold:
            named = {
                "warm": {"url": warm.url, "keep-warm": {"models": {"mistral": None}}},
                "cold": cold.url,
            }
            async with fleet(named, poll_interval=1.0) as exporter:
                loaded = ("ollama_model_loaded", "model=mistral:latest")
                warmed = ("ollama_warmups_total", "model=mistral:latest")
                await exporter.until("warm", lambda s: s[loaded] == s[warmed] == 1)
                other = await exporter.until("cold", lambda s: s[UP] == 1)
                assert loaded not in other
                # A reload may bring it to a server that had none.
                both = targets("targets", {**named, "cold": {**named["warm"], "url": cold.url}})  # type: ignore[dict-item]  # of one shape
                assert (await exporter.reload(targets=both)).status_code == 200
                await exporter.until("cold", lambda s: s[loaded] == 1)

    asyncio.run(main())


def test_what_keep_warm_did_is_in_the_state_file_while_the_exporter_runs(tmp_path: Path) -> None:
    """Promise 8: a kill forgets nothing of it. The turn of the target comes after minutes."""
    file = tmp_path / "state.one"

    async def main() -> None:
        config = Config(catalogue=default_catalogue().compressed(1000.0))
        async with Simulator(config) as server:
            named = {"one": {"url": server.url, "keep-warm": {"models": {"mistral": None}}}}
            changes = {"state_file": tmp_path / "state"}
            async with fleet(named, **changes):
                await until(lambda: len(_history(file).get("loads", ())) == 1)

    asyncio.run(main())


def _history(file: Path) -> dict[str, Any]:
    """Return what a state file says of keep-warm's model; {}: nothing yet."""
    if not file.exists():
        return {}
    state = json.loads(file.read_text(encoding="utf-8"))["state"]
    models: dict[str, dict[str, Any]] = state["keep_warm"]["models"]
    return models.get("mistral:latest", {})
