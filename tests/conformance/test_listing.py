# SPDX-License-Identifier: Apache-2.0
"""`/api/ps` and the other listings: §1 of docs/ollama-facts.md."""

import re

from tests.conformance.talk import Ollama

MOMENT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)"  # no trailing zeros
)
FIELDS = ["name", "model", "size", "digest", "details", "expires_at", "size_vram"]
DETAILS = ["parent_model", "format", "family", "families", "parameter_size", "quantization_level"]


def test_nothing_loaded_is_an_empty_list(ollama: Ollama) -> None:
    """§1.1: never null."""
    answer = ollama.http.get("/api/ps")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert "date" in answer.headers
    assert answer.content == b'{"models":[]}'


def test_fields_of_an_entry(ollama: Ollama, model: str) -> None:
    """§1.2."""
    ollama.say(model, keep_alive=100)
    entry = ollama.settled(model)
    assert list(entry) == [*FIELDS, "context_length"]
    assert list(entry["details"])[: len(DETAILS)] == DETAILS
    assert entry["name"] == entry["model"]
    assert ":" in entry["name"]
    assert re.fullmatch(r"[0-9a-f]{64}", entry["digest"])
    assert entry["details"]["parent_model"] == ""
    assert 0 <= entry["size_vram"] <= entry["size"]
    assert entry["context_length"] > 0


def test_form_of_expires_at(ollama: Ollama, model: str) -> None:
    """§1.3."""
    ollama.say(model, keep_alive=100)
    assert MOMENT.fullmatch(ollama.settled(model)["expires_at"])


def test_the_digest_is_that_of_tags(ollama: Ollama, model: str) -> None:
    """§1.4."""
    ollama.say(model)
    entry = ollama.listed(model)
    tags = {each["name"]: each for each in ollama.http.get("/api/tags").json()["models"]}
    assert tags[entry["name"]]["digest"] == entry["digest"]
    assert MOMENT.fullmatch(tags[entry["name"]]["modified_at"])


def test_head_is_refused_for_ps_alone(ollama: Ollama) -> None:
    """§1.5."""
    codes = {p: ollama.http.head(p).status_code for p in ("/", "/api/version", "/api/tags")}
    assert set(codes.values()) == {200}
    answer = ollama.http.head("/api/ps")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_the_connection_stays_open_between_polls(ollama: Ollama) -> None:
    """§1.6."""
    ports = set()
    for _ in range(20):
        answer = ollama.http.get("/api/ps")
        stream = answer.extensions["network_stream"]
        ports.add(stream.get_extra_info("client_addr"))
    assert len(ports) == 1


def test_status_tells_of_the_cloud(ollama: Ollama) -> None:
    """§1.9."""
    status = ollama.http.get("/api/status").raise_for_status().json()
    assert list(status) == ["cloud"]
    assert list(status["cloud"]) == ["disabled", "source"]


def test_version_and_show(ollama: Ollama, model: str) -> None:
    """§1.7, §1.8: show names the file of the weights."""
    version = ollama.http.get("/api/version").json()
    assert list(version) == ["version"]
    show = ollama.post("/api/show", model=model).json()
    assert re.search(r"^FROM \S*sha256-[0-9a-f]{64}$", show["modelfile"], re.MULTILINE)
    assert {"details", "model_info", "capabilities", "modified_at"} <= set(show)
    assert ollama.http.get("/").text == "Ollama is running"
