# SPDX-License-Identifier: Apache-2.0
"""Writes provenance.json (who made the files of a release, and of what) and SHA256SUMS.

python -m tools.provenance DIST COMMIT STARTED [LIBRARIES...]: the folder, the commit, the time at
which the build began (RFC 3339), and lists of the libraries' wheels as sha256sum prints them.

The statement has the form of in-toto's Statement v1 with SLSA's predicate provenance v1. It is not
signed: by itself it proves nothing about who wrote it. docs/releasing.md says what it is good for.
"""

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ollama_exporter.version import __version__
from tools.project_address import home, repository

NAME: Final = "provenance.json"
SUMS: Final = "SHA256SUMS"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"


def statement(
    *,
    version: str,
    commit: str,
    builder: str,
    files: Mapping[str, str],
    libraries: Iterable[tuple[str, str]],
    tools: Mapping[str, str],
    started: str,
    finished: str,
) -> dict[str, Any]:
    """Return the statement about files of a release.

    `files` maps names to SHA-256; `libraries` are the wheels in the packages with their SHA-256.
    """
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"{home()}/releasing.html#make-release",
                "externalParameters": {"command": f"make release VERSION={version}"},
                "internalParameters": {"signed": False},
                "resolvedDependencies": [
                    {
                        "name": "source",
                        "uri": f"git+{repository()}@refs/tags/v{version}",
                        "digest": {"gitCommit": commit},
                    },
                    *(
                        {"name": wheel, "uri": purl(wheel), "digest": {"sha256": digest}}
                        for wheel, digest in sorted(set(libraries))
                    ),
                ],
            },
            "runDetails": {
                "builder": {"id": builder, "version": dict(tools)},
                "metadata": {"startedOn": started, "finishedOn": finished},
            },
        },
    }


def purl(wheel: str) -> str:
    """Return the address of a wheel's release as a package URL."""
    name, version = wheel.split("-")[:2]
    return f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}"


def builder_of(environment: Mapping[str, str]) -> str:
    """Return who built: a workflow of a forge, or a person at a machine of their own."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return f"{environment['GITHUB_SERVER_URL']}/{environment['GITHUB_WORKFLOW_REF']}"
    return f"{home()}/releasing.html#by-hand"


def digests(folder: Path, *, but: Sequence[str] = (NAME, SUMS)) -> dict[str, str]:
    """Return the SHA-256 of the files of a release: of those that a list of them is about."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.name not in but
    }


def listed(text: str) -> list[tuple[str, str]]:
    """Return names and digests of what sha256sum printed."""
    lines = (line.split() for line in text.splitlines())
    return [(name.removeprefix("*"), summed) for summed, name in lines]


def write(folder: Path, said: Mapping[str, Any]) -> None:
    """Write the statement into the folder, then the checksums of everything there."""
    (folder / NAME).write_text(json.dumps(said, indent=2) + "\n", "utf-8")
    lines = [f"{summed}  {name}\n" for name, summed in digests(folder, but=(SUMS,)).items()]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def main(arguments: list[str]) -> None:
    """Write both files."""
    folder, commit, started = Path(arguments[0]), arguments[1], arguments[2]
    lists = [Path(name).read_text("utf-8") for name in arguments[3:]]
    said = statement(
        version=__version__,
        commit=commit,
        builder=builder_of(os.environ),
        files=digests(folder),
        libraries=[each for text in lists for each in listed(text)],
        tools={"python": platform.python_version()},
        started=started,
        finished=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    write(folder, said)


if __name__ == "__main__":
    main(sys.argv[1:])
