# SPDX-License-Identifier: Apache-2.0
from ollama_exporter.metrics.expected_models import ExpectedModels
from ollama_exporter.protocol.wire import InstalledModel


def installed(*names: str) -> tuple[InstalledModel, ...]:
    return tuple(InstalledModel(name, "d", 1, remote=False) for name in names)


def test_counters_are_created_under_the_server_s_spelling_once_it_is_known() -> None:
    created: list[str] = []
    expected = ExpectedModels(created.append)
    expected.expect("mistral:latest")
    expected.expect("Llama3.2:latest")
    expected.expect("HF.co/Org/Model-GGUF:Q4_K_M")
    assert created == ["mistral:latest"]
    expected.on_installed(installed("llama3.2:latest", "hf.co/org/Model-GGUF:q4_k_m"))
    assert created[1:] == ["llama3.2:latest", "hf.co/org/Model-GGUF:q4_k_m"]
    expected.expect("MISTRAL:latest")
    assert created[3:] == ["MISTRAL:latest"]  # not installed: as it was written


def test_two_spellings_of_one_model_are_one_label() -> None:
    expected = ExpectedModels(lambda _name: None)
    assert expected.labels(["Llama3.2:latest", "a:latest"]) == ("Llama3.2:latest", "a:latest")
    expected.on_installed(installed("llama3.2:latest"))
    assert expected.labels(["Llama3.2:latest", "llama3.2:latest"]) == ("llama3.2:latest",)
