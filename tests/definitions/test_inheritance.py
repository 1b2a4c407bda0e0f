"""An agent inherits from its parent: what it leaves out is as its parent has it, as it is now, and never as it was."""

from __future__ import annotations

import pytest

from definitions.apps import app_with
from evrt.errors import Conflict, NotFound


async def test_a_configuration_is_laid_over_that_of_its_parent() -> None:
    """B4: parent inheritance, field by field in objects, whole otherwise."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define(
            "base",
            {
                "model": "m",
                "instructions": "Be brief.",
                "parameters": {"temperature": 0, "seed": 1},
                "tools": ["weather"],
                "limits": {"tokens_max": 100},
            },
        )
        await app.agents.define("middle", {"parameters": {"temperature": 1}}, parent="base")
        await app.agents.define(
            "support", {"tools": ["prices"], "limits": {"model_turns_max": 2}, "model": None}, parent="middle"
        )
        config = await app.agents.effective_config("support")
        assert config.instructions == "Be brief."
        assert config.parameters == {"temperature": 1, "seed": 1}
        assert [tool.name for tool in config.tools] == ["prices"]
        assert (config.limits.tokens_max, config.limits.model_turns_max) == (100, 2)
        assert config.model is None


async def test_what_a_parent_changes_its_children_have_at_once(file_url: str) -> None:
    """Fault 13, S0.25: what is kept is never out of date, whoever changed it."""
    app, _ = app_with(file_url)
    other, _ = app_with(file_url)
    async with app, other:
        await app.agents.define("base", {"instructions": "one"})
        await app.agents.define("support", {"model": "m"}, parent="base")
        for text in ("two", "three"):
            assert (await other.agents.effective_config("support")).instructions != text
            await app.agents.revise("base", {"instructions": text})
            assert (await other.agents.effective_config("support")).instructions == text
        await app.agents.activate("base", 1)
        assert (await other.agents.effective_config("support")).instructions == "one"
        other.agents.refresh()
        assert (await other.agents.effective_config("support")).instructions == "one"


async def test_a_configuration_that_has_been_read_is_kept_until_something_changes() -> None:
    """S0.25: the effective configuration is cached by agent and revision."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("base", {"instructions": "one"})
        await app.agents.define("support", {}, parent="base")
        first = await app.agents.effective_config("support")
        assert await app.agents.effective_config("support") is first
        assert await app.agents.effective_config("support", 1) is first
        await app.agents.revise("support", {"model": "m"})
        assert await app.agents.effective_config("support") is not first
        assert await app.agents.effective_config("support", 1) is first
        app.agents.refresh()
        assert await app.agents.effective_config("support", 1) is not first


async def test_inheritance_in_a_circle_is_refused_with_its_names() -> None:
    """B4: circular inheritance, also where it would come about by activating an older revision."""
    app, _ = app_with("memory://")
    async with app:
        with pytest.raises(NotFound, match="Agent a is to inherit from 'b', which has not been defined"):
            await app.agents.define("a", {}, parent="b")
        await app.agents.define("a", {})
        await app.agents.define("b", {}, parent="a")
        await app.agents.define("c", {}, parent="b")
        with pytest.raises(Conflict, match="circle: a → c → b → a"):
            await app.agents.revise("a", parent="c")
        with pytest.raises(Conflict, match="circle: a → a"):
            await app.agents.revise("a", parent="a")
        await app.agents.revise("b", parent=None)
        await app.agents.revise("a", parent="b")
        with pytest.raises(Conflict, match="circle: b → a → b"):
            await app.agents.activate("b", 1)
        with pytest.raises(Conflict, match="circle: b → a → b"):
            await app.agents.restore("b", 1)
        assert (await app.agents.get("b")).active == 2
        assert [row.type for row in await (await app.log()).read()].count("agent.activated") == 0


async def test_a_circle_that_two_would_close_at_once_is_closed_by_neither(file_url: str) -> None:
    """B4: what an edit read must still be so when it is written."""
    app, _ = app_with(file_url)
    other, _ = app_with(file_url)
    async with app, other:
        await app.agents.define("a", {})
        await app.agents.define("b", {})
        from evrt.definitions import deciding
        from evrt.definitions.deciding import Body
        from evrt.definitions.edits import Edit
        from evrt.errors import WrongVersion

        edits = [Edit(app._catalogue), Edit(other._catalogue)]
        for edit, key, parent in zip(edits, ("a", "b"), ("b", "a"), strict=True):
            body = Body(key, "", {}, parent)
            await deciding.revise(edit, await edit.agent(key), body, draft=False, if_revision=None)
        await edits[0].commit()
        with pytest.raises(WrongVersion):
            await edits[1].commit()


async def test_a_parent_needs_a_revision_that_counts() -> None:
    """B4: there is nothing to inherit from a draft."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("base", {}, draft=True)
        with pytest.raises(Conflict, match="Agent base has drafts only, revision 1"):
            await app.agents.define("support", {}, parent="base")
        await app.agents.activate("base", 1)
        await app.agents.define("support", {"model": "m"}, parent="base")
        await app.agents.retire("base")
        assert (await app.run("support", "hi")).output == "Yes."
