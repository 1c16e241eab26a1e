# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.foreign_text import LONGEST, clean, mask_address, mask_user_info
from tests.support.growth import assert_linear


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("llama3.2:latest", "llama3.2:latest"),
        ("größe 模型 🦙", "größe 模型 🦙"),
        ("a\nb\tc\rd", "a b c d"),
        ("\x1b]0;own\x07", "\\u001b]0;own\\u0007"),
        ("\x9b2J", "\\u009b2J"),
        ("a\u202eb\u2028c\u0085d\x7f", "a\\u202eb\\u2028c\\u0085d\\u007f"),
        ("\ud83d", "\ufffd"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_is_not_printable_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_the_result_is_one_printable_line_that_can_be_encoded(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert clean(shown) == shown


def test_long_texts_are_cut() -> None:
    assert clean("x" * (LONGEST + 1)) == "x" * LONGEST + "…"
    assert clean("x" * 10, limit=3) == "xxx…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach https://ops:secret@host:1/x", "cannot reach https://***@host:1/x"),
        ("http://token@h and http://plain/a@b", "http://***@h and http://plain/a@b"),
        ("http://ops:s@secret@127.0.0.1:1/", "http://***@127.0.0.1:1/"),
        ("mail me@example.org", "mail me@example.org"),
        ("http://ops:secret\uff20host/x", "http://***@host/x"),
        ("moved to https://h/cb?code=secret&n=5#secret", "moved to https://h/cb?code=***&n=5#***"),
        ("http://h/?secret", "http://h/?***"),
        ("http://h/api/v1/status?seconds=3600", "http://h/api/v1/status?seconds=3600"),
        ("is it running? no", "is it running? no"),
    ],
)
def test_user_info_of_urls_is_masked(text: str, shown: str) -> None:
    assert mask_user_info(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:11434/?token=secret", "http://host:11434/?***"),
        ("http://host/#secret", "http://host/#***"),
        ("http://ops:secret", "http://ops:***"),
        ("ops:secret@host:1", "***@host:1"),
        ("http://host:99999/v1", "http://host:99999/v1"),
        ("http://[::1]:11434/x", "http://[::1]:11434/x"),
    ],
)
def test_of_an_address_host_port_and_path_are_shown(text: str, shown: str) -> None:
    assert mask_address(text) == shown


def test_masking_takes_linear_time() -> None:
    for unit in (b"a", b"://a", b"://", b"?", b"a=", b"?a=b&", b"&a", b":"):
        assert_linear(
            lambda body: mask_address(mask_user_info(body.decode())),
            lambda size, unit=unit: b"://" + unit * (size // len(unit)),  # type: ignore[misc]  # bound now
        )
