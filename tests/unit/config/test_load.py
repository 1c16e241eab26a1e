# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.config.load import load
from ollama_exporter.config.parsers import split_address, web_addresses
from ollama_exporter.config.schema import ROWS, TABLE, Settings
from ollama_exporter.config.setting import Setting, as_word, written
from ollama_exporter.config.target import Target, base_url, is_loopback
from ollama_exporter.errors import ConfigError, plain
from tests.support.paths import ROOT
from tools.settings_reference import configuration

WILDCARD = ".".join("0000")


def loaded(
    flags: Mapping[str, object] = {},
    *,
    environment: Mapping[str, str] = {},
    file: Path | None = None,
) -> Settings:
    return load(flags, environment=environment, file=file)


def test_nothing_needs_to_be_configured() -> None:
    assert loaded() == Settings()
    assert loaded().target == Target("ollama", "http://127.0.0.1:11434")


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("poll.interval: 3s\nweb.max-requests: 3\nmetrics.max-models: 3\n")
    environment = {
        "OLLAMA_EXPORTER_WEB_MAX_REQUESTS": "2",
        "OLLAMA_EXPORTER_METRICS_MAX_MODELS": "2",
    }
    settings = loaded({"metrics.max-models": "1"}, environment=environment, file=file)
    assert (settings.max_models, settings.max_requests, settings.poll_interval) == (1, 2, 3.0)
    assert settings.ollama_timeout == 10.0


