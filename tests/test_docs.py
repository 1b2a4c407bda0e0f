"""The documentation is true: its examples run, its links lead somewhere, its tables agree with the code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
import re
import sys
import tomllib
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import docs_events
import evrt
from cli.forker import Forker, forking
from docs_facts import DOTTED, PATH, constants, find, parameters, same, signatures
from docs_pages import ROOT, Block, Page, pages
from docs_terminal import Terminal, commands, matches
from evrt import errors
from evrt.cli import boundary, cli
from evrt.log.entry import build_entry, leaf_hash, payload_digest

PAGES = pages()
NAMES = [page.name for page in PAGES]
SOURCES = (ROOT / "src", ROOT / "projections")
NOT_RUN_MAX = 3
"""Examples that nobody tries grow old; this many are known and have their reasons."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ENTRY_POINT_GROUPS = PROJECT["entry-points"].keys()

OVERSTATED = re.compile(
    r"exactly[- ]once|\bcomplian(?:t|ce)\b|blazing|seamless|bulletproof|enterprise", re.IGNORECASE
)

READ = re.compile(r'environ(?:\.get\(|\.setdefault\(|\[)\s*"(\w+)"|"(\w+)" (?:not )?in os\.environ')
"""How code asks for an environment variable."""

UNTRIED = frozenset({"make", "pip", "git"})
"""What a console block may show without its being tried: it would install, or run this very test."""


def page(name: str) -> Page:
    return Page(ROOT / name)


# ---------------------------------------------------------------------------------------- examples


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    """The process that commands of pages are forked from."""
    with forking() as forker:
        yield forker


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder that modules can be imported from; they are forgotten afterwards."""
    for name in list(os.environ):
        if name.startswith("EVRT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


class Examples:
    """The examples of one page, tried in order in one folder and one namespace."""

    def __init__(self, folder: Path, forker: Forker | None = None) -> None:
        self.folder = folder
        self.terminal = Terminal(folder, forker)
        self.module = types.ModuleType("example")

    def try_all(self, page: Page) -> None:
        sys.modules[self.module.__name__] = self.module
        try:
            for block, output in _with_outputs(page.blocks):
                if block.not_run is None:
                    self.try_block(page, block, output)
                elif block.kind == "python":
                    compile(block.text, f"{page.name}:{block.line}", "exec")
        finally:
            del sys.modules[self.module.__name__]

    def try_block(self, page: Page, block: Block, output: str | None) -> None:
        if block.file is not None:
            (self.folder / block.file).write_text(self.terminal.reaching(block.text), "utf-8")
        if block.kind == "python":
            printed = self.execute(page, block)
            assert output is None or _alike(output, printed), f"{page.name}:{block.line} printed:\n{printed}"
        elif block.kind == "console":
            self.try_commands(page, block)

    def execute(self, page: Page, block: Block) -> str:
        """What a block prints. A file is imported, but for tests, which a console block hands to pytest."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if block.file is None:
                # Line numbers of the page in what goes wrong.
                source = "\n" * (block.line - 1) + self.terminal.reaching(block.text)
                exec(compile(source, str(page.path), "exec", dont_inherit=True), self.module.__dict__)
            elif not block.file.startswith("test_"):
                importlib.invalidate_caches()
                imported = importlib.import_module(block.file.removesuffix(".py"))
                self.module.__dict__.update(
                    {name: value for name, value in vars(imported).items() if not name.startswith("__")}
                )
        return printed.getvalue()

    def try_commands(self, page: Page, block: Block) -> None:
        for command in commands(block.text):
            if command.text.split()[0] in UNTRIED:
                continue
            self.terminal.run(command, figures_vary=block.figures_vary)
            following = [later for later in commands(block.text) if later.text == "echo $?"]
            assert self.terminal.exit_code in (0, -9) or following, (
                f"{page.name}:{block.line}: {command.text} ended with {self.terminal.exit_code}, which the page "
                "does not show."
            )


