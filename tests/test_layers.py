"""The layers of evrt hold, and each contract that keeps them catches the import it is there for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONTRACTS = frozenset(contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"])

LAYERS = "Layers import downward only, and every module of evrt has a layer"
PURE = "Pure packages have no I/O, clock, randomness or event loop"
PUBLIC_NAMES = "Projections import of evrt only events, folds, projection and errors"
INDEPENDENT = "Projections are independent of one another"
ENTRY_POINTS = "evrt knows projections by entry point only"
LITELLM = "Only effects import litellm"


class Plant(NamedTuple):
    """A file to add to the sources, and the contract that has to refuse it."""

    contract: str
    file: str
    code: str


PLANTS = (
    Plant(LAYERS, "src/evrt/log/planted.py", "import evrt.runtime"),
    Plant(LAYERS, "src/evrt/audit/planted.py", "import evrt.runtime"),
    Plant(LAYERS, "src/evrt/events/planted.py", "def late() -> None:\n    import evrt.codec"),
    Plant(LAYERS, "src/evrt/utils.py", ""),
    Plant(LAYERS, "src/evrt/folds/planted.py", "from evrt import App"),
    Plant(PURE, "src/evrt/events/planted.py", "import asyncio"),
    Plant(PURE, "src/evrt/audit/tree.py", "import os"),
    Plant(PURE, "src/evrt/folds/planted.py", "from time import time"),
    Plant(PURE, "projections/evrt_projections/planted.py", "import uuid"),
    Plant(
        PURE, "projections/evrt_projections/planted.py", "def late() -> None:\n    from urllib import request"
    ),
    Plant(PURE, "projections/evrt_projections/planted.py", "from builtins import open as peek"),
    Plant(PUBLIC_NAMES, "projections/evrt_projections/planted.py", "import evrt.log"),
    Plant(PUBLIC_NAMES, "projections/evrt_projections/planted.py", "from evrt import App"),
    Plant(INDEPENDENT, "projections/evrt_projections/planted.py", "import evrt_projections.runs"),
    Plant(ENTRY_POINTS, "src/evrt/runtime/planted.py", "import evrt_projections.runs"),
    Plant(LITELLM, "src/evrt/runtime/planted.py", "import litellm"),
    Plant(LITELLM, "src/evrt/demo/planted.py", "def late() -> None:\n    from litellm import acompletion"),
)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the sources, to be spoilt."""
    for folder in ("src", "projections"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(sources: Path) -> set[str]:
    """The contracts that import-linter finds broken, once it has checked every one of them."""
    # First on the path, so that these sources are read and not those that are installed.
    path = os.pathsep.join((str(sources / "src"), str(sources / "projections")))
    finished = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=sources,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = finished.stdout + finished.stderr
    broken = {name for name in CONTRACTS if f"{name} BROKEN" in output}
    kept = {name for name in CONTRACTS if f"{name} KEPT" in output}
    assert broken | kept == CONTRACTS, output
    assert finished.returncode == (1 if broken else 0), output
    return broken


def test_the_sources_keep_every_contract(sources: Path) -> None:
    assert broken_contracts(sources) == set()


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.file}: {plant.code}")
def test_a_planted_import_is_refused(sources: Path, plant: Plant) -> None:
    (sources / plant.file).write_text(plant.code + "\n", "utf-8")
    assert plant.contract in broken_contracts(sources)


def test_every_contract_has_been_seen_to_fail() -> None:
    assert {plant.contract for plant in PLANTS} == CONTRACTS