def test_ollama_host_is_the_weakest_word_on_the_server(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    environment = {"OLLAMA_HOST": f"{WILDCARD}:1234"}
    assert loaded(environment=environment).ollama_url == "http://127.0.0.1:1234"
    file.write_text("ollama.url: gpu-box\n")
    assert loaded(environment=environment, file=file).ollama_url == "http://gpu-box:11434"


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("poll.interval", "1m", "poll_interval", 60.0),
        ("poll.interval", 5, "poll_interval", 5.0),
        ("ollama.timeout", "500ms", "ollama_timeout", 0.5),
        ("poll.aligned", False, "poll_aligned", False),
        ("poll.aligned", "no", "poll_aligned", False),
        ("poll.aligned", "OFF", "poll_aligned", False),
        ("poll.interval", "1h30m", "poll_interval", 5400.0),
        ("log.level", "INFO", "log_level", "info"),
        ("log.level", "Warning", "log_level", "warn"),
        ("expected-model", "llama3.2,mistral:7b", "expected_models", ("llama3.2", "mistral:7b")),
        ("expected-model", ["a, b"], "expected_models", ("a", "b")),
        ("expected-model", "a b:7b", "expected_models", ("a", "b:7b")),
        ("expected-model", ["a"], "expected_models", ("a",)),
        ("web.listen-address", ["[::1]:0", ":80"], "listen_addresses", ("[::1]:0", ":80")),
        ("web.telemetry-path", "/a/b.txt", "telemetry_path", "/a/b.txt"),
        ("state.file", "x", "state_file", Path("x")),
        ("log.format", "json", "log_format", "json"),
    ],
)
def test_accepted_values(name: str, value: object, field: str, expected: object) -> None:
    assert getattr(loaded({name: value}), field) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ollama.url", "ftp://x"), ("ollama.url", ""), ("ollama.url", 5),
        ("poll.interval", "0"), ("poll.interval", "x"), ("poll.interval", "500ms"),
        ("poll.interval", True), ("ollama.timeout", "-1s"), ("ollama.timeout", "9" * 40),
        ("state.file", "a\0b"), ("web.max-requests", "١٢"), ("poll.aligned", "maybe"),
        ("expected-model", 5), ("expected-model", [""]), ("expected-model", "m\udcff"),
        ("web.listen-address", "11487"),
        ("web.listen-address", "::1:80"), ("web.listen-address", ":99999"),
        ("web.listen-address", []),
        ("web.telemetry-path", "metrics"), ("web.telemetry-path", "/"),
        ("web.telemetry-path", "/api/v1/status"), ("web.telemetry-path", "/page/page.js"),
        ("web.telemetry-path", "/-/x"),
        ("web.telemetry-path", "/a b"), ("web.max-requests", "0"), ("web.max-requests", True),
        ("metrics.max-models", "1.5"), ("log.level", "loud"), ("log.format", "xml"),
        ("state.file", " "), ("ollama.header", 5), ("web.max-requests", 1 << 70),
        ("ollama.log", "docker:-x"), ("ollama.log", "podman:a b"),
    ],
)  # fmt: skip
def test_refused_values_name_field_value_and_what_is_accepted(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded({name: value})
    assert caught.value.field == f"--{name}"
    said = str(caught.value)
    assert said.startswith(f"--{name}: must be ")
    assert f", not {plain(caught.value.value)}" in said
    assert not any(word in said for word in ("True", "None", ", not '", "(", "accepted"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("poll.intervals: 5s", "did you mean poll.interval?"),
        ("zzz: 1", "unknown key 'zzz'; docs/configuration.md lists all keys"),
        ("poll:\n  interval: 5s", "keys are flat: write poll.interval: 5s"),
        ("- a", "not a YAML mapping"),
        ("\na: [", "line 2: "),
        ("a: " + "[" * 5000, "not YAML: nested too deeply"),
        ("? [a]\n: 1", "line 1: found unhashable key"),
        ("5: x", "unknown key"),
        ("x" * (2**20 + 1), "larger than 1048576 bytes"),
        (
            "poll.interval: 5s\nlog.level: info\npoll.interval: 6s",
            "line 3: the key 'poll.interval'",
        ),
        ('a: 1\nexpected-model: ["m\\ud83d"]', "line 2: half of a surrogate pair"),
        ('keep-warm: {"m\\ud83d": 1}', "line 1: half of a surrogate pair"),
        ("defaults:\n  a: {num-ctx: 1}\n  a: {num-ctx: 2}", "line 3: the key 'a' is given twice"),
    ],
)
def test_a_bad_file_is_said_in_one_line(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        loaded(file=file)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["poll.interval", "expected-model", "log.level", "state.file", "defaults"]
)
def test_yaml_aliases_that_unfold_to_gigabytes_are_refused_at_once(
    key: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    lists = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    file.write_text(f"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{lists}")
    text = file.read_text().replace("a9: ", f"{key}: ")
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        loaded(file=file)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    "value",
    [
        *("!!bool x", '!!bool ""', '!!int ""', '!!int "-"', '!!float ""', "!!timestamp x"),
        *("!!map [a]", '"\\UFFFFFFFF"', "!!set x", "!!omap x", "!!pairs {a: b}", "!!null x"),
        "!!binary '*'",
    ],
)
def test_a_value_that_does_not_fit_its_tag_is_said_in_one_line(value: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"poll.interval: {value}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        loaded(file=file)
    assert "\n" not in str(caught.value)


def test_a_fifo_is_no_configuration_file(tmp_path: Path) -> None:
    fifo = tmp_path / "c.yaml"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError, match="not a regular file"):
        loaded(file=fifo)


def test_an_empty_file_configures_nothing_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("# nothing\n")
    assert loaded(file=file) == Settings()
    with pytest.raises(ConfigError, match=r"missing\.yaml: no such file or directory$"):
        loaded(file=tmp_path / "missing.yaml")


def test_every_setting_has_a_flag_a_variable_a_default_and_a_line_in_the_docs() -> None:
    assert len(ROWS) == len(TABLE) + 4
    assert len({setting.variable for setting in TABLE}) == len(TABLE)
    page = configuration()
    for setting in ROWS.values():
        assert f"`{setting.variable}`" in page or setting.is_section
        assert setting.default == getattr(Settings(), setting.field)


# A value of each kind, as docs/configuration.md shows them: in YAML, and as a word.
HIDDEN_VALUES: Final = {"ollama.header"}  # no text of the settings holds them
EXAMPLES: Final = {
    "ollama.header": [("X-Key:a", "X-Key:a"), ("{X-Key: a}", "X-Key:a")],
    "ollama.url": [("http://gpu-box:11434", "http://gpu-box:11434"), ("gpu-box", "gpu-box")],
    "ollama.log": [
        ("/var/log/ollama.log", "/var/log/ollama.log"),
        ("journal", "journal"),
        ("auto", "auto"),
        ("off", "off"),
    ],
    "proxy.client-by": [("token", "token"), ("header:X-User", "header:x-user")],
    "proxy.client-networks": [("[10.0.0.0/8=a, fd00::/8=b]", "10.0.0.0/8=a,fd00::/8=b")],
    "expected-model": [("[mistral, llama3.2]", "mistral,llama3.2"), ("mistral", "mistral")],
    "web.listen-address": [('[":11487"]', ":11487"), ("127.0.0.1:1", "127.0.0.1:1")],
    "web.telemetry-path": [("/prom", "/prom")],
    "log.level": [("debug", "DEBUG"), ("warning", "warning"), ("INFO", "info")],
    "log.format": [("json", "json")],
    "proxy.listen-address": [("[127.0.0.1:11435, '[::1]:1']", "127.0.0.1:11435 [::1]:1")],
}
KINDS: Final = {
    "DURATION": [("15s", "15s"), ("1m", "1m"), ("1h30m", "1h30m"), ("5", "5")],
    "NAME": [("me", "me")],
    "DIR": [("/etc/targets", "/etc/targets")],
    "ADDRESSES": [("[gpu-1:1, 10.0.0.0/8]", "gpu-1:1,10.0.0.0/8"), ("gpu-1", "gpu-1")],
    "NAME: FILE": [("X-Key:/run/x", "X-Key:/run/x"), ("{X-Key: /run/x}", "X-Key:/run/x")],
    "NUMBER": [("5000", "5000")],
    "BYTES": [("5000", "5000")],
    "auto|on|off": [("on", "on"), ("off", "off"), ("auto", "AUTO")],
    "off|hash": [("hash", "HASH"), ("off", "off")],
    "FILE": [("/etc/x.pem", "/etc/x.pem")],
    "": [("on", "on"), ("yes", "yes"), ("true", "true"), ("off", "off"), ("no", "no"), ("1", "1")],
}


def forms() -> list[tuple[Setting, str, str]]:
    return [
        (setting, in_yaml, word)
        for setting in TABLE
        for in_yaml, word in EXAMPLES.get(setting.name) or KINDS[setting.metavar]
    ]


@pytest.mark.parametrize(("setting", "in_yaml", "word"), forms())
def test_every_setting_takes_what_the_docs_show_in_file_variable_and_flag(
    setting: Setting, in_yaml: str, word: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"{setting.name}: {in_yaml}\n")
    by_file = loaded(file=file)
    assert loaded(environment={setting.variable: word}) == by_file
    assert loaded({setting.name: word}) == by_file
    if setting.is_list:
        assert loaded({setting.name: tuple(word.replace(",", " ").split())}) == by_file


@pytest.mark.parametrize(("setting", "in_yaml", "word"), forms())
def test_what_is_in_force_can_be_pasted_back(
    setting: Setting, in_yaml: str, word: str, tmp_path: Path
) -> None:
    if setting.name in HIDDEN_VALUES:
        word = ""
    before, file = loaded({setting.name: word} if word else {}), tmp_path / "c.yaml"
    value = getattr(before, setting.field)
    file.write_text(f"{setting.name}: {written(value)}\n")
    assert loaded(file=file) == before, in_yaml
    assert loaded(environment={setting.variable: as_word(value)}) == before


def test_a_message_names_the_place_of_the_value(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("poll.interval: soon\n")
    with pytest.raises(ConfigError, match=r"^poll\.interval: must be"):
        loaded(file=file)
    with pytest.raises(ConfigError, match=r"^OLLAMA_EXPORTER_POLL_INTERVAL: must be a pos"):
        loaded(environment={"OLLAMA_EXPORTER_POLL_INTERVAL": "soon"})
    with pytest.raises(ConfigError, match=r"^--poll\.interval: must be"):
        loaded({"poll.interval": "soon"})


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("log.level: debug\n")
    assert loaded(environment={"OLLAMA_EXPORTER_CONFIG_FILE": str(file)}).log_level == "debug"


@pytest.mark.parametrize(
    "secret", ["https://ops:hunter2@host", "ops:hunter2@host", "//ops:hunter2@h"]
)
def test_a_message_never_shows_user_info(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded({"ollama.url": secret})
    assert "hunter2" not in str(caught.value)
    assert "no user" in str(caught.value)


def test_the_configuration_page_is_as_generated() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == configuration()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"), ("localhost", "http://localhost:11434"),
        ("box:1", "http://box:1"), (WILDCARD, "http://127.0.0.1:11434"),
        ("[::]:1", "http://[::1]:1"), ("::1", "http://[::1]:11434"), ("[::1]", "http://[::1]:11434"),
        ("http://box", "http://box:80"), ("HTTPS://box/", "https://box:443"),
        ("https://box:8443/ollama/", "https://box:8443/ollama"), (" 'box' ", "http://box:11434"),
        ("box/api", "http://box:11434/api"), (":1", "http://127.0.0.1:1"),
    ],
)  # fmt: skip
def test_every_form_of_ollama_host(text: str, url: str) -> None:
    assert base_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "ftp://x",
        "box:0",
        "box:99999",
        "box:x",
        "u@box",
        "box?q",
        "box#f",
        "[::1",
        "[::1]x",
        "a b",
        "1:2:3",
        "b\\x",
        "http://0177.0.0.1",
        "256.1.1.1:11434",
        "a%2fb",
        "a|b",
        "gp\u00fc",
    ],
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be HOST") as caught:
        base_url(text)
    assert ("a host is written in ASCII" in str(caught.value)) != text.isascii()


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://localhost:1", True),
        ("http://10.0.0.1:1", False),
        ("http://box:1", False),
    ],
)
def test_loopback_is_recognised(url: str, *, here: bool) -> None:
    assert is_loopback(url) is here


