"""Agents and systems carried in and out as files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from definitions.apps import app_with, system_prompt
from definitions.test_llama_stack import SEED
from evrt.definitions.files import read_definitions, write_definitions
from evrt.errors import Conflict, InvalidInput, NotFound
from evrt.events import JsonObject

FILE = """\
agents:
  support:
    parent: base
    description: Helps.
    limits: {model_turns_max: 5}
    knowledge:
      - name: hours
        text: |
          Open from 9 to 5.

          Closed on Sundays.
    spec: Answers within a day.
  base:
    model: m
    instructions: Be kind. 72°F.
systems:
  desk:
    prefix: You work at the desk.
    members: [support]
    knowledge:
      - {name: house, text: Rules., inject: system, priority: 3}
"""


async def test_a_file_of_agents_and_systems_is_read_in_one_append() -> None:
    """B4: parents wherever they stand in the file, spec, systems with members and knowledge."""
    app, model = app_with("memory://")
    async with app:
        imported = await app.agents.import_text(FILE)
        assert (imported.defined, imported.revised, imported.unchanged) == (
            ["base", "support", "desk"],
            [],
            [],
        )
        await app.run("support", "hi")
        assert system_prompt(model).startswith(
            "You work at the desk.\n\n## house\n\nRules.\n\n---\n\nBe kind. 72°F.\n\n# Knowledge\n\n## hours\n\nOpen"
        )
        assert (await app.agents.spec("support")).text == "Answers within a day."
        assert (await app.agents.effective_config("support")).limits.model_turns_max == 5
        before = await (await app.log()).position()
        again = await app.agents.import_text(FILE)
        assert again.unchanged == ["base", "support", "desk"]
        assert await (await app.log()).position() == before


async def test_what_a_file_says_anew_is_a_new_revision() -> None:
    """B4: an import revises; members and knowledge that a system does not list any more go."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.import_text(FILE)
        changed = (
            FILE.replace("Be kind.", "Be brief.").replace("[support]", "[base]").replace("house", "home")
        )
        imported = await app.agents.import_text(changed.replace("within a day", "at once"))
        assert imported.revised == ["base", "support", "desk"]
        assert (await app.agents.get("base")).latest == 2
        assert (await app.agents.get("support")).latest == 1
        assert (await app.agents.spec("support")).number == 2
        desk = await app.systems.get("desk")
        assert [key for _, key in desk.members] == ["base"]
        assert [name for name, _ in desk.knowledge] == ["home"]


