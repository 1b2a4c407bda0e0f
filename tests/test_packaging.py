"""What is handed out is complete and says nothing of the machine it was made on.

The source archive is built from the tree and the wheel from the source archive, as a release would;
the wheel is then installed in an empty environment and asked for help.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = {"evrt": ROOT / "src" / "evrt", "evrt_projections": ROOT / "projections" / "evrt_projections"}

# Escaped as they are, these lines do not hold what they look for.
INDEX_HOSTS = re.compile(r"pypi\.(?:org|python)|pythonhosted\.org|registry\.npmjs")
INDEX_OPTIONS = re.compile(r"^\s*--?(?:i|f|(?:extra-)?index-url|find-links|trusted-host)\b", re.MULTILINE)
CHECKOUTS = re.compile(rf"{re.escape(str(ROOT))}/|(?<![\w.~])/(?:home|root|Users|work|workspace|builds)/\w")

REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;]+)", re.MULTILINE)
IGNORED_FOLDERS = {".git", ".venv", "build", "dist", "__pycache__", ".hypothesis"}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command that has to succeed prints. PYTHONPATH is emptied: only what is installed counts."""
    environment = {"PYTHONPATH": ""} | environment
    finished = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def hatchling(target: str, source: Path, into: Path) -> Path:
    """Build one archive with the build backend itself, which asks no index for anything."""
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into, cwd=source)
    [built] = into.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hatchling("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    [source] = unpacked.iterdir()
    return hatchling("wheel", source, tmp_path_factory.mktemp("wheel"))


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def read_member(wheel: Path, ending: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(ending)]
        return archive.read(name).decode("utf-8")


def committed_files() -> list[Path]:
    """The files that are tracked or about to be; outside a git checkout, all but what tools leave."""
    if (ROOT / ".git").exists():
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
        paths = [ROOT / name for name in listed.split("\0") if name]
    else:
        paths = list(ROOT.rglob("*"))
    return [
        path for path in paths if path.is_file() and IGNORED_FOLDERS.isdisjoint(path.relative_to(ROOT).parts)
    ]


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(wheel: Path) -> None:
    sources = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in members(wheel) if ".dist-info/" not in name}
    assert packed == sources
    assert {"evrt/py.typed", "evrt_projections/py.typed"} <= packed


def test_the_wheel_carries_the_sample_claims_of_the_demo(wheel: Path) -> None:
    [sample] = [name for name in members(wheel) if name.startswith("evrt/demo/") and name.endswith(".csv")]
    assert read_member(wheel, sample).count("\n") > 40


def test_the_wheel_names_its_command_and_its_projections(wheel: Path) -> None:
    entry_points = configparser.ConfigParser()
    entry_points.read_string(read_member(wheel, "/entry_points.txt"))
    assert dict(entry_points["console_scripts"]) == {"evrt": "evrt.cli:main"}
    built_in = sorted(path.stem for path in (ROOT / "projections" / "evrt_projections").glob("[!_]*.py"))
    assert "runs" in built_in
    assert dict(entry_points["evrt.projections"]) == {
        name: f"evrt_projections.{name}:PROJECTION" for name in built_in
    }


def test_the_wheel_states_its_licence_and_the_pythons_it_runs_on(wheel: Path) -> None:
    metadata = Parser().parsestr(read_member(wheel, ".dist-info/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert "Version 2.0, January 2004" in read_member(wheel, "/licenses/LICENSE")


@pytest.fixture(scope="module")
def evrt(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the wheel, installed in an environment of its own.

    evrt comes from the wheel; what it depends on is lent by the environment that runs the tests.
    """
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=environment)
    [site_packages] = environment.glob("lib/python*/site-packages")
    [lent] = {
        Path(path) for path in sys.path if path.endswith("site-packages") and path.startswith(sys.prefix)
    }
    # Lines of a .pth are appended to the path and not followed further: an editable evrt stays unseen.
    (site_packages / "lent.pth").write_text(f"{lent}\n", "utf-8")
    origin = run(
        python, "-c", "import evrt, evrt_projections as p; print(evrt.__file__, p.__file__)", cwd=environment
    )
    assert origin.count(str(site_packages)) == 2
    return environment / "bin" / "evrt"


@pytest.mark.parametrize("arguments", ["--help", "demo --help", "runs --help", "runs start --help"])
def test_the_installed_wheel_gives_the_command(evrt: Path, tmp_path: Path, arguments: str) -> None:
    usage = run(evrt, *arguments.split(), cwd=tmp_path, HOME=str(tmp_path), NO_COLOR="1")
    assert "Usage: evrt" in usage
    assert list(tmp_path.iterdir()) == []


def test_the_lock_satisfies_what_the_project_asks_for() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = {canonicalize_name(name): version for name, version in REQUIREMENT.findall(lock)}
    asked = PROJECT["dependencies"] + [
        line for extra in PROJECT["optional-dependencies"].values() for line in extra
    ]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), str(requirement)


def test_the_lock_has_hashes_for_every_package_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    packages = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(packages) == len(REQUIREMENT.findall(lock)) > len(PROJECT["dependencies"])
    assert [text for text in packages if "--hash=sha256:" not in text] == []
    assert INDEX_OPTIONS.findall(lock) == []
    assert "://" not in lock


@pytest.mark.parametrize("forbidden", [INDEX_HOSTS, CHECKOUTS], ids=["index hosts", "paths of a machine"])
def test_no_committed_file_speaks_of_the_machine_it_was_made_on(forbidden: re.Pattern[str]) -> None:
    files = committed_files()
    assert ROOT / "Makefile" in files
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        for line in path.read_text("utf-8", errors="replace").splitlines()
        if forbidden.search(line)
    ]
    assert found == []
