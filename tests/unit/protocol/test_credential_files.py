# SPDX-License-Identifier: Apache-2.0
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.credential_files import read_token
from ollama_exporter.reporter import ignore
from ollama_exporter.watched_file import GRACE, WatchedFile


class Scene:
    """A token in a file, and a clock."""

    def __init__(self, file: Path) -> None:
        self.file, self.now = file, 0.0
        file.write_bytes(b"secret1\n")
        self.token = WatchedFile(
            "proxy.token-file",
            lambda: read_token(file, field="proxy.token-file"),
            now=lambda: self.now,
            on_error=ignore,
        )

    def after(self, seconds: float) -> str | None:
        self.now += seconds
        return self.token.reread()


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "two lines": lambda file: file.write_bytes(b"a\nb\n"),
    "not ASCII": lambda file: file.write_bytes("ü".encode()),
    "a FIFO": fifo,
    "a sparse gigabyte": lambda file: os.truncate(file, 1 << 30),
}


def test_a_changed_file_is_read_at_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "t")
    assert scene.after(0) == "secret1"
    scene.file.write_bytes(b"secret2")
    assert scene.after(1) == "secret2"
    scene.file.write_bytes(b"\xef\xbb\xbfsecret3\r\n")
    assert scene.after(1) == "secret3"


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_token_whose_file_cannot_be_used_is_said_at_once_and_void_after_a_while(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path / "t")
    UNUSABLE[kind](scene.file)
    assert scene.after(1) == "secret1"
    assert [r.getMessage() for r in caplog.records] == ["Credential file cannot be used"]
    assert "secret" not in str(vars(caplog.records[0]))
    assert scene.after(GRACE / 2) == "secret1"
    assert scene.after(GRACE) is None
    assert scene.after(10 * GRACE) is None
    assert [r.getMessage() for r in caplog.records][1:] == [
        "Credential is void: its file cannot be used"
    ]
    scene.file.unlink(missing_ok=True)
    with caplog.at_level(logging.INFO):
        scene.file.write_bytes(b"secret2")
        assert scene.after(1) == "secret2"
    assert caplog.records[-1].getMessage() == "Credential is usable again"


def test_a_file_that_is_written_anew_may_be_gone_for_a_moment(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "t")
    scene.file.unlink()
    assert scene.after(1) == "secret1"
    scene.file.write_bytes(b"secret1\n")
    assert scene.after(1) == "secret1"
    assert scene.after(2 * GRACE) == "secret1"


@pytest.mark.parametrize("content", [b"", b"  \n", b"a\nb", b"a b", b"\xff", b"x" * (1 << 20)])
def test_what_is_no_token(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(ConfigError, match=r"ollama\.token-file"):
        read_token(tmp_path / "t", field="ollama.token-file")