@pytest.mark.parametrize(
    "text, faults",
    [
        (
            "agents:\n  a:\n    limits:\n      model_turns_max: 0\n",
            ["agents.yaml:4: limits.model_turns_max: Input should be greater than 0"],
        ),
        (
            "agents:\n  a:\n    modle: x\n  b:\n    instructions: 1\n    limits: {timeout: soon}\n",
            [
                "agents.yaml:3: modle: there is no such field",
                "agents.yaml:5: instructions: Input should be a valid string",
                "agents.yaml:6: limits.timeout: 'soon' is not a length of time",
            ],
        ),
        ("agent: {}\n", ["agents.yaml:1: agent: there is no such field"]),
        ("- a\n", ["agents.yaml:1: Input should be an object"]),
        ("agents:\n  a: 1\n", ["agents.yaml:2: agents.a: Input should be an object"]),
        ("agents:\n  ' ': {}\n", ["agents.yaml:2: The key of an agent is a text"]),
        (
            "agents:\n  a:\n    parent: b\n",
            ["agents.yaml:2: Agent a is to inherit from 'b', which has not been"],
        ),
        (
            "agents:\n  a: {parent: b}\n  b: {parent: c}\n  c: {parent: a}\n",
            ["agents.yaml:2: inheritance would go round in a circle: a → b → c → a"],
        ),
        (
            "agents:\n  a:\n    model: m\n    agent_config: {model: m}\n",
            ["not both: model can go into extra"],
        ),
        (
            "agents:\n  a:\n    agent_config: {}\n",
            ["agents.yaml:2: The agent_config is not valid. model: Field required"],
        ),
        (
            "agents:\n  a:\n    knowledge:\n    - {name: x}\n",
            ["agents.yaml:4: knowledge.0: it has neither a text nor a file"],
        ),
        (
            "agents:\n  a:\n    knowledge:\n    - {name: x, file: y}\n",
            ["agents.yaml:4: y: files are not read here"],
        ),
        (
            "systems:\n  s:\n    members: [x]\n",
            ["agents.yaml:2: its member 'x' is defined neither in the file nor"],
        ),
        (
            "systems:\n  s:\n    knowledge:\n    - name: a\n      text: b\n      inject: c\n",
            ["agents.yaml:6: knowledge.0.inject: Input should be 'system', 'context' or 'knowledge'"],
        ),
    ],
)
async def test_every_fault_of_a_file_is_told_with_its_line_and_nothing_is_written(
    text: str, faults: list[str]
) -> None:
    """B4: validated with line numbers, all or nothing."""
    app, _ = app_with("memory://")
    good = "agents:\n  good: {model: m}\n"
    async with app:
        with pytest.raises((InvalidInput, NotFound)) as raised:
            await app.agents.import_text(text)
        lines = str(raised.value).splitlines()
        assert len(lines) == len(faults)
        for line, fault in zip(lines, faults, strict=True):
            assert fault in line
        if text.startswith("agents:\n  "):
            with pytest.raises((InvalidInput, NotFound)):
                await app.agents.import_text(good + text.removeprefix("agents:\n"))
        assert await (await app.log()).position() == 0


async def test_a_file_may_be_tried_without_being_imported() -> None:
    """B4: nothing is written, not even a name."""
    app, _ = app_with("memory://")
    async with app:
        assert (await app.agents.import_text(FILE, check_only=True)).defined == ["base", "support", "desk"]
        log = await app.log()
        assert await log.position() == 0
        assert await log.ref("agent", "support", create=False) is None


async def test_what_is_in_code_is_not_taken_from_a_file() -> None:
    """S0.25: the conflict is told with its line."""
    app, _ = app_with("memory://")
    app.agent("support", model="m")
    async with app:
        with pytest.raises(Conflict, match=r"agents\.yaml:2: The app has an agent or workflow in code"):
            await app.agents.import_text(FILE)


async def test_knowledge_is_read_from_files_beside_the_file_and_from_nowhere_else(tmp_path: Path) -> None:
    """B5: the text of a file is in the definition from then on, and is not trusted."""
    app, model = app_with("memory://")
    folder = tmp_path / "definitions"
    folder.mkdir()
    (folder / "guide.md").write_text("Grüße: 72°F.", "utf-8")
    (tmp_path / "secret.md").write_text("Secret.", "utf-8")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "latin.md").write_bytes(b"\xe9")

    def file(name: str) -> str:
        return f"agents:\n  a:\n    model: m\n    knowledge:\n    - name: guide\n      file: {name}\n"

    async with app:
        await app.agents.import_text(file("guide.md"), folder=folder)
        await app.run("a", "hi")
        assert "Quoted from guide." in system_prompt(model)
        assert "Grüße: 72°F." in system_prompt(model)
        for name, text in (
            ("../secret.md", "lies outside of the folder"),
            (str(tmp_path / "secret.md"), "lies outside of the folder"),
            ("link.md", "lies outside of the folder"),
            ("missing.md", "cannot be read: No such file"),
            ("latin.md", "is not text in UTF-8"),
        ):
            with pytest.raises(InvalidInput, match=text) as raised:
                await app.agents.import_text(file(name), folder=folder)
            assert str(raised.value).startswith(f"agents.yaml:6: {name}: it")
        (folder / "guide.md").unlink()
        exported = await app.agents.export_text(["a"])
        other, _ = app_with("memory://")
        async with other:
            await other.agents.import_text(exported)
            assert await other.agents.export_text() == exported


