# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: one function for each kind of bytes that others choose.

Each must return whatever the bytes are, or raise an error that its callers expect. Some also check
that two ways to the same result agree.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from ollama_exporter.advice.exporter_source import from_text
from ollama_exporter.config.load import load
from ollama_exporter.config.yaml_file import parse_document
from ollama_exporter.errors import (
    ConfigError,
    RecordingError,
    SourceError,
    TargetError,
)
from ollama_exporter.fleet.target_files import parse_target_file
from ollama_exporter.foreign_text import clean
from ollama_exporter.host.log.lines import LineSplitter
from ollama_exporter.host.log.patterns import read as read_log_line
from ollama_exporter.host.log.unit_journal import source_of
from ollama_exporter.host.log.unwrap import LineUnwrapper
from ollama_exporter.host.processes.command_lines import is_server, weights_in
from ollama_exporter.host.processes.listening_sockets import listeners
from ollama_exporter.host.processes.procfs import ProcFs
from ollama_exporter.host.runner.runner_command import runner_command
from ollama_exporter.host.runner.runner_counters import decode_counters
from ollama_exporter.host.runner.slots import decode_slots
from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.protocol import json_edit, keepalive
from ollama_exporter.protocol.error_text import classify
from ollama_exporter.protocol.json_scan import scan_object
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.request_body import BodyReader, read
from ollama_exporter.protocol.response_fields import ResponseEnd
from ollama_exporter.protocol.routes import Body, route_of
from ollama_exporter.protocol.stream_parsers import parser_for
from ollama_exporter.protocol.wire import (
    decode_details,
    decode_ps,
    decode_show,
    decode_tags,
    decode_version,
    server_date,
)
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.replayer import replay
from ollama_exporter.shim.proxy.client_tokens import read_client_tokens
from ollama_exporter.shim.proxy.headers import RequestHead, RequestRejected
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.request_parser import RequestParser
from ollama_exporter.shim.proxy.response_parser import MALFORMED, KnownHeads, ResponseParser
from ollama_exporter.state_file import OURS, StateFile
from ollama_exporter.story.document import read_document
from ollama_exporter.story.fleet_document import read_fleet
from ollama_exporter.web.locks.certificate_expiry import not_after
from ollama_exporter.web.locks.web_config import web_config_of

ROUTES: Final = (
    route_of("POST", "/api/chat"),
    route_of("POST", "/api/generate"),
    route_of("POST", "/v1/chat/completions"),
    route_of("POST", "/v1/audio/transcriptions"),
)
TYPES: Final = ("application/json", "application/x-ndjson", "text/event-stream", "")
LIMITS: Final = Limits(10, 8192, 50, 4096, 1.0, 1.0, 1.0, 1.0, 1.0)
SCRATCH: Final = Path(tempfile.mkdtemp(prefix="fuzz-"))


