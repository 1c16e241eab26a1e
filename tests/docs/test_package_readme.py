# SPDX-License-Identifier: Apache-2.0
"""What PyPI shows: README.md as pyproject.toml changes it, far from the files that it links to."""

import re
import tomllib
from pathlib import Path
from typing import Final

from tests.docs.test_docs import README
from tests.support.paths import ROOT
from tools.project_address import home
from tools.site import gather

PYPROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LINK: Final = re.compile(r'(?:\]\(|(?:src|srcset|href)=")([^)"\s]+)')


def shown() -> str:
    """Return the page as the package's metadata have it."""
    text = README.read_text("utf-8")
    hooks = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]
    for each in hooks["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    return text


def place(source: Path) -> str:
    """Return where mkdocs puts a file: a README is the index of its folder."""
    name = "index.md" if source.name == "README.md" else source.name
    return re.sub(r"\.md$", ".html", source.with_name(name).as_posix())


def test_every_link_leads_to_a_page_of_the_site(tmp_path: Path) -> None:
    gather(tmp_path)
    links = [link for link in LINK.findall(shown()) if not link.startswith("#")]
    ours = [link.removeprefix(f"{home()}/") for link in links if link.startswith(home())]
    assert len(ours) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    sources = {place(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")}
    assert [link for link in ours if link.partition("#")[0] not in sources] == []


def test_the_projects_address_is_one() -> None:
    urls = PYPROJECT["project"]["urls"]
    assert {url for url in urls.values() if not url.startswith(home())} == set()
    assert home() == urls["Homepage"].rstrip("/")
