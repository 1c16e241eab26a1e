# SPDX-License-Identifier: Apache-2.0
"""Logs in every form in which people have them: real files, each followed while it is written."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import pytest

from ollama_exporter.host.log.flood import is_noise
from ollama_exporter.host.log.follower import LogFollower
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import LogKind, LogSaid
from tests.support.exporting import until
from tests.support.timelines import GivenTimeline

WEIGHTS: Final = "sha256-" + "0123456789abcdef" * 4
STARTED: Final = (
    "time=2026-11-23T20:03:47.426Z level=INFO source=llama_server.go:1362 "
    'msg="llama-server started in 2.28 seconds"'
)
EXPIRED: Final = (
    "time=2026-11-23T21:03:49.012+01:00 level=DEBUG source=sched.go:416 "
    'msg="timer expired, expiring to unload" '
    "runner.name=registry.ollama.ai/library/mistral:latest runner.pid=4711 "
    f"runner.model=/models/blobs/{WEIGHTS} runner.num_ctx=8192"
)
ACCESS: Final = '[GIN] 2026/11/23 - 20:03:43 | 200 | 94.7µs | 127.0.0.1 | GET      "/api/ps"'
NOISE: Final = "slot print_timing: id  0 | task 4 | eval time = 12.5 ms / 3 tokens"
LINES: Final = (ACCESS, NOISE, STARTED, NOISE, EXPIRED, NOISE, ACCESS)

Form = Callable[[str], str]


def before(text: str) -> Form:
    """Put a text before each line."""
    return lambda line: f"{text}{line}\n"


def in_json(make: Callable[[str], object]) -> Form:
    """Write each line as JSON."""
    return lambda line: json.dumps(make(line)) + "\n"


def slog(line: str, *, level: Callable[[str], str] = str) -> dict[str, Any]:
    """Return a line of the server as a collector that parses it writes it."""
    if not line.startswith("time="):
        return {"level": "OTHER", "text": line}
    moment, found, source, rest = line.split(" ", 3)
    message, _, pairs = rest.removeprefix('msg="').partition('"')
    written = {
        "time": moment.removeprefix("time="),
        "level": level(found.removeprefix("level=")),
        "source": source.removeprefix("source="),
        "msg": message,
    }
    return written | dict(pair.split("=", 1) for pair in pairs.split())


def nested(line: str) -> dict[str, Any]:
    """Return the same as slog's own JSON: groups are objects."""
    flat = slog(line)
    runner = {
        key.removeprefix("runner."): int(value) if value.isdigit() else value
        for key, value in flat.items()
        if key.startswith("runner.")
    }
    rest = {key: value for key, value in flat.items() if not key.startswith("runner.")}
    return rest | {"source": {"function": "x", "file": "sched.go", "line": 4}, "runner": runner}


def in_parts(line: str) -> str:
    """Write a line in parts, as CRI does, with the other stream between them."""
    stamp = "2026-11-23T20:03:47.426123456Z"
    return (
        f"{stamp} stderr P {line[:50]}\n{stamp} stdout F {ACCESS}\n"
        f"{stamp} stderr P {line[50:70]}\n{stamp} stderr F {line[70:]}\n"
    )


def exported(line: str) -> str:
    """Write a line as `journalctl -o export` and `-o verbose` do."""
    fields = "_PID=4711\n_SYSTEMD_UNIT=ollama.service\nPRIORITY=6\n"
    return f"__REALTIME_TIMESTAMP=1795464227426123\n{fields}MESSAGE={line}\n\n"


def verbose(line: str) -> str:
    """Write a line as `journalctl -o verbose` does."""
    head = "Mon 2026-11-23 20:03:47.426123 UTC [s=ab;i=1;b=cd;m=2;t=3;x=4]\n"
    return f"{head}    PRIORITY=6\n    MESSAGE={line}\n    _PID=4711\n"


def coloured(line: str) -> str:
    """Write a line with a coloured level and grey keys."""
    for level, colour in (("INFO", 32), ("DEBUG", 34)):
        line = line.replace(f"level={level}", f"level=\x1b[{colour}m{level}\x1b[0m")
    return line.replace("msg=", "\x1b[2mmsg=\x1b[0m") + "\n"