def _pieces(data: bytes, seed: int) -> Iterator[bytes]:
    """Cut data into pieces of 1 to 32 bytes."""
    size = 1 + seed % 32
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _head(data: bytes) -> tuple[int, bytes]:
    """Take a number from the first byte."""
    return (data[0], data[1:]) if data else (0, b"")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def request_body(data: bytes) -> None:
    """A client's request, whole and in pieces; a member set in it."""
    seed, body = _head(data)
    route = ROUTES[seed % len(ROUTES)]
    for complete in (True, False):
        whole = read(route, body, complete=complete)
        reader = BodyReader(route)
        for piece in _pieces(body, seed // 4):
            reader.feed(piece)
        assert reader.fields(complete=complete) == whole
    changed = json_edit.set_member(body, ("options", "num_ctx"), b"5")
    if changed is not None:
        assert scan_object(changed) is not None
    with suppress(ValueError, RecursionError, keepalive.KeepAliveError):
        keepalive.parse(json.loads(body))


def response_stream(data: bytes) -> None:
    """An answer of the server, whole and in pieces."""
    seed, body = _head(data)
    kinds = list(Body)
    kind, content_type = kinds[seed % len(kinds)], TYPES[seed // len(kinds) % len(TYPES)]
    new = partial(parser_for, kind, content_type=content_type, content_encoding="")
    whole, cut = new(), new()
    whole.feed(body)
    for piece in _pieces(body, seed):
        cut.feed(piece)
    ends = [cut.end(), whole.end()]
    if ends[0] != ends[1]:  # of a broken stream, both say no more than "not to its end"
        assert {each.ending for each in ends} == {ResponseEnd.UNFINISHED, ResponseEnd.UNREAD}
        assert not all(line[:6] in (b"", b"data: ") for line in body.split(b"\n"))
    if all(_is_object(line) for line in body.split(b"\n") if line.strip()):
        assert cut.content == whole.content  # lines that are no records may count as output


def listing(data: bytes) -> None:
    """What the server says of its models."""
    for decode in (decode_ps, decode_tags, decode_version, decode_show, decode_details):
        with suppress(TargetError):
            decode(data)
    text = data.decode(errors="replace")
    server_date(text)
    normalise(text)
    classify(text)


def log_lines(data: bytes) -> None:
    """A server's log, bare and inside the decorations of containers and journals."""
    seed, body = _head(data)
    lines, unwrapper = LineSplitter(1 << 16), LineUnwrapper()
    for piece in _pieces(body, seed):
        for line in lines.feed(piece):
            read_log_line(line.decode(errors="replace"))
            bare = unwrapper.feed(line)
            if bare is not None:
                read_log_line(bare.decode(errors="replace"))


def recording(data: bytes) -> None:
    """A recording that somebody sent, read and replayed."""
    file = SCRATCH / "recording"
    file.write_bytes(data)
    with suppress(RecordingError):
        for _ in replay(read_recording(file), Cadence(15.0)):
            pass


def state_file(data: bytes) -> None:
    """A state file after a crash of the machine."""
    file = SCRATCH / "state"
    file.write_bytes(OURS + data)
    with suppress(ConfigError):
        StateFile(file, url="http://x").read()
    for left in SCRATCH.glob("state*"):
        left.unlink()


def configuration(data: bytes) -> None:
    """A configuration file, a file of targets, one of locks, one of tokens."""
    for name in ("config.yaml", "config.json"):
        file = SCRATCH / name
        file.write_bytes(data)
        for parse in (
            partial(parse_document, file, data),
            partial(load, {}, environment={}, file=file),
            partial(parse_target_file, file),
            partial(web_config_of, file, data),
            partial(read_client_tokens, file),
        ):
            with suppress(ConfigError):
                parse()


def exposition(data: bytes) -> None:
    """What an address that should be an exporter's answers to `advise`; a runner's counters."""
    with suppress(SourceError):
        history = from_text(data.decode(errors="replace"), source="x", now=2e9)
        assert history.span is None or math.isfinite(history.span)
    for read_answer in (read_document, read_fleet):
        with suppress(SourceError):
            read_answer(data)
    decode_counters(data)
    decode_slots(data)


def process_files(data: bytes) -> None:
    """Files of /proc: of processes that anybody may start, of kernels that are none."""
    text = data.decode(errors="replace")
    source_of(text)
    list(listeners(data))
    command = text.split("\0")
    is_server(command)
    weights_in(command)
    runner_command(command)
    folder = SCRATCH / "7"
    for name in ("stat", "cmdline", "io", "net/tcp", "task/7/children"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (SCRATCH / "self").mkdir(exist_ok=True)
    (SCRATCH / "self/mountinfo").write_bytes(data)
    reader = ProcFs(lambda: 0.0, root=str(SCRATCH), since_boot=lambda: 0.0)
    reader.servers()
    process = reader.process(7)
    if process is not None:
        reader.usage(process)
    reader.children(7)
    reader.is_listening(7, "127.0.0.1", 11434)
    reader.why_hidden()


class _Ignore:
    """Hears what a parser of requests says."""

    def on_head_start(self) -> None:
        """Ignore it."""

    def on_request_start(self, request: RequestHead) -> None:
        """Ignore it."""

    def on_request_body(self, request: RequestHead, data: bytes) -> None:
        """Ignore it."""

    def on_request_end(self, request: RequestHead) -> None:
        """Ignore it."""


def heads(data: bytes) -> None:
    """Requests and answers of HTTP in pieces, as the proxy reads them."""
    seed, body = _head(data)
    requests = RequestParser(LIMITS, _Ignore())
    with suppress(RequestRejected):
        for piece in _pieces(body, seed):
            requests.feed(piece)
    answers = ResponseParser(KnownHeads(1))
    answers.expect(RequestHead())
    with suppress(*MALFORMED, RequestRejected):
        for piece in _pieces(body, seed):
            if answers.has_head:
                answers.feed_data(piece)
            else:
                answers.feed_start(piece)
    answers.take_body()


def foreign_text(data: bytes) -> None:
    """Text for a terminal, a certificate."""
    shown = clean(data.decode(errors="replace"))
    assert shown.isprintable()
    not_after(data)


PARSERS: Final[dict[str, Callable[[bytes], None]]] = {
    each.__name__: each
    for each in (
        request_body,
        response_stream,
        listing,
        log_lines,
        recording,
        state_file,
        configuration,
        exposition,
        process_files,
        heads,
        foreign_text,
    )
}
