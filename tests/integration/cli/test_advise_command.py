# SPDX-License-Identifier: Apache-2.0
"""`advise` on the command line: what it prints, and one clear line for all that goes wrong."""

import json
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from ollama_exporter.bounded_client import LARGEST
from ollama_exporter.cli.main import cli
from tests.support.answering import answering
from tests.support.faultserver import closed_port
from tests.support.histories import Use, exposition

USES: Final = {
    "mistral:latest": Use([100.0] * 40 + [400.0] * 30 + [7200.0] * 12, requests=90),
    "llama3.2:latest": Use([7000.0] * 60, inferred=True),
}
NO_SERIES: Final = b'{"status":"success","data":{"resultType":"vector","result":[]}}'


def advise(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "140"}).invoke(cli, ["advise", *arguments])


def refused(*arguments: str) -> str:
    """Return the one line that a call is refused with, and its exit code before it."""
    result = advise(*arguments)
    lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return f"{result.exit_code} {lines[0]}"


def test_a_running_exporter_is_asked_at_its_metrics() -> None:
    with answering(exposition(USES).encode()) as (url, asked):
        plain, full = advise(url), advise(f"{url}/metrics")
    assert plain.exit_code == 0, plain.output
    assert plain.output == full.output
    assert [each.split()[:2] for each in asked] == [["GET", "/metrics"]] * 2
    assert '"7m30s"' in plain.output
    assert "Overall: Nothing was evicted. The change that helps most" in plain.output
    assert "OLLAMA_KEEP_ALIVE=" in plain.output


def test_an_address_without_a_scheme_will_do() -> None:
    with answering(exposition(USES).encode()) as (url, _):
        assert advise(url.removeprefix("http://")).exit_code == 0


def test_json_is_one_document_whose_numbers_are_the_table_s() -> None:
    with answering(exposition(USES).encode()) as (url, _):
        found = json.loads(advise(url, "--json", "--price", "0.5").output)
        one = json.loads(advise(url, "--json", "--explain", "MISTRAL").output)
    assert found["price_seconds_per_gb_hour"] == 0.5
    assert [entry["model"] for entry in found["models"]] == ["llama3.2:latest", "mistral:latest"]
    assert [entry["model"] for entry in one["models"]] == ["mistral:latest"]
    assert one["models"][0]["now"]["cold_starts"] == 42


def test_explain_draws_the_curve_of_one_model() -> None:
    with answering(exposition(USES).encode()) as (url, _):
        shown = advise(url, "--explain", "mistral").output
    assert shown.splitlines()[0].startswith("mistral:latest: 82 idle gaps, load 5.0 s, 6.0 GB")
    assert "<- advised" in shown
    assert "llama3.2" not in shown


def test_an_unknown_model_gets_the_closest_names() -> None:
    with answering(exposition(USES).encode()) as (url, _):
        said = refused(url, "--explain", "mistrall")
    assert said == ("2 Error: explain: mistrall: known models: mistral:latest")


@pytest.mark.parametrize("price", ["-1", "nan", "inf", "cheap", "1e9", ""])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    said = refused("--price", price)
    assert said.startswith("2 Error: price: must be seconds of")


@pytest.mark.parametrize("past", ["14", "d", "0d", "2y", "30s", "1.5d", "-1d", "14d "])
def test_a_window_that_is_none_is_refused(past: str) -> None:
    said = refused("--prometheus", "http://127.0.0.1:1", "--window", past)
    assert said.startswith("2 Error: window: must be a duration from")


@pytest.mark.parametrize("by", ["model", "le", "a-b", "1", "x) or vector(1"])
def test_a_label_that_is_none_is_refused(by: str) -> None:
    said = refused("--prometheus", "http://127.0.0.1:1", "--by", by)
    assert said.startswith("2 Error: by: must be")


def test_what_only_prometheus_has_is_refused_without_it() -> None:
    assert "only together with --prometheus" in refused("--by", "instance")


@pytest.mark.parametrize("option", ["--token-file", "--ca-file", "--cert-file", "--key-file"])
def test_a_file_that_cannot_be_used_is_named_with_its_option(option: str, tmp_path: Path) -> None:
    said = refused(option, str(tmp_path / "none"))
    assert said.startswith(f"2 Error: {option.removeprefix('--')}: ")
    assert "ollama." not in said


