# SPDX-License-Identifier: Apache-2.0
"""python -m tests.fuzz.guided PARSER FOLDER... [-OPTION=...]: one parser under libFuzzer."""

import sys

import atheris

with atheris.instrument_imports(include=["ollama_exporter"]):
    from tests.fuzz.parsers import PARSERS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, PARSERS[name])
    atheris.Fuzz()
