# SPDX-License-Identifier: Apache-2.0
import base64
from pathlib import Path

import pytest

from ollama_exporter.config.load import load
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.setting import written
from ollama_exporter.config.target import BasicAuth, HeaderField, Target
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.server_credentials import ServerCredentials
from ollama_exporter.watched_file import GRACE
from tests.support.proxying import Clock

SECRET = "s3cret"  # noqa: S105 - of these tests alone


def settings(**flags: object) -> Settings:
    return load({name.replace("__", ".").replace("_", "-"): x for name, x in flags.items()})


def test_a_target_without_credentials_gets_none() -> None:
    assert ServerCredentials(Target("ollama", "http://x:1")).fields() == {}


def test_a_password_is_read_again_and_is_void_after_a_while(tmp_path: Path) -> None:
    file, clock = tmp_path / "password", Clock()
    file.write_text("pass: wörd \n", encoding="utf-8")
    target = Target("ollama", "http://x:1", basic_auth=BasicAuth("me", file))
    credentials = ServerCredentials(target, monotonic=clock)
    sent = credentials.fields()["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == "me:pass: wörd "
    file.write_text("two")
    assert base64.b64decode(credentials.fields()["authorization"][6:]) == b"me:two"
    file.unlink()
    assert "authorization" in credentials.fields()
    clock.at += GRACE
    assert credentials.fields() == {}


def test_header_fields_stand_in_the_configuration_or_in_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\r\n")
    target = settings(
        ollama__header=["CF-Access-Client-Id: a: b"],
        ollama__header_file={"CF-Access-Client-Secret": str(file)},
    ).target
    fields = ServerCredentials(target).fields()
    assert fields == {"CF-Access-Client-Id": "a: b", "CF-Access-Client-Secret": SECRET}
    file.write_text(f"{SECRET}\u00e9", "utf-8")
    with pytest.raises(ConfigError, match="visible ASCII") as caught:
        ServerCredentials(target)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ollama.header", [f"X: a\r\n{SECRET}"], "visible ASCII"),
        ("ollama.header", [f"X: {SECRET}\u00e9"], "visible ASCII"),
        ("ollama.header", f"Bearer {SECRET}", "NAME: VALUE"),
        ("ollama.header", [f"{SECRET} x: a"], "a field's name"),
        ("ollama.header", [f"Host: {SECRET}"], "except those of HTTP itself"),
        ("ollama.header", [f"Content-Length: {SECRET}"], "except those of HTTP itself"),
        ("ollama.header", [f"A: {SECRET}", "a: 2"], "each field once"),
        ("ollama.header", {"A": [SECRET]}, "NAME: VALUE"),
        ("ollama.header", [f"A{n}: {SECRET}" for n in range(33)], "at most 32"),
        ("ollama.basic-auth-user", "a:b", "without a colon"),
    ],
)
def test_what_cannot_be_sent_is_refused_without_its_value(
    name: str, value: object, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load({name: value}, environment={})
    assert name in str(caught.value)
    assert SECRET not in str(caught.value)


def test_half_of_a_basic_authentication_is_refused(tmp_path: Path) -> None:
    for half in ({"ollama.basic-auth-user": "me"}, {"ollama.basic-auth-password-file": "x"}):
        with pytest.raises(ConfigError, match="set it together with"):
            _ = load(half, environment={}).target
    with pytest.raises(ConfigError, match=r"ollama\.basic-auth-password-file: must be "):
        ServerCredentials(
            settings(
                ollama__basic_auth_user="me", ollama__basic_auth_password_file=str(tmp_path / "x")
            ).target
        )


def test_two_credentials_in_one_field_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    target = settings(ollama__token_file=str(file), ollama__header=[f"Authorization: {SECRET}"])
    with pytest.raises(ConfigError, match="each field once") as caught:
        ServerCredentials(target.target)
    assert SECRET not in str(caught.value)


def test_a_value_is_in_no_text_of_the_settings() -> None:
    found = settings(ollama__header=[f"X-Key: {SECRET}"])
    assert SECRET not in repr(found)
    assert written(found.ollama_headers) == "['X-Key: ***']"
    assert str(HeaderField("X", file=Path("f"))) == "X: f"