@pytest.mark.parametrize("url", ["ftp://x", "http://a b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    assert refused(url).startswith("2 Error: URL: must be http://HOST:PORT")


@pytest.mark.parametrize("source", [(), ("--prometheus",)])
def test_nobody_there_is_one_line_and_exit_code_1(source: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert refused(*source, url).startswith(f"1 Error: Cannot connect to {url}/")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html>", 200, "serves no metrics of ollama_exporter"),
        (b"ollama_up{ 1\n", 200, "does not answer with metrics"),
        (b"up 1\n", 200, "serves no metrics of ollama_exporter"),
        (b"no", 404, "answers with HTTP status 404"),
        (b"ollama_up 1\n", 200, "No model has been resident yet"),
        (b"#" * (LARGEST + 1), 200, "answers with more than 64 MiB"),
    ],
)
def test_answers_of_an_exporter_that_are_of_no_use(body: bytes, status: int, said: str) -> None:
    with answering(body, status) as (url, _):
        line = refused(url)
    assert line.startswith("1 Error: ")
    assert said in line


def test_no_redirect_is_followed() -> None:
    with answering(b"", 302, {"location": "http://elsewhere/metrics"}) as (url, asked):
        assert "redirects to http://elsewhere/metrics; use that URL instead" in refused(url)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html>", 200, "does not look like a Prometheus server"),
        (
            b'{"status":"success","data":{"result":[{"metric":{},"value":[1,"x"]}]}}',
            200,
            "does not look like a P",
        ),
        (b'{"status":"error","error":"bad_data: no"}', 400, "rejects a query: bad_data: no"),
        (b"gateway", 502, "answers with HTTP status 502"),
        (NO_SERIES, 200, "has no samples of ollama_exporter in the last 336 h"),
    ],
)
def test_answers_of_prometheus_that_are_of_no_use(body: bytes, status: int, said: str) -> None:
    with answering(body, status) as (url, _):
        line = refused("--prometheus", url)
    assert line.startswith("1 Error: ")
    assert said in line


def test_a_token_is_sent_to_prometheus_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    with answering(NO_SERIES) as (url, asked):
        line = refused("--prometheus", f"{url}/mimir/", "--token-file", str(file))
    assert all(each.startswith("POST /mimir/api/v1/query query=") for each in asked)
    assert all(each.endswith(" Bearer s3cret") for each in asked)
    assert "s3cret" not in line
    assert "token-file" in refused("--prometheus", url, "--token-file", str(tmp_path / "none"))


# -- foreign numbers and foreign texts -------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e308", "-1"])
def test_odd_values_of_prometheus_are_no_traceback(value: str) -> None:
    series = {"metric": {"model": "m:latest", "le": "30"}, "value": [1, value]}
    body = json.dumps({"status": "success", "data": {"result": [series]}}).encode()
    with answering(body) as (url, _):
        line = refused("--prometheus", url)
    assert line.startswith("1 Error: ")


def test_the_error_of_prometheus_is_printed_without_its_escapes() -> None:
    body = json.dumps({"status": "error", "error": "\x1b]0;own\x07\u009b no\nsecond line"}).encode()
    with answering(body, 400) as (url, _):
        line = refused("--prometheus", url)
    assert line.isprintable()
    assert "second line" in line


def test_a_redirect_to_escapes_is_printed_without_them() -> None:
    with answering(b"", 302, {"location": "http://x/\x1b]0;own\x07"}) as (url, _):
        assert refused(url).isprintable()


def test_a_password_in_a_url_is_not_repeated() -> None:
    line = refused(f"http://ops:secret@127.0.0.1:{closed_port()}")
    assert "secret" not in line
    assert "127.0.0.1" in line


@pytest.mark.parametrize("window", ["9" * 5000 + "d", "d" * 5000, "9" * 13 + "y"])
def test_a_window_of_any_length_is_one_error(window: str) -> None:
    line = refused("--prometheus", "http://127.0.0.1:1", "--window", window)
    assert line.startswith("2 Error: window: ")
    assert len(line) < 200


def test_an_answer_that_is_nested_deeply_is_one_error() -> None:
    with answering(b'{"status":"success","data":' + b"[" * 100_000) as (url, _):
        assert "does not look like a Prometheus server" in refused("--prometheus", url)


def test_names_of_prometheus_are_printed_without_markup_and_escapes() -> None:
    labels = ",".join(f'l{n}="x"' for n in range(60_000))
    text = exposition(USES) + f"ollama_model_memory_bytes{{{labels}}} 1\n"
    text += 'ollama_model_memory_bytes{model="[/red]\x1b[31m:latest"} 9\n'
    text += 'ollama_model_loads_total{model="[/red]\x1b[31m:latest"} 2\n'
    with answering(text.encode()) as (url, _):
        result = advise(url)
    assert result.exit_code == 0, result.output
    assert "\x1b[31m" not in result.output
    assert "[/red]" in result.output