FORMS: Final[dict[str, Form]] = {
    "plain": before(""),
    "windows": lambda line: line + "\r\n",
    "coloured": coloured,
    "coloured whole": lambda line: f"\x1b[36m{line}\x1b[0m\n",
    "ts": lambda line: line.replace("time=", "ts=").replace("=INFO", "=info") + "\n",
    # journalctl -o …, syslog
    "short": before("Nov 23 20:03:47 host ollama[4711]: "),
    "short-precise": before("Nov 23 20:03:47.426123 host ollama[4711]: "),
    "short-monotonic": before("[ 1234.567890] host ollama[4711]: "),
    "short-delta": before("[    1.234567 <    0.000012 >] host ollama[4711]: "),
    "short-unix": before("1795464227.426123 host ollama[4711]: "),
    "short-iso": before("2026-11-23T20:03:47+01:00 host ollama[4711]: "),
    "short-full": before("Mon 2026-11-23 20:03:47 CET host ollama[4711]: "),
    "with-unit": before("Mon 2026-11-23 20:03:47 UTC gpu-box ollama@1.service[4711]: "),
    "user unit": before("Nov 23 20:03:47 box user@1000.service/app.slice/ollama.service[47]: "),
    "cat": before(""),
    "json": in_json(lambda line: {"MESSAGE": line, "_PID": "4711", "PRIORITY": "6"}),
    "json of bytes": in_json(lambda line: {"MESSAGE": list(line.encode()), "_PID": "4711"}),
    "export": exported,
    "verbose": verbose,
    "wrapper's name": before("Nov 23 20:03:47 host env[4711]: "),
    "in brackets": before("Nov 23 20:03:47 host (ollama)[4711]: "),
    "without a pid": before("Nov 23 20:03:47 host ollama: "),
    "rfc 5424": before("<30>1 2026-11-23T20:03:47.4Z host ollama 4711 ID47 [a@1 b=c] "),
    "german": before("Mo 23. Nov 20:03:47 host ollama[4711]: "),
    "russian": before("нояб. 23 20:03:47 host ollama[4711]: "),
    "arabic": before("نوفمبر 23 20:03:47 host ollama[4711]: "),
    "hindi": before("नव॰ 23 20:03:47 host ollama[4711]: "),
    "japanese": before("11月 23 20:03:47 host ollama[4711]: "),
    # supervisors
    "supervisord": lambda line: f"2026-11-23 20:03:47,426 DEBG 'ollama' stderr output:\n{line}\n",
    "launchd": before("2026-11-23 20:03:47.426 ollama[4711:1f03] "),
    "macos log": before("2026-11-23 20:03:47.426123+0100 0x1f03 Default 0x0 4711 0 ollama: "),
    "runit": before("2026-11-23_20:03:47.42612 "),
    "s6": before("@400000006742d1f41b2c3d4e "),
    "foreman": before("20:03:47 ollama.1 | "),
    "pm2": before("0|ollama   | 2026-11-23T20:03:47: "),
    "dates of the us": before("[11/23/2026, 7:00 PM] "),
    "dates of the us, short": before("11/23/2026 7:00:00 PM "),
    "dates of germany": before("[23.11.2026, 19:00:00] "),
    "level": before("INFO: "),
    "level in brackets": before("[INFO] "),
    "logger": before("INFO:ollama:"),
    # containers
    "docker json-file": in_json(
        lambda line: {"log": line + "\n", "stream": "stderr", "time": "2026-11-23T20:03:47.4Z"}
    ),
    "docker logs -t": before("2026-11-23T20:03:47.426123456Z "),
    "compose": before("name-1  | "),
    "compose -t": before("name-1  | 2026-11-23T20:03:47.426123456Z "),
    "docker service logs": before("ollama.1.x7gk2l3m4n5@node1    | "),
    "cri": before("2026-11-23T20:03:47.426123456Z stderr F "),
    "cri in parts": in_parts,
    "kubectl --prefix": before("[pod/ollama-6d5f8c-abcde/ollama] "),
    "stern": before("ollama-6d5f8c-abcde ollama "),
    "stern with an arrow": before("ollama-6d5f8c-abcde \u203a ollama "),
    "stern of all": before("default llm-6d5f8c-abcde server "),
    "stateful set": before("llm-0 server "),
    "kail": before("default/llm-6d5f8c-abcde[server]: "),
    # collectors
    "fluent bit": in_json(lambda line: {"log": line}),
    "fluent bit, message": in_json(lambda line: {"@timestamp": "2026-11-23", "message": line}),
    "fluent bit, of the pair": in_json(lambda line: [1795464227.4, {"log": line}]),
    "fluentd": lambda line: (
        "2026-11-23 20:03:47.426 +0100 ollama.log: " + json.dumps({"log": line}) + "\n"
    ),
    "vector": in_json(lambda line: {"host": "a", "message": line, "source_type": "docker_logs"}),
    "gcp": in_json(lambda line: {"insertId": "a", "textPayload": line, "severity": "ERROR"}),
    "gcp, message": in_json(lambda line: {"insertId": "a", "jsonPayload": {"message": line}}),
    "gcp, fields": in_json(lambda line: {"insertId": "a", "jsonPayload": slog(line)}),
    "cloudwatch": in_json(lambda line: {"timestamp": 1, "message": line, "ingestionTime": 2}),
    "cloudwatch tail": before("2026-11-23T20:03:47.426000+00:00 ollama/ollama/4711 "),
    "loki": in_json(lambda line: {"labels": {"a": "b"}, "line": line, "timestamp": "2026"}),
    "loki, text": before('2026-11-23T20:03:47+01:00 {job="llm", pod="x"} '),
    "loki, packed": in_json(lambda line: {"_entry": line, "pod": "x"}),
    "opentelemetry": in_json(lambda line: {"Body": {"stringValue": line}}),
    "datadog": in_json(lambda line: {"id": "a", "content": {"message": line}}),
    "json in cri": lambda line: (
        "2026-11-23T20:03:47.4Z stderr F " + json.dumps({"message": line}) + "\n"
    ),
    "json in compose": lambda line: "name-1  | " + json.dumps({"message": line}) + "\n",
    "slog json": in_json(nested),
    "parsed logfmt": in_json(slog),
    "parsed, small levels": in_json(lambda line: slog(line, level=str.lower)),
    "parsed, in docker": in_json(
        lambda line: {"log": json.dumps(slog(line)) + "\n", "stream": "stderr", "time": "2026"}
    ),
}
END: Final = 'time=2026-11-23T20:03:50Z level=INFO source=x.go:1 msg="Listening on [::]:1"'
ENCODINGS: Final = ("utf-16-le", "utf-16-be")


