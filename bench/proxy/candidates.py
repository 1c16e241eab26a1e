# SPDX-License-Identifier: Apache-2.0
"""The proxies that are measured: how each is started, and how much CPU and memory it uses."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PROXY_CORE: Final = "0"  # server and client share the other one
NGINX: Final = """daemon off; master_process off; worker_processes 1; pid {work}/nginx.pid;
error_log /dev/null crit;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000;
  client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};
  uwsgi_temp_path {work}; scgi_temp_path {work};
  upstream server {{ server 127.0.0.1:{server}; keepalive 512; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://server; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; }} }} }}
"""
HAPROXY: Final = """global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend clients
  bind 127.0.0.1:{port}
  default_backend server
backend server
  server one 127.0.0.1:{server} maxconn 8192 pool-max-conn -1
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One proxy. `command` may hold {port}, {server}, {metrics} and {work}."""

    name: str
    command: str
    file: str = ""  # written to {work}/conf first
    environment: str = ""


def candidates(work: Path, rivals: list[str]) -> Iterator[Candidate]:
    """Yield all candidates that are installed here, and name the others."""
    python = sys.executable
    ours = (
        f"{python} -m ollama_exporter --ollama.url=http://127.0.0.1:{{server}} --log.level=error "
        "--proxy.listen-address=127.0.0.1:{port} --web.listen-address=127.0.0.1:{metrics}"
    )
    stage = f"{python} {HERE / 'stage.py'} {{port}} {{server}}"
    yield Candidate("ours, uvloop", ours)
    yield Candidate("ours, asyncio", f"{stage} asyncio metrics")
    yield Candidate("ours, no metrics", f"{stage} uvloop none")
    yield Candidate(
        "relay that looks at nothing", f"{python} {HERE / 'relay.py'} {{port}} {{server}}"
    )
    yield Candidate(
        "Go ReverseProxy", f"{work}/peer reverse {{port}} {{server}}", "", "GOMAXPROCS=1"
    )
    for program, file, command in (
        ("nginx", NGINX, "nginx -p {work}/ -c {work}/conf"),
        ("haproxy", HAPROXY, "haproxy -db -f {work}/conf"),
    ):
        if shutil.which(program):
            yield Candidate(program, command, file)
        else:
            say(f"Leaving out {program}: it is not on PATH")
    for rival in rivals:
        name, _, command = rival.partition("=")
        yield Candidate(name, command, environment="GOMAXPROCS=1")


class Running:
    """A started candidate."""

    def __init__(self, candidate: Candidate, work: Path, *, server: int) -> None:
        self.port, self.metrics = free_port(), free_port()
        values = {"port": self.port, "metrics": self.metrics, "server": server, "work": work}
        if candidate.file:
            (work / "conf").write_text(candidate.file.format(**values), encoding="utf-8")
        pairs = (pair.split("=", 1) for pair in candidate.environment.split())
        words = candidate.command.format(**values).split()
        environment = {
            **os.environ,
            **dict(pairs),
            "PORT": str(self.port),
            "OLLAMA_HOST": f"http://127.0.0.1:{server}",
        }
        with (work / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", PROXY_CORE, *words], stdout=log, stderr=log, env=environment
            )
        wait_for(lambda: accepts(self.port), f"{candidate.name} does not listen")

    def cpu(self) -> float:
        """Return its CPU time so far in seconds, as the scheduler counts."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def memory(self) -> float:
        """Return its resident memory, MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def running(candidate: Candidate, work: Path, *, server: int) -> Iterator[Running]:
    """Run a candidate inside the block."""
    started = Running(candidate, work, server=server)
    try:
        time.sleep(0.5)
        yield started
    finally:
        started.process.terminate()
        try:
            started.process.wait(3)
        except subprocess.TimeoutExpired:
            started.process.kill()
            started.process.wait()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, patience: float = 60.0) -> None:
    """Wait for a condition. Raises TimeoutError."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


def say(line: str) -> None:
    """Write a line to stderr: stdout is for the tables."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
