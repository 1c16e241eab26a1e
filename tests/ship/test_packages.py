# SPDX-License-Identifier: Apache-2.0
"""The deb and the rpm: built, installed, started, upgraded and removed in root file systems of
their own."""

import gzip
import struct
import sys
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.version import __version__
from tests.support.package_roots import TOOLS, PackageRoot, package_root, run
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.programs import demand_root
from tests.support.scraping import fetch, scrape_until

REVISION: Final = "0123456789abcdef"
MOMENT: Final = 1_790_000_000  # Unix seconds: of all builds, whatever is committed meanwhile
MACHINES: Final = {"amd64": 62, "arm64": 183}  # e_machine in the head of an ELF file
LARGEST: Final = 40 << 20  # bytes on disk, without what is compiled at the installation
# Folders of the distribution: dpkg removes an empty /opt, and no package of Debian knows rpm's.
SHARED: Final = {
    "opt",
    "usr/lib/systemd/user",
    "usr/share/fish",
    "usr/share/fish/vendor_completions.d",
    "usr/share/licenses",
    "usr/share/zsh",
    "usr/share/zsh/site-functions",
}
SETTINGS: Final = "/etc/default/ollama-exporter"


def build(folder: Path, architecture: str = "amd64") -> Path:
    demand_root(*TOOLS)
    run(
        *("env", f"PYTHON={sys.executable}", f"SOURCE_DATE_EPOCH={MOMENT}"),
        str(ROOT / "deploy/packages/build"),
        *(str(folder), architecture, REVISION),
    )
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def deb(built: Path) -> Path:
    (file,) = built.glob("*.deb")
    return file


@pytest.fixture(scope="session")
def rpm(built: Path) -> Path:
    (file,) = built.glob("*.rpm")
    return file


def put(root: PackageRoot, file: Path) -> str:
    """Copy a package into a root; return its name there."""
    (root.folder / "tmp" / file.name).write_bytes(file.read_bytes())
    return f"/tmp/{file.name}"  # noqa: S108 - in a root of its own


def take(root: PackageRoot, name: str) -> None:
    (root.folder / name.removeprefix("/")).unlink()


def serves(root: PackageRoot) -> None:
    """Start server and exporter as the package has them, and look as Prometheus and a person do."""
    served, scraped = free_port(), free_port()
    settings = {
        line.partition("=")[0]: line.partition("=")[2]
        for line in (root.folder / SETTINGS[1:]).read_text("utf-8").splitlines()
        if not line.startswith("#") and "=" in line
    }
    settings |= {
        "OLLAMA_EXPORTER_OLLAMA_URL": f"http://127.0.0.1:{served}",
        "OLLAMA_EXPORTER_WEB_LISTEN_ADDRESS": f"127.0.0.1:{scraped}",
    }
    with (
        root.service(f"simulate --listen=127.0.0.1:{served}", {}),
        root.service("", settings),
    ):
        text = scrape_until(scraped, "ollama_up 1.0")
        assert f'revision="{REVISION}"' in text
        assert "<title>" in fetch(f"http://127.0.0.1:{scraped}/")


def newer(deb: Path, folder: Path) -> Path:
    """Return the package as a later version whose settings file has changed."""
    run("dpkg-deb", "--raw-extract", str(deb), str(folder / "tree"))
    control = folder / "tree/DEBIAN/control"
    control.write_text(control.read_text("utf-8").replace(__version__, "99.0.0"), "utf-8")
    with (folder / "tree" / SETTINGS[1:]).open("a", encoding="utf-8") as file:
        file.write("# new in this version\n")
    run("dpkg-deb", "-Znone", "--build", str(folder / "tree"), str(folder / "newer.deb"))
    return folder / "newer.deb"


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_deb_is_installed_used_upgraded_and_leaves_nothing(
    suite: str, deb: Path, tmp_path: Path
) -> None:
    """Debian 12 has Python 3.11, Debian 13 has 3.13: one package serves both."""
    root = package_root(suite, tmp_path / "root")
    before = root.files()
    name = put(root, deb)
    root.run("dpkg", "--force-unsafe-io", "-i", name)
    take(root, name)
    assert __version__ in root.run("ollama-exporter", "--version")
    root.run("ollama-exporter", "check-config")
    group = root.run("stat", "--format=%U:%G %a", "/etc/ollama-exporter").strip()
    assert group == "root:ollama-exporter 750"
    assert not list((root.folder / "etc/systemd/system").rglob("*ollama*")), "it was enabled"
    with (root.folder / SETTINGS[1:]).open("a", encoding="utf-8") as file:
        file.write("OLLAMA_EXPORTER_LOG_LEVEL=debug\n")
    serves(root)

    name = put(root, newer(deb, tmp_path))
    root.run("dpkg", "--force-unsafe-io", "--force-confdef", "--force-confold", "-i", name)
    take(root, name)
    assert "LOG_LEVEL=debug" in (root.folder / SETTINGS[1:]).read_text("utf-8")
    assert list((root.folder / "opt/ollama-exporter/lib/click").glob("__pycache__/*.pyc"))
    serves(root)

    root.run("dpkg", "--remove", "ollama-exporter")
    assert "LOG_LEVEL=debug" in (root.folder / SETTINGS[1:]).read_text("utf-8")
    assert not (root.folder / "opt/ollama-exporter").exists()
    (root.folder / "var/lib/private/ollama-exporter").mkdir(parents=True)  # as systemd makes it
    root.run("dpkg", "--purge", "ollama-exporter")
    (root.folder / "var/lib/private").rmdir()
    assert set(root.left(before)) <= SHARED


