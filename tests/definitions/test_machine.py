"""Any sequence of changes leaves numbered revisions that never change, and the configuration that plain dicts come to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from definitions.apps import app_with
from evrt.agents.config import config_of
from evrt.errors import Conflict
from evrt.events import JsonObject
from evrt.folds.definitions import AgentDefinition

KEYS = st.sampled_from("abc")
CONFIGS: st.SearchStrategy[JsonObject] = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["m", "n", None]),
        "instructions": st.sampled_from(["x", "y"]),
        "parameters": st.dictionaries(st.sampled_from("pq"), st.integers(0, 3), max_size=2),
        "limits": st.sampled_from([{"tokens_max": 5}, {"model_turns_max": 2}]),
        "tools": st.sampled_from([["weather"], []]),
    },
)


def laid_over(below: JsonObject, above: JsonObject) -> JsonObject:
    """The model's own overlay, one level of objects, which is all that these configurations have."""
    merged = {**below, **above}
    for name in ("parameters", "limits"):
        if name in below or name in above:
            merged[name] = {**below.get(name, {}), **above.get(name, {})}  # type: ignore[dict-item]
    return merged


class Definitions(RuleBasedStateMachine):
    """An app's definitions beside plain lists and dicts of what was defined."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.app, _ = app_with("memory://")
        self.revisions: dict[str, list[tuple[JsonObject, str | None]]] = {}
        self.active: dict[str, int | None] = {}
        self.retired: set[str] = set()
        self.seen: dict[tuple[str, int], object] = {}

    def teardown(self) -> None:
        self.loop.run_until_complete(self.app.aclose())
        self.loop.close()

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def line(self, key: str, number: int) -> list[JsonObject] | None:
        """Configurations from the first ancestor down, or None where the line cannot be."""
        found: list[JsonObject] = []
        at: tuple[str, int] | None = (key, number)
        seen: set[str] = set()
        while at is not None:
            if at[0] in seen:
                return None
            seen.add(at[0])
            config, parent = self.revisions[at[0]][at[1] - 1]
            found.insert(0, config)
            if parent is None:
                return found
            active = self.active.get(parent)
            if active is None:
                return None
            at = (parent, active)
        return found

    def attempt(self, key: str, work: Any, config: JsonObject, parent: str | None, *, draft: bool) -> None:
        """Make a change that adds a revision; it has to be refused exactly where its line cannot be."""
        before = (list(self.revisions.get(key, [])), self.active.get(key))
        self.revisions.setdefault(key, []).append((config, parent))
        number = len(self.revisions[key])
        if not draft or key not in self.active:
            self.active[key] = before[1] if draft else number
        if self.line(key, number) is None or key in self.retired:
            self.revisions[key], self.active[key] = before
            if not before[0]:
                del self.revisions[key], self.active[key]
            with pytest.raises(Conflict):
                self.do(work)
        else:
            self.do(work)

    @rule(key=KEYS, config=CONFIGS, parent=st.none() | KEYS, draft=st.booleans())
    def define_or_revise(self, key: str, config: JsonObject, parent: str | None, draft: bool) -> None:
        if parent is not None and parent not in self.revisions and parent != key:
            return
        agents = self.app.agents
        if key in self.revisions:
            work = agents.revise(key, config, parent=parent, draft=draft)
        else:
            work = agents.define(key, config, parent=parent, draft=draft)
        self.attempt(key, work, config, parent, draft=draft)

    @rule(key=KEYS, number=st.integers(1, 4))
    def restore(self, key: str, number: int) -> None:
        if number <= len(self.revisions.get(key, [])):
            config, parent = self.revisions[key][number - 1]
            self.attempt(key, self.app.agents.restore(key, number), config, parent, draft=False)

    @rule(key=KEYS, new=KEYS, number=st.integers(1, 4))
    def fork(self, key: str, new: str, number: int) -> None:
        if number <= len(self.revisions.get(key, [])) and new not in self.revisions:
            config, parent = self.revisions[key][number - 1]
            work = self.app.agents.fork(key, new, revision=number)
            self.attempt(new, work, config, parent, draft=False)

    @rule(key=KEYS, number=st.integers(1, 4))
    def activate(self, key: str, number: int) -> None:
        if number > len(self.revisions.get(key, [])):
            return
        before = self.active[key]
        self.active[key] = number
        unchanged = before == number and key not in self.retired
        if self.line(key, number) is None and not unchanged:
            self.active[key] = before
            with pytest.raises(Conflict):
                self.do(self.app.agents.activate(key, number))
        else:
            self.do(self.app.agents.activate(key, number))
            self.retired.discard(key)

    @rule(key=KEYS)
    def retire(self, key: str) -> None:
        if key in self.revisions:
            self.do(self.app.agents.retire(key))
            self.retired.add(key)

    @invariant()
    def revisions_are_numbered_and_never_change(self) -> None:
        found: list[AgentDefinition] = self.do(self.app.agents.list())
        assert {agent.key for agent in found} == self.revisions.keys()
        for agent in found:
            own = [(one.config, one.parent) for one in agent.revisions if one is not None]
            assert own == self.revisions[agent.key]
            assert (agent.active, agent.retired) == (self.active[agent.key], agent.key in self.retired)
            for number, revision in enumerate(agent.revisions, start=1):
                assert revision is not None
                assert revision.number == number
                assert self.seen.setdefault((agent.key, number), revision) == revision

    @invariant()
    def the_effective_configuration_is_what_plain_dicts_come_to(self) -> None:
        for key, revisions in self.revisions.items():
            for number in range(1, len(revisions) + 1):
                line = self.line(key, number)
                if line is None:
                    continue
                merged: JsonObject = {}
                for config in line:
                    merged = laid_over(merged, config)
                assert self.do(self.app.agents.effective_config(key, number)) == config_of(merged)


TestDefinitions = Definitions.TestCase
TestDefinitions.settings = settings(max_examples=25, stateful_step_count=25)
