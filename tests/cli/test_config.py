"""The configuration file: what it says counts where nobody else does, and what is wrong in it is named."""

from __future__ import annotations

import pytest

import evrt
from cli.shell import Shell


@pytest.fixture
def plain(shell: Shell) -> Shell:
    """A folder with an app in it that nobody names."""
    shell.environment.pop("EVRT_APP")
    return shell


def logs(shell: Shell) -> list[str]:
    return sorted(path.name for path in shell.folder.glob("*.db"))


@pytest.mark.parametrize(
    "name, text",
    [
        ("evrt.toml", 'app = "support"\ndb = "configured.db"\n'),
        ("evrt.toml", 'app = "support:app"\ndb = "sqlite:///configured.db"\n'),
        ("pyproject.toml", '[tool.evrt]\napp = "support"\ndb = "configured.db"\n'),
    ],
)
def test_it_names_app_and_log(plain: Shell, name: str, text: str) -> None:
    plain.write(name, text)
    assert plain.evrt("runs", "start", "parrot", "hi").out == "hi\n"
    assert logs(plain) == ["configured.db"]
    assert len(plain.evrt("runs", "list", "--json").document) == 1


def test_flag_environment_and_app_go_before_it(plain: Shell) -> None:
    code = (plain.folder / "support.py").read_text("utf-8")
    plain.write("own.py", code.replace("evrt.App(", "evrt.App('sqlite:///own.db',"))
    plain.write("evrt.toml", 'app = "missing"\ndb = "configured.db"\n')
    start = ("runs", "start", "parrot", "hi")
    plain.evrt(*start, "--app", "support", "--db", "flag.db", EVRT_DB="environment.db")
    plain.evrt(*start, EVRT_APP="support", EVRT_DB="environment.db")
    plain.evrt(*start, "--app", "own")
    assert logs(plain) == ["environment.db", "flag.db", "own.db"]


def test_evrt_toml_goes_before_pyproject(plain: Shell) -> None:
    plain.write("evrt.toml", 'app = "support"\n')
    plain.write("pyproject.toml", '[tool.evrt]\napp = "missing"\ndb = "project.db"\n')
    plain.evrt("runs", "start", "parrot", "hi")
    assert logs(plain) == ["evrt.db"]


def test_a_program_reads_it_too(plain: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    plain.write("evrt.toml", 'db = "configured.db"\n')
    monkeypatch.chdir(plain.folder)
    monkeypatch.delenv("EVRT_DB", raising=False)
    assert evrt.App().url == "sqlite:///configured.db"
    assert evrt.App("memory://").url == "memory://"
    monkeypatch.setenv("EVRT_DB", "environment.db")
    assert evrt.App().url == "sqlite:///environment.db"


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("evrt.toml", "app = \n", "evrt.toml is not TOML: "),
        (
            "evrt.toml",
            'ap = "support"\n',
            "evrt.toml has a key 'ap' that evrt does not know. It knows app and db.",
        ),
        ("evrt.toml", "app = 7\n", "evrt.toml: app has to be a text that is not empty, not 7."),
        ("evrt.toml", 'db = ""\n', "evrt.toml: db has to be a text that is not empty, not ''."),
        ("pyproject.toml", "[tool]\nevrt = 1\n", "[tool.evrt] in pyproject.toml has to be a table"),
        ("pyproject.toml", "[tool.evrt]\nx = 1\n", "[tool.evrt] in pyproject.toml has a key 'x'"),
    ],
)
def test_what_is_wrong_in_it_is_named(plain: Shell, name: str, text: str, words: str) -> None:
    plain.write(name, text)
    assert words in plain.refused("runs", "list", code=2)


def test_without_one_the_app_has_to_be_named(plain: Shell) -> None:
    plain.write("pyproject.toml", "[tool.other]\nx = 1\n")
    told = plain.refused("runs", "start", "parrot", "hi", code=2)
    assert told.startswith("Which app? Name it with --app module:name, in EVRT_APP, or as app in evrt.toml.")
