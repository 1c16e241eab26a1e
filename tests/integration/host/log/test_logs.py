# SPDX-License-Identifier: Apache-2.0
"""The server's log followed: a file, and a journal by a program that is called journalctl."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pytest

from ollama_exporter.host.log.flood import BURST, CALM
from ollama_exporter.host.log.follower import NOT_UNDERSTOOD, LogFollower
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import LogKind, LogSaid
from tests.support.exporting import Records, same_logger, until
from tests.support.timelines import GivenTimeline

STARTED: Final = (
    "time=2026-11-23T20:03:47.426Z level=INFO source=llama_server.go:1362 "
    'msg="llama-server started in 2.28 seconds"\n'
)
DEBUG: Final = 'time=2026-11-23T20:03:47.426Z level=DEBUG source=x.go:1 msg="something new"\n'
ACCESS: Final = "[GIN] 2026/11/23 - 20:03:43 | 200 | 94.706µs | 127.0.0.1 | GET /api/version\n"
PRIVATE: Final = "prompt: what is the password level=INFO of my bank\n"


@dataclass(slots=True)
class Scene:
    """A follower at work."""

    watch: LogFollower
    log: Records
    told: list[LogSaid] = field(default_factory=list)


@asynccontextmanager
async def following(source: str, *, now: Callable[[], float] = time.time) -> AsyncIterator[Scene]:
    told: list[LogSaid] = []
    watch = LogFollower(
        source, reporter=Reporter(fact=cast("Any", told.append)), timeline=GivenTimeline(now)
    )
    with same_logger() as logger:
        log = Records()
        logger.setLevel(logging.DEBUG)
        logger.addHandler(log)
        task = asyncio.create_task(watch.run())
        try:
            yield Scene(watch, log, told)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def understood(scene: Scene) -> bool | None:
    return scene.watch.is_understood


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_new_lines_are_counted_by_level_and_known_ones_told(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.write_text(STARTED, encoding="utf-8")
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, DEBUG + ACCESS + STARTED + PRIVATE)
            await until(lambda: scene.told)
            (said,) = scene.told
            assert said.kind is LogKind.LOAD_DONE
            assert said.seconds == 2.28
            assert said.written == pytest.approx(1795464227.426)
            assert scene.watch.counts == {
                "debug": 1,
                "info": 1,
                "warn": 0,
                "error": 0,
                "other": 2,
            }
            for record in scene.log.records:
                assert "password" not in str(vars(record))

    run(story)


def test_a_log_that_is_rotated_is_followed_on(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, STARTED)
            path.rename(tmp_path / "server.log.1")
            path.write_text(2 * STARTED, encoding="utf-8")
            await until(lambda: len(scene.told) == 3)
            os.truncate(path, 0)
            append(path, STARTED)  # shorter than before, whether or not it looked in between
            await until(lambda: len(scene.told) == 4)

    run(story)


def test_what_cannot_be_read_is_said_once_and_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "later.log"
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Failed to follow log"))
            path.write_text(STARTED, encoding="utf-8")
            await until(lambda: scene.told)
            assert scene.log.count("Failed to follow log") == 1
            assert scene.log.count("Following log") == 1

    run(story)


def journalctl(folder: Path, script: str) -> None:
    program = folder / "journalctl"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


@pytest.fixture
def path_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a folder before all others on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_a_journal_is_followed_from_now_on_without_our_environment(
    path_with: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1")
    journalctl(
        path_with,
        f'echo "$@" > {path_with}/arguments; env > {path_with}/environment\n'
        f"sleep 0.7; cat <<'E'\n{STARTED}E\nexec sleep 60",
    )

    async def story() -> None:
        async with following("journal:my-ollama.service") as scene:
            await until(lambda: scene.told)
            assert scene.log.count("Following log") == 1
        arguments = (path_with / "arguments").read_text("utf-8").split()
        assert arguments[:3] == ["--follow", "--lines=0", "--output=cat"]
        assert arguments[-1] == "--unit=my-ollama.service"
        assert "SECRET" not in (path_with / "environment").read_text("utf-8")

    run(story)


def test_a_journalctl_that_ends_is_started_again_after_a_pause(path_with: Path) -> None:
    journalctl(
        path_with,
        f"echo x >> {path_with}/starts; echo 'No permission, {PRIVATE.strip()}' >&2; exit 3",
    )

    async def story() -> None:
        starts = path_with / "starts"
        async with following("journal") as scene:
            await until(lambda: starts.exists() and len(starts.read_text("utf-8").split()) >= 2)
            assert scene.log.count("Failed to follow log") == 1
            (record,) = scene.log.records
            assert "exited with status 3: No permission" in vars(record)["err"]

    run(story)


def test_no_journalctl_is_left_behind(path_with: Path) -> None:
    journalctl(path_with, f"echo $$ > {path_with}/pid; exec sleep 60")

    async def story() -> None:
        async with following("journal") as scene:
            await until(lambda: scene.log.count("Following log"))

    run(story)
    pid = int((path_with / "pid").read_text("utf-8"))
    assert not Path(f"/proc/{pid}").exists()


def test_a_machine_without_journalctl_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def story() -> None:
        async with following("journal") as scene:
            await until(lambda: scene.log.count("Failed to follow log"))
            (record,) = scene.log.records
            assert "journalctl: No such file" in vars(record)["err"]

    run(story)


def test_a_flood_of_a_runners_lines_is_counted_and_a_long_one_is_cut(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, "slot print_timing: id 0\n" * 20_000 + "x" * 2**20 + "\n" + STARTED)
            await until(lambda: scene.told)
            assert scene.watch.counts["other"] == 20_001

    run(story)


JSON_FILE: Final = '{"log":"TEXT\\n","stream":"stderr","time":"2026-11-23T20:03:47.5Z"}\n'
CRI: Final = "2026-11-23T20:03:47.426123456Z stderr F TEXT\n"
CRI_PARTS: Final = (
    "2026-11-23T20:03:47.4Z stderr P TIME\n2026-11-23T20:03:47.4Z stdout F [GIN]\n"
    "2026-11-23T20:03:47.4Z stderr F REST\n"
)


@pytest.mark.parametrize("form", ["json-file", "cri", "parts", "prefix"])
def test_log_files_of_containers_are_read(tmp_path: Path, form: str) -> None:
    line = STARTED.strip()
    text = {
        "json-file": JSON_FILE.replace("TEXT", line.replace('"', '\\"')),
        "cri": CRI.replace("TEXT", line),
        "parts": CRI_PARTS.replace("TIME", line[:60]).replace("REST", line[60:]),
        "prefix": f"[pod/ollama-6d5f8c/ollama] {line}\n",
    }[form]

    async def story() -> None:
        path = tmp_path / "0.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, text)
            await until(lambda: scene.told)
            assert scene.told[0].seconds == 2.28
            assert understood(scene) is True

    run(story)


def test_a_log_of_an_unknown_form_is_said_once_and_again_when_it_is_read(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            assert understood(scene) is None
            append(path, "".join(f"what is this? {STARTED}" for _ in range(300)))
            await until(lambda: scene.watch.counts["other"] == 300)
            assert understood(scene) is False
            said = [r for r in scene.log.records if "not understood" in r.getMessage()]
            assert [record.levelname for record in said] == ["WARNING"]
            append(path, STARTED)
            await until(lambda: scene.told)
            assert understood(scene) is True

    run(story)


def test_access_lines_and_a_runners_output_are_no_sign_of_an_unknown_form(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, (ACCESS + "llama_model_loader: x\n") * 300)
            await until(lambda: scene.watch.counts["other"] == 600)
            assert understood(scene) is None

    run(story)


def test_an_absurd_number_in_a_line_does_not_end_the_follower(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        odd = STARTED.split("msg=")[0] + 'msg="llama-server terminated" pid=' + "9" * 5000 + "\n"
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, odd + STARTED)
            await until(lambda: len(scene.told) == 2)
            assert [fact.pid for fact in scene.told] == [None, None]

    run(story)


def docker(folder: Path, script: str) -> None:
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def test_a_container_is_followed_through_its_restarts(path_with: Path) -> None:
    docker(
        path_with,
        f"echo \"$@\" >> {path_with}/arguments\nsleep 0.7; cat >&2 <<'E'\n{STARTED}E\n"
        f"[ $(wc -l < {path_with}/arguments) -lt 2 ] || exec sleep 60",
    )

    async def story() -> None:
        arguments = path_with / "arguments"
        async with following("docker:ollama") as scene:
            await until(lambda: len(scene.told) == 2)
            assert scene.log.count("Following log") == 2
        first, second = arguments.read_text("utf-8").splitlines()
        assert first == "logs --follow --tail=0 ollama"
        assert second.startswith("logs --follow --since=")

    run(story)


def test_why_a_container_cannot_be_followed_is_said_without_its_lines(path_with: Path) -> None:
    docker(path_with, "echo 'Error response from daemon: No such container: x' >&2; exit 1")

    async def story() -> None:
        async with following("docker:x") as scene:
            await until(lambda: scene.log.count("Failed to follow log"))
            (record,) = scene.log.records
            assert "No such container" in vars(record)["err"]
        docker(path_with, f"echo '{PRIVATE.strip()}'; exit 0")
        async with following("docker:x") as scene:
            await until(lambda: scene.log.count("Failed to follow log"))
            (record,) = scene.log.records
            assert "the container has stopped" in vars(record)["err"]

    run(story)


def test_a_flood_of_server_lines_is_said_once_and_read_in_full_when_it_is_over(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        clock = [time.time()]
        async with following(str(path), now=lambda: clock[0]) as scene:
            await until(lambda: scene.log.count("Following log"))
            lines = 3 * int(BURST)
            append(path, "time=x level=INFO \n" * lines + "x" * 2**20 + " level=INFO")
            await until(lambda: sum(scene.watch.counts.values()) == lines)
            append(path, "\n")
            await until(lambda: sum(scene.watch.counts.values()) == lines + 1)
            clock[0] += CALM
            await until(lambda: scene.log.count("Log is read in full again"))
            append(path, STARTED)
            await until(lambda: scene.told)
            assert scene.log.count("Log floods: skipping lines") == 1
            assert understood(scene) is True

    run(story)


def fifo(path: Path) -> None:
    os.mkfifo(path)


REPLACEMENTS: Final[dict[str, Callable[[Path], object]]] = {
    "fifo": fifo,
    "directory": Path.mkdir,
    "link to itself": lambda path: path.symlink_to(path),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
}


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_what_replaces_a_log_and_is_none_is_said_once_until_a_log_is_back(
    tmp_path: Path, kind: str
) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, STARTED)
            await until(lambda: len(scene.told) == 1)
            path.unlink()
            REPLACEMENTS[kind](path)
            if kind != "link to nothing":  # a name without a file is one that is being rotated
                await until(lambda: scene.log.count("Failed to follow log"))
            path.rmdir() if kind == "directory" else path.unlink()
            append(path, STARTED)
            await until(lambda: len(scene.told) == 2)
            assert scene.log.count("Failed to follow log") == (kind != "link to nothing")

    run(story)


def test_a_line_that_a_rotation_or_truncation_left_open_takes_no_other_with_it(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, STARTED + STARTED + STARTED[:40])
            await until(lambda: len(scene.told) == 2)
            os.truncate(path, 0)
            append(path, STARTED)
            await until(lambda: len(scene.told) == 3)
            append(path, STARTED[:40])
            path.rename(tmp_path / "server.log.1")
            append(path, STARTED)
            await until(lambda: len(scene.told) == 4)

    run(story)


def test_json_without_its_moment_is_a_form_that_is_not_understood(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        async with following(str(path)) as scene:
            await until(lambda: scene.log.count("Following log"))
            append(path, '{"level":"INFO","msg":"llama-server started"}\n' * NOT_UNDERSTOOD)
            await until(lambda: understood(scene) is False)
            append(path, STARTED)
            await until(lambda: understood(scene))
            assert scene.log.count("Log is understood again") == 1

    run(story)
