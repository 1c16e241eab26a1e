# SPDX-License-Identifier: Apache-2.0
"""The file of clients and their tokens: what is read, and what is never shown."""

from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.errors import ConfigError
from ollama_exporter.shim.proxy.client_tokens import ClientTokens, read_client_tokens

SECRET: Final = "s3cret-of-alice"  # noqa: S105 - of these tests alone


def written(folder: Path, content: bytes) -> Path:
    file = folder / "tokens"
    file.write_bytes(content)
    return file


def test_each_token_has_the_name_before_its_colon(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf# who\n\nalice: a:b\r\n  batch job : t-2  \n"
    tokens = read_client_tokens(written(tmp_path, content))
    assert [tokens.name_of(x) for x in (b"a:b", b"t-2", b"t-3", b"")] == [
        "alice",
        "batch job",
        None,
        None,
    ]
    assert tokens == ClientTokens((("alice", b"a:b"), ("batch job", b"t-2")))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"alice {SECRET}", "line 1 is none"),
        (f"bob: x\n{SECRET}", "line 2 is none"),
        (f"other: {SECRET}", "line 1 is none"),
        (f"{'x' * 65}: {SECRET}", "line 1 is none"),
        (f"al\x1bice: {SECRET}", "line 1 is none"),
        (f"alice: {SECRET} x", "line 1 is none"),
        ("alice:", "line 1 is none"),
        (f"alice: {SECRET}\nalice: x", "line 2 repeats one"),
        (f"alice: {SECRET}\nbob: {SECRET}", "line 2 repeats one"),
        (f"alice: {SECRET}é", "not ASCII"),
        ("# none\n", "one to 50 lines"),
        ("".join(f"c{n}: {SECRET}{n}\n" for n in range(51)), "one to 50 lines"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_without_its_tokens(
    tmp_path: Path, content: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_client_tokens(written(tmp_path, content.encode()))
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_client_tokens(tmp_path / "none")


def test_no_text_of_the_tokens_shows_one() -> None:
    tokens = ClientTokens((("alice", SECRET.encode()),))
    assert "alice" in repr(tokens)
    assert SECRET not in f"{tokens} {tokens!r}"
