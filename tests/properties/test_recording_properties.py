# SPDX-License-Identifier: Apache-2.0
"""Whatever is in a recording, `replay` prints what it makes of it, or one line of error."""

import json
from pathlib import Path
from typing import Final

from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_exporter.cli import cli
from ollama_exporter.residency.facts import LogKind

SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-5, 10_000),
    st.integers(10**300, 10**310),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["a", "a:latest", "5m", "/api/chat", "/v1/embeddings", "runner", "server"]),
    st.sampled_from(["started", "exited", "visible", "hidden", "sha256:1", "client_gone"]),
    st.sampled_from([kind.value for kind in LogKind]),
)
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
ENTRIES: Final = st.dictionaries(
    st.sampled_from(["name", "model", "digest", "expires_at", "size", "details", "context_length"]),
    VALUES,
)
BODIES: Final = st.one_of(
    VALUES, st.builds(lambda entries: {"models": entries}, st.lists(ENTRIES, max_size=3))
)
NEAR: Final = st.floats(0, 1000)  # moments close to each other: the facts meet
FIELDS: Final = {
    "poll": ("took", "error", "status", "date", "new_connection"),
    "request_start": ("id", "path", "model", "has_keep_alive", "keep_alive", "num_ctx", "empty"),
    "request_end": ("id", "start", "ttft", "error", "outcome", "done", "status"),
    "process": ("event", "role", "pid", "blob", "started_at", "alive"),
    "show": ("model", "blob"),
    "log": ("said", "written", "model", "blob", "pid", "num_ctx", "seconds"),
}


@st.composite
def records(draw: st.DrawFn) -> dict[str, object]:
    """Return a record of a known kind with some of its fields, right or odd."""
    kind = draw(st.sampled_from(sorted(FIELDS)))
    record: dict[str, object] = {"kind": kind, "t": draw(st.one_of(NEAR, NEAR, NEAR, SCALARS))}
    for field in FIELDS[kind]:
        if draw(st.booleans()):
            record[field] = draw(NEAR if field == "took" else VALUES)
    if kind == "poll" and draw(st.booleans()):
        record |= {"took": 0.1, "body": draw(BODIES)}
    return record


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(records(), min_size=1, max_size=12), as_json=st.booleans())
def test_no_recording_is_a_traceback(
    tmp_path: Path, *, drawn: list[dict[str, object]], as_json: bool
) -> None:
    file = tmp_path / "r.jsonl"
    poll = {"kind": "poll", "t": 1, "took": 0.1, "body": {"models": []}}
    lines = [json.dumps(record) for record in [poll, *drawn]]
    file.write_text("\n".join(lines).replace("NaN", "0").replace("Infinity", "1e999"), "utf-8")
    run = CliRunner().invoke(cli, ["replay", str(file), *(["--json"] if as_json else [])])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    assert run.exit_code in (0, 2), run.output
    if run.exit_code == 2:
        assert run.output.count("\n") == 1
        assert len(run.output) < 1000