@pytest.mark.parametrize("address", ["unix:", "unix:relative.sock", "unix:/" + "x" * 107])
def test_the_path_of_a_unix_socket_is_absolute_and_fits(address: str) -> None:
    with pytest.raises(ConfigError, match=r"web\.listen-address"):
        web_addresses("web.listen-address", [address])
    assert web_addresses("web.listen-address", ["unix:/run/x.sock"]) == ("unix:/run/x.sock",)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (":80", ("", 80)),
        ("h:1", ("h", 1)),
        ("[::1]:0", ("::1", 0)),
        (f"{WILDCARD}:5", (WILDCARD, 5)),
    ],
)
def test_listen_addresses_are_split(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "source",
    ["/var/log/ollama.log", "server.log", "journal", "journal:ollama", "journal:my@1.service"],
)
def test_logs_that_can_be_followed(source: str) -> None:
    assert load({"ollama.log": source}, environment={}).ollama_log == source


@pytest.mark.parametrize("source", ["", "journal:", "journal:-x", "journal:a b", "journal:a;b"])
def test_logs_that_cannot(source: str) -> None:
    with pytest.raises(ConfigError, match=r"ollama\.log"):
        load({"ollama.log": source}, environment={})


def test_processes_are_watched_by_themselves_unless_told_otherwise() -> None:
    assert load({}, environment={}).collector_processes == "auto"
    assert load({"collector.processes": "off"}, environment={}).collector_processes == "off"
    with pytest.raises(ConfigError, match="auto, on or off"):
        load({"collector.processes": "yes"}, environment={})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"), (None, "empty"), (600.0, "600"), (0.5, "0.5"), ("", '""'), (" ", '" "'),
        ("it's", "it's"), ([1, "a", None], "[1, a, empty]"), ((), "[]"),
        ({"a": [True]}, "{a: [true]}"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, …]"), ([[[[1]]]], "[[[…]]]"),
        (10**300, "a number that is too large"), ("x" * 300, "x" * 200 + "…"),
    ],
)  # fmt: skip
def test_a_value_is_shown_as_one_writes_it(value: object, shown: str) -> None:
    assert plain(value) == shown


def test_a_whole_number_may_be_written_with_a_point(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("web.max-requests: 10.0\n", encoding="utf-8")
    assert load({}, file=file).max_requests == 10
    file.write_text("web.max-requests: 10.5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a whole number from 1, not 10\.5"):
        load({}, file=file)