def test_an_rpm_is_installed_used_upgraded_and_leaves_nothing(rpm: Path, tmp_path: Path) -> None:
    """By rpm in a Debian, whose packages rpm does not know: hence without its dependencies."""
    root = package_root("bookworm", tmp_path / "root")
    root.run("rpm", "--initdb")
    before = root.files()
    name = put(root, rpm)
    root.run("rpm", "--nodeps", "-i", name)
    assert __version__ in root.run("ollama-exporter", "--version")
    with (root.folder / SETTINGS[1:]).open("a", encoding="utf-8") as file:
        file.write("OLLAMA_EXPORTER_LOG_LEVEL=debug\n")
    serves(root)
    root.run("rpm", "--nodeps", "-U", "--force", name)
    take(root, name)
    assert "LOG_LEVEL=debug" in (root.folder / SETTINGS[1:]).read_text("utf-8")
    serves(root)
    root.run("rpm", "-e", "ollama-exporter")
    saved = root.folder / f"{SETTINGS[1:]}.rpmsave"
    assert "LOG_LEVEL=debug" in saved.read_text("utf-8")
    saved.unlink()
    assert set(root.left(before)) <= SHARED


def test_lintian_finds_nothing_but_what_has_a_reason(deb: Path) -> None:
    # Debian's profile, whatever distribution this runs on.
    run("lintian", "--profile=debian", "--allow-root", "--fail-on=error,warning", str(deb))


def test_it_has_a_manual_and_completions(deb: Path, tmp_path: Path) -> None:
    run("dpkg-deb", "--extract", str(deb), str(tmp_path))
    page = gzip.decompress((tmp_path / "usr/share/man/man1/ollama-exporter.1.gz").read_bytes())
    assert b"OLLAMA_EXPORTER_OLLAMA_URL" in page
    assert b".SS advise" in page
    for file in (
        "bash-completion/completions/ollama-exporter",
        "zsh/vendor-completions/_ollama-exporter",
        "fish/vendor_completions.d/ollama-exporter.fish",
    ):
        assert "_OLLAMA_EXPORTER_COMPLETE" in (tmp_path / "usr/share" / file).read_text("utf-8")
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert size < LARGEST


def test_the_same_commit_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert (again / "SHA256SUMS").read_text() == (built / "SHA256SUMS").read_text()


@pytest.mark.parametrize("architecture", MACHINES)
def test_it_has_every_module_for_each_python_and_its_machine_alone(
    architecture: str, built: Path, tmp_path: Path
) -> None:
    folder = built if architecture == "amd64" else build(tmp_path / "built", architecture)
    (deb,) = folder.glob(f"*{architecture}.deb")
    run("dpkg-deb", "--extract", str(deb), str(tmp_path / "tree"))
    modules = list((tmp_path / "tree/opt/ollama-exporter/lib").rglob("*.so"))
    assert {struct.unpack_from("<H", file.read_bytes(), 18)[0] for file in modules} == {
        MACHINES[architecture]
    }
    names = [file.name.partition(".")[2] for file in modules]
    for version in ("311", "312", "313", "314"):
        assert sum(f"cpython-{version}-" in name for name in names) >= 4