async def test_agents_are_exported_with_what_they_inherit_from_and_their_systems() -> None:
    """B4: whole agents, with inheritance and systems; drafts, retired ones and those of llama-stack as well."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.import_text(FILE)
        await app.agents.define("seed", SEED, format="llama-stack")
        await app.agents.define("draft", {}, draft=True, name="A draft")
        await app.agents.define("old", {})
        await app.agents.retire("old")
        some: Any = read_definitions(await app.agents.export_text(["support"], as_json=True), "a.json").value
        assert list(some["agents"]) == ["base", "support"]
        assert list(some["systems"]) == ["desk"]
        whole: Any = read_definitions(await app.agents.export_text(), "a.yaml").value
        assert whole["agents"]["seed"] == {"agent_config": SEED}
        assert whole["agents"]["draft"] == {"name": "A draft", "draft": True}
        assert whole["agents"]["old"] == {"retired": True}
        assert list((await _carried(app, "support"))["systems"]) == ["desk"]
        assert "systems" not in await _carried(app, "base")
        with pytest.raises(NotFound, match="No agent 'x'"):
            await app.agents.export_text(["x"])
        other, _ = app_with("memory://")
        async with other:
            await other.agents.import_text(await app.agents.export_text())
            assert (await other.agents.get("old")).retired
            assert (await other.agents.get("draft")).active is None
            assert await other.agents.export_text() == await app.agents.export_text()


async def _carried(app: Any, key: str) -> Any:
    return read_definitions(await app.agents.export_text([key]), "a.yaml").value


KEYS = ["a", "b", "c", "d 1", "é"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "model": st.none() | TEXT,
        "instructions": TEXT,
        "parameters": st.dictionaries(TEXT, st.integers(0, 9) | st.none() | TEXT, max_size=2),
        "memory_enabled": st.booleans(),
        "tools": st.sampled_from([[], ["x"], ["x", {"name": "y", "confirm": True}]]),
        "limits": st.sampled_from([{}, {"tokens_max": None}, {"model_turns_max": 3, "wall_clock": "2m"}]),
        "extra": st.dictionaries(st.sampled_from(["x", "y"]), TEXT, max_size=2),
        "spec": TEXT,
        "name": st.text("abc", min_size=1),
        "description": TEXT,
        "draft": st.booleans(),
        "retired": st.booleans(),
    },
)


@st.composite
def files(draw: st.DrawFn) -> JsonObject:
    """A file whose agents inherit from those before them."""
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=5))
    agents: dict[str, Any] = {}
    for key in keys:
        agents[key] = draw(CONFIG)
        parents = [one for one, agent in agents.items() if one != key and not agent.get("draft")]
        inherits: bool = draw(st.booleans())
        if parents and inherits:
            agents[key]["parent"] = draw(st.sampled_from(parents))
    systems: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(["s", "t"]), unique=True)):
        members = draw(st.lists(st.sampled_from(keys), unique=True)) if keys else []
        systems[key] = {"prefix": draw(TEXT), "members": members}
    return {"agents": agents, "systems": systems}


@settings(max_examples=40)
@given(files(), st.booleans())
def test_what_is_exported_reads_as_the_same_definitions(file: JsonObject, as_json: bool) -> None:
    """B4: export of an import of an export is the export, in YAML and in JSON."""
    assume(file["agents"] or file["systems"])

    async def there_and_back() -> None:
        app, _ = app_with("memory://", redact=None)
        other, _ = app_with("memory://", redact=None)
        name = "a.json" if as_json else "a.yaml"
        async with app, other:
            await app.agents.import_text(write_definitions(file, as_json=as_json), name=name)
            exported = await app.agents.export_text(as_json=as_json)
            await other.agents.import_text(exported, name=name)
            assert await other.agents.export_text(as_json=as_json) == exported
            assert not (await app.agents.import_text(exported, name=name)).revised

    asyncio.run(there_and_back())
