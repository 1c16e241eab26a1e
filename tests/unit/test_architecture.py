# SPDX-License-Identifier: Apache-2.0
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grimp

from tests.support.paths import ROOT

PACKAGE: Final = ROOT / "ollama_exporter"
LONGEST: Final = 400  # a reviewer asks then whether there are two subjects
TEXT: Final = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".json", ".cfg", ".service", ""}
# In parts, or this file would find itself: a clone must work with any mirror and in any place.
FORBIDDEN: Final = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "proxy.go" + "lang.org",
    "deb.deb" + "ian.org",
    "/wo" + "rk/",
)


def sources(folder: Path) -> Iterator[Path]:
    """Yield the files of the project below folder, without what tools leave behind."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and path.name not in (".ci", ".github", ".dockerignore"):
            continue
        if (
            path.name in ("__pycache__", "node_modules", "dist", "htmlcov")
            or path == ROOT / "build"
        ):
            continue
        if path.suffix == ".egg-info":
            continue
        if path.is_dir():
            yield from sources(path)
        else:
            yield path


def test_imports_point_one_way() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_imports_form_a_circle() -> None:
    graph = grimp.build_graph("ollama_exporter", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while imports:  # take away what imports nothing that is left
        free = {module for module, found in imports.items() if not found & imports.keys()}
        assert free, f"in circles, or importing one: {sorted(imports)}"
        imports = {module: found for module, found in imports.items() if module not in free}


def test_every_python_file_starts_with_its_licence() -> None:
    files = [path for path in sources(ROOT) if path.suffix == ".py"]
    missing = [
        str(path.relative_to(ROOT))
        for path in files
        if not path.read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: Apache-2.0")
    ]
    assert len(files) > 20
    assert missing == []


def test_no_file_outgrows_a_reader() -> None:
    long = {
        str(path.relative_to(PACKAGE))
        for path in sources(PACKAGE)
        if path.suffix == ".py" and len(path.read_text(encoding="utf-8").splitlines()) > LONGEST
    }
    assert not long, f"split these: {sorted(long)}"


def test_no_two_files_share_a_name() -> None:
    names = Counter(path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_classes_share_a_name() -> None:
    names = Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_names_a_registry_or_a_folder_outside_the_project() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in sources(ROOT)
        if path.suffix in TEXT
        for word in FORBIDDEN
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_docstrings_begin_with_what_is_done() -> None:
    """ "Take", "Tell" and "Know" say nothing: a function returns, notes, adds or processes."""
    stilted = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if (ast.get_docstring(node) or "").startswith(("Take ", "Tell ", "Know ", "Say "))
    ]
    assert stilted == []


def test_who_catches_errors_of_msgspec_catches_all_that_foreign_bytes_cause() -> None:
    """UnicodeDecodeError for bytes that are no UTF-8, RecursionError for what is nested deeply."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Try):
                caught = " ".join(ast.unparse(each.type) for each in node.handlers if each.type)
                if "msgspec.DecodeError" in caught:
                    assert "RecursionError" in caught, (path, node.lineno)
                    assert "UnicodeDecodeError" in caught or "ValueError" in caught, path