def write(path: Path, text: bytes, *, rotate_at: int | None) -> None:
    """Append a text, in the middle of which the file may be rotated."""
    with path.open("ab") as file:
        file.write(text[:rotate_at])
    if rotate_at is not None:
        path.rename(path.with_suffix(".old"))
        path.write_bytes(text[rotate_at:])


async def followed(
    path: Path, text: bytes, *, rotate_at: int | None = None, encoding: str = "utf-8"
) -> LogFollower:
    """Follow a file to which a text is written, and a plain line behind it; check what was read."""
    text += f"{END}\n".encode(encoding)
    told: list[LogSaid] = []
    follower = LogFollower(
        str(path),
        reporter=Reporter(fact=cast("Any", told.append)),
        timeline=GivenTimeline(time.time),
    )
    write(path, b"", rotate_at=None)
    task = asyncio.create_task(follower.run())
    try:
        await until(lambda: follower.is_following)
        write(path, text, rotate_at=rotate_at)
        await until(lambda: told and told[-1].kind is LogKind.SERVER_STARTED)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(told) == 3, (path, text)
    started, expired, _ = told
    assert (started.kind, started.seconds) == (LogKind.LOAD_DONE, 2.28), path
    assert started.written == pytest.approx(1795464227.426), path
    assert (expired.kind, expired.model) == (LogKind.TIMER_EXPIRED, "mistral:latest"), path
    assert (expired.weights, expired.pid, expired.num_ctx) == (WEIGHTS, 4711, 8192), path
    return follower


def test_every_form_is_read_alike(tmp_path: Path) -> None:
    async def one(number: int, form: Form) -> None:
        text = "".join(map(form, LINES)).encode()
        follower = await followed(tmp_path / f"{number}.log", text)
        assert follower.is_understood
        assert (follower.counts["info"], follower.counts["debug"]) == (2, 1)

    async def story() -> None:
        async with asyncio.TaskGroup() as group:
            for number, form in enumerate(FORMS.values()):
                group.create_task(one(number, form), name=list(FORMS)[number])

    asyncio.run(story())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("line", [STARTED, EXPIRED])
def test_a_line_of_the_server_is_no_noise_in_any_form(form: str, line: str) -> None:
    assert not is_noise(FORMS[form](line).encode())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_powershell_redirects_is_read(tmp_path: Path, encoding: str) -> None:
    text = "\ufeff" + "".join(f"{line}\r\n" for line in LINES)
    asyncio.run(followed(tmp_path / "server.log", text.encode(encoding), encoding=encoding))


@pytest.mark.parametrize("form", ["cri in parts", "docker json-file", "short"])
def test_a_file_may_be_rotated_between_any_two_lines(tmp_path: Path, form: str) -> None:
    lines = [FORMS[form](line) for line in LINES]
    written = "".join(lines).encode()
    edges = [at + 1 for at, byte in enumerate(written) if byte == ord("\n")][:-1]

    async def story() -> None:
        async with asyncio.TaskGroup() as group:
            for edge in edges:
                path = tmp_path / f"{edge}.log"
                group.create_task(followed(path, written, rotate_at=edge))

    asyncio.run(story())
