# SPDX-License-Identifier: Apache-2.0
"""Durations, counts, framing and errors of answers: §5 and §6 of docs/ollama-facts.md."""

import json
from typing import Any

import pytest

from tests.conformance.conftest import Subject
from tests.conformance.talk import Entry, Ollama

MESSAGES = [{"role": "user", "content": "Say something."}]
ALL = {
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


def lines(ollama: Ollama, path: str, **body: Any) -> list[Entry]:
    answer = ollama.post(path, **body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.content.endswith(b"}\n")
    return [json.loads(line) for line in answer.content.split(b"\n")[:-1]]


def events(ollama: Ollama, path: str, **body: Any) -> list[tuple[str, Any]]:
    """Return the (event, data) pairs of a stream."""
    answer = ollama.post(path, stream=True, **body)
    assert answer.headers["content-type"] == "text/event-stream"
    found = []
    for block in answer.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
        data = fields["data"]
        found.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


@pytest.mark.parametrize(
    ("path", "what"),
    [("/api/generate", {"prompt": "Say something."}), ("/api/chat", {"messages": MESSAGES})],
)
def test_a_stream_is_one_object_a_line_and_the_last_has_the_numbers(
    ollama: Ollama, model: str, path: str, what: dict[str, Any]
) -> None:
    """§5.1, §5.2: durations are nanoseconds; streaming is the default."""
    *parts, last = lines(ollama, path, model=model, options={"num_predict": 4}, **what)
    assert parts
    assert all(part["done"] is False and not ALL & set(part) for part in parts)
    assert last["done"] is True
    assert last["done_reason"] in ("stop", "length")
    assert set(last) >= ALL
    assert all(isinstance(last[name], int) and last[name] > 0 for name in ALL)
    assert last["eval_count"] <= 4
    assert last["load_duration"] < last["total_duration"]


def test_preload_and_stop_carry_no_numbers(ollama: Ollama, model: str) -> None:
    """§5.3."""
    loaded = ollama.generate(model)
    assert loaded["done_reason"] == "load"
    chat = ollama.post("/api/chat", model=model, messages=[], stream=False).json()
    assert chat["done_reason"] == "load"
    unloaded = ollama.stop(model)
    assert unloaded["done_reason"] == "unload"
    assert not ALL & (set(loaded) | set(chat) | set(unloaded))


def test_stopping_what_is_not_loaded_is_answered_alike(ollama: Ollama, model: str) -> None:
    """§5.4."""
    assert ollama.stop(model)["done_reason"] == "unload"


def test_chat_completions_tell_usage_in_a_stream_only_if_asked(ollama: Ollama, model: str) -> None:
    """§5.5."""
    body = {"model": model, "messages": MESSAGES, "max_tokens": 4}
    plain = [data for _, data in events(ollama, "/v1/chat/completions", **body)]
    asked = events(ollama, "/v1/chat/completions", **body, stream_options={"include_usage": True})
    assert plain[-1] == "[DONE]"
    assert not any("usage" in chunk and chunk["usage"] for chunk in plain[:-1])
    (_, usage), (_, end) = asked[-2:]
    assert end == "[DONE]"
    assert usage["choices"] == []
    tokens = usage["usage"]
    assert tokens["total_tokens"] == tokens["prompt_tokens"] + tokens["completion_tokens"]
    whole = ollama.post("/v1/chat/completions", **body).json()
    assert whole["usage"]["completion_tokens"] <= 4
    assert not ALL & set(whole)


def test_messages_end_with_their_event(ollama: Ollama, model: str) -> None:
    """§5.6."""
    got = events(ollama, "/v1/messages", model=model, messages=MESSAGES, max_tokens=4)
    names = [name for name, _ in got]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert got[-2][1]["usage"]["output_tokens"] > 0


def test_responses_end_with_their_event(ollama: Ollama, model: str) -> None:
    """§5.7."""
    got = events(ollama, "/v1/responses", model=model, input="Hello", max_output_tokens=4)
    assert got[0][0] == "response.created"
    assert got[-1][0] == "response.completed"
    assert got[-1][1]["response"]["usage"]["output_tokens"] > 0


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 4}),
        ("/v1/responses", {"input": "Hello", "max_output_tokens": 4}),
    ],
)
def test_two_streams_name_their_connection(
    ollama: Ollama, model: str, path: str, what: dict[str, Any]
) -> None:
    """§5.8."""
    answer = ollama.post(path, model=model, stream=True, **what)
    assert (answer.headers["cache-control"], answer.headers["connection"]) == (
        "no-cache",
        "keep-alive",
    )


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show"])
def test_a_model_that_is_not_there(ollama: Ollama, subject: Subject, path: str) -> None:
    """§6.1: show of a new server completes the name."""
    answer = ollama.post(path, model="absent-here")
    assert answer.status_code == 404
    complete = path == "/api/show" and not subject.old
    name = "absent-here:latest" if complete else "absent-here"
    assert answer.json() == {"error": f"model '{name}' not found"}


def test_embedding_routes_word_it_differently(ollama: Ollama) -> None:
    """§6.2."""
    for path in ("/api/embed", "/api/embeddings"):
        answer = ollama.post(path, model="absent-here", input="x", prompt="x")
        assert answer.status_code == 404
        text = 'model "absent-here" not found, try pulling it first'
        assert answer.json() == {"error": text}


def test_errors_of_the_compatible_routes(ollama: Ollama) -> None:
    """§6.3."""
    answer = ollama.post("/v1/chat/completions", model="absent-here", messages=MESSAGES)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    answer = ollama.post("/v1/messages", model="absent-here", messages=MESSAGES, max_tokens=4)
    assert answer.status_code == 404
    assert answer.json()["type"] == "error"


def test_what_is_not_json_is_refused(ollama: Ollama) -> None:
    """§6.4."""
    answer = ollama.http.post("/api/generate", content=b"{oops")
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "invalid character 'o' looking for beginning of object key string"
    }


def test_routes_and_methods_that_are_not_there(ollama: Ollama) -> None:
    """§6.5."""
    answer = ollama.http.get("/api/generate")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.text == "405 method not allowed"
    answer = ollama.http.get("/api/nothing")
    assert (answer.status_code, answer.text) == (404, "404 page not found")


def test_a_foreign_host_is_forbidden(ollama: Ollama, subject: Subject) -> None:
    """§6.6: on a loopback address."""
    if "127.0.0.1" not in subject.ollama.url:
        pytest.skip("the server does not listen on loopback")
    answer = ollama.http.get("/api/ps", headers={"Host": "evil.example.com"})
    assert (answer.status_code, answer.content) == (403, b"")
    assert ollama.http.get("/api/ps", headers={"Host": "box.local"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example.com", 403),
        ("null", 403),
        ("http://localhost:3000", 200),
        ("http://box.local:3000", 200),
        ("vscode-webview://abc", 200),
    ],
)
def test_pages_from_elsewhere_are_forbidden(ollama: Ollama, origin: str, status: int) -> None:
    """§6.7: as far as OLLAMA_ORIGINS is not set."""
    headers = {"Origin": origin, "Host": "box.local:3000"}
    assert ollama.http.get("/api/ps", headers=headers).status_code == status