def _with_outputs(blocks: list[Block]) -> Iterator[tuple[Block, str | None]]:
    for block, after in zip(blocks, [*blocks[1:], None], strict=False):
        shows = after is not None and after.kind == "text" and after.follows_directly
        yield block, after.text if after is not None and shows else None


def _alike(shown: str, printed: str) -> bool:
    ids: dict[str, str] = {}
    theirs, ours = printed.splitlines(), shown.splitlines()
    return len(theirs) == len(ours) and all(
        matches(line, actual, ids) for line, actual in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_page_do_what_the_page_says(name: str, folder: Path, forker: Forker) -> None:
    """Whoever is new begins with the README, so its commands are started as a person starts them."""
    Examples(folder, None if name == "README.md" else forker).try_all(page(name))


def test_few_examples_are_not_run_and_each_says_why() -> None:
    left_out = [
        f"{page.name}:{block.line}: {block.not_run}"
        for page in PAGES
        for block in page.blocks
        if block.not_run is not None
    ]
    assert len(left_out) <= NOT_RUN_MAX, left_out


# ---------------------------------------------------------------------------------- links and names


@pytest.mark.parametrize("name", NAMES)
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    here = page(name)
    assert len(here.links) == sum(line.count("](") for _, line in here.prose), (
        "A link is broken across lines."
    )
    for line, target in here.links:
        if target.startswith("https://"):
            continue
        where = f"{name}:{line}: {target}"
        path, _, anchor = target.partition("#")
        there = (here.path.parent / path).resolve() if path else here.path
        assert there.is_relative_to(ROOT), where
        assert there.exists(), where
        assert not anchor or anchor in Page(there).anchors, where


@pytest.mark.parametrize("name", NAMES)
def test_the_names_that_a_page_takes_from_the_code_are_there(name: str) -> None:
    for line, span in page(name).code_spans:
        if span in ENTRY_POINT_GROUPS or span.endswith((".db", ".toml")):
            continue
        if DOTTED.fullmatch(span):
            try:
                find(span)
            except (AttributeError, ModuleNotFoundError) as error:
                pytest.fail(f"{name}:{line}: there is no {span}: {error}")
        elif PATH.fullmatch(span):
            assert (ROOT / span).exists(), f"{name}:{line}: there is no {span}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    to_read = [ROOT / "README.md"]
    while to_read:
        path = to_read.pop()
        reached.add(path)
        targets = [target.partition("#")[0] for _, target in Page(path).links]
        linked = [(path.parent / target).resolve() for target in targets if target.endswith(".md")]
        to_read += [other for other in linked if other not in reached and other.exists()]
    assert [page.name for page in PAGES if page.path not in reached] == []


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in PAGES:
        named = [span for _, span in page.code_spans] + [
            command.text
            for block in page.blocks
            if block.kind == "console"
            for command in commands(block.text)
        ]
        for text in named:
            if match := re.match(r"make ([a-z-]+)", text):
                assert match[1] in targets, f"{page.name}: there is no `{text}`"


# ----------------------------------------------------------------------------------- what is claimed


def test_the_page_of_events_is_up_to_date() -> None:
    assert docs_events.PAGE.read_text("utf-8") == docs_events.render(), "Run python tests/docs_events.py."


def test_constants_have_the_values_that_the_pages_give() -> None:
    stated = [(page.name, *row) for page in PAGES for row in constants(page)]
    assert len(stated) >= 20
    for name, line, constant, value in stated:
        assert same(value, find(constant)), f"{name}:{line}: {constant} is {find(constant)!r}, not {value}"


def test_arguments_have_the_names_and_defaults_that_the_pages_give() -> None:
    stated = [(page.name, *table) for page in PAGES for table in signatures(page)]
    assert len(stated) >= 7
    for name, line, callable_name, arguments in stated:
        actual = parameters(callable_name)
        where = f"{name}:{line}: {callable_name}"
        assert list(arguments) == list(actual), where
        for argument, default in arguments.items():
            assert same(default, actual[argument]), f"{where}({argument}={actual[argument]!r}), not {default}"


def test_the_environment_variables_are_those_that_the_code_reads() -> None:
    read = {
        variable
        for folder in SOURCES
        for file in folder.rglob("*.py")
        for found in READ.finditer(file.read_text("utf-8"))
        for variable in found.groups()
        if variable is not None
    } - {"TERM"}
    configuration = page("docs/configuration.md")
    documented = {span for _, span in configuration.code_spans if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", span)}
    of_providers = {name for name in documented if name.endswith("_API_KEY")}
    assert documented - of_providers == read
    defaults = {
        cells[0]: cells[2] for table in configuration.tables() for _, cells in table if len(cells) == 4
    }
    assert same(defaults["`EVRT_DB`"], evrt.App().url)


def test_the_errors_and_their_exit_codes_are_those_of_the_code() -> None:
    tree = {
        name: (found.__bases__[0].__name__, found.exit_code)
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, errors.EvrtError)
    }
    tree["EvrtError"] = ("", 1)
    [stated] = [table for table in page("docs/errors.md").tables() if table[0][1][0] == "class"]
    rows = {cells[0].strip("`"): (cells[1].strip("`"), int(cells[2])) for _, cells in stated[1:]}
    assert rows == tree


def test_the_exit_codes_of_the_command_line_are_those_of_the_code() -> None:
    [stated] = [table for table in page("docs/errors.md").tables() if table[0][1][:2] == ["code", "meaning"]]
    rows = {int(cells[0]) for _, cells in stated[1:]}
    classes = [found for found in vars(errors).values() if inspect.isclass(found)]
    of_errors = {found.exit_code for found in classes if issubclass(found, errors.EvrtError)}
    assert rows == {0, boundary.UNEXPECTED, boundary.INTERRUPTED, boundary.BROKEN_PIPE} | of_errors


@pytest.mark.parametrize("name", NAMES)
def test_no_page_promises_more_than_the_code_does(name: str) -> None:
    for number, line in enumerate(page(name).lines, start=1):
        assert OVERSTATED.findall(line) == [], f"{name}:{number}"


def test_the_worked_entry_is_the_one_that_the_code_builds() -> None:
    block = next(block for block in page("docs/log-format.md").blocks if block.kind == "python")
    worked: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(block.text, worked)
    fields = json.loads(worked["entry"])
    meta = re.search(rb'"meta":(\{.*?\})', worked["entry"])
    assert meta is not None
    built = build_entry(
        **{key: value for key, value in fields.items() if key not in ("v", "prev", "meta", "payload_digest")},
        prev=bytes.fromhex(fields["prev"]),
        meta=meta[1],
        payload_digest=payload_digest(worked["salt"], worked["payload"]),
    )
    assert built == worked["entry"]
    assert leaf_hash(built).hex() == worked["leaf"]
    assert fields["payload_length"] == len(worked["payload"])


def test_the_flags_of_a_command_are_those_that_the_pages_use() -> None:
    for here in PAGES:
        shown = [
            command.text
            for block in here.blocks
            if block.kind == "console"
            for command in commands(block.text)
        ]
        for text in [span for _, span in here.code_spans] + shown:
            words = text.split()
            if words[:1] == ["evrt"] and len(words) > 1:
                assert_known_command(f"{here.name}: {text}", words[1:])


@cache
def the_command_line() -> Any:
    """Every command with its flags; making them takes as long as a hundred pages."""
    return typer.main.get_command(cli)


def assert_known_command(where: str, words: list[str]) -> None:
    """Whether the command line has such a command, with such flags."""
    command: Any = the_command_line()
    while words and hasattr(command, "commands"):
        if words[0] in command.commands:
            command = command.commands[words.pop(0)]
        elif words[0].startswith("-"):
            break
        else:
            pytest.fail(f"{where}: there is no command {words[0]}")
    known = {flag for parameter in command.params for flag in parameter.opts} | {"-h", "--help"}
    used = {word.partition("=")[0] for word in words if re.fullmatch(r"-{1,2}[a-z][\w-]*(=.*)?", word)}
    assert used <= known, f"{where}: no such flags: {used - known}"
