# SPDX-License-Identifier: Apache-2.0
from ollama_exporter.cli.demo import PORT, introduction


def test_the_introduction_names_the_urls_and_says_when_the_port_is_another_one() -> None:
    usual = "\n".join(introduction("http://127.0.0.1:1234", PORT, 11435))
    assert "http://127.0.0.1:1234" in usual
    assert "http://127.0.0.1:11487/metrics" in usual
    assert "taken" not in usual
    other = "\n".join(introduction("http://127.0.0.1:1234", 4321, 5432))
    assert "http://127.0.0.1:4321/metrics" in other
    assert "http://127.0.0.1:5432" in other
    assert "port 11487 was taken" in other
