"""Systems: agents that share a prefix to their prompts, and knowledge."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from definitions.apps import app_with, system_prompt
from evrt.errors import Conflict, InvalidInput, NotFound, UsageError
from runtime.logs import Ctx


async def test_the_prompt_of_a_member_begins_with_its_systems_prefix() -> None:
    """S0.23, S0.24: prefix, rule, prompt, always-on knowledge; either alone is valid too."""
    app, model = app_with("memory://")
    knowledge = [{"name": "hours", "text": "Open from 9 to 5."}]
    async with app:
        await app.systems.define("desk", prefix="You work at the desk.")
        for key, config in (
            ("both", {"model": "m", "instructions": "Be kind.", "knowledge": knowledge}),
            ("prefix only", {"model": "m"}),
            ("alone", {"model": "m", "instructions": "Be kind."}),
            ("nothing", {"model": "m"}),
        ):
            await app.agents.define(key, config)
        await app.systems.add_member("desk", "both")
        await app.systems.add_member("desk", "prefix only")
        for key, prompt in (
            (
                "both",
                "You work at the desk.\n\n---\n\nBe kind.\n\n# Knowledge\n\n## hours\n\nOpen from 9 to 5.",
            ),
            ("prefix only", "You work at the desk."),
            ("alone", "Be kind."),
            ("nothing", ""),
        ):
            run = await app.run(key, "hi")
            assert system_prompt(model) == prompt
            assert (await app.replay(run.run_id)).complete


async def test_shared_knowledge_goes_where_it_says_by_priority() -> None:
    """B6: inject system, context or knowledge; a higher priority comes first."""
    app, model = app_with("memory://")
    async with app:
        await app.systems.define("desk", prefix="Prefix.")
        await app.agents.define("support", {"model": "m", "instructions": "Prompt."})
        await app.systems.add_member("desk", "support")
        for name, inject, priority in (
            ("low", "knowledge", -1),
            ("first", "system", 0),
            ("second", "system", 0),
            ("high", "knowledge", 5),
            ("case", "context", 0),
        ):
            entry = {"name": name, "text": f"{name} text", "inject": inject, "priority": priority}
            await app.systems.set_knowledge("desk", entry)
        await app.run("support", "hi")
        messages = model.requests[-1].messages
        assert messages[0]["content"] == (
            "Prefix.\n\n## first\n\nfirst text\n\n## second\n\nsecond text\n\n---\n\nPrompt.\n\n"
            "# Knowledge\n\n## high\n\nhigh text\n\n## low\n\nlow text"
        )
        assert messages[1] == {"role": "system", "content": "# Context\n\n## case\n\ncase text"}
        assert messages[2] == {"role": "user", "content": "hi"}
        await app.systems.remove_knowledge("desk", "case")
        await app.systems.set_knowledge("desk", {"name": "low", "text": "else"})
        await app.run("support", "hi")
        assert "## low\n\nelse" in system_prompt(model)
        assert len(model.requests[-1].messages) == 2


async def test_a_run_of_an_agent_in_several_systems_says_in_which() -> None:
    """Fault 12: it is never the first one by chance."""
    app, model = app_with("memory://")
    async with app:
        for key in ("one", "two", "three"):
            await app.systems.define(key, prefix=f"Prefix {key}.")
        await app.agents.define("support", {"model": "m"})
        assert (await app.run("support", "hi")).output == "Yes."
        await app.systems.add_member("one", "support")
        await app.run("support", "hi")
        assert system_prompt(model) == "Prefix one."
        await app.systems.add_member("two", "support")
        with pytest.raises(
            UsageError, match=r"in several systems, .* say which with system=\. it is in one, two"
        ):
            await app.run("support", "hi")
        run = await app.run("support", "hi", system="two")
        assert system_prompt(model) == "Prefix two."
        state = (await app.get(run.run_id)).journal.requested
        assert state is not None
        assert (state.system, state.system_revision) == ((await app.systems.get("two")).ref, 2)
        with pytest.raises(UsageError, match="is not in system three: it is in one, two"):
            await app.run("support", "hi", system="three")
        with pytest.raises(NotFound, match=r"No system 'four' .* Defined are: one, three, two\."):
            await app.run("support", "hi", system="four")
        await app.systems.remove_member("two", "support")
        await app.run("support", "hi")
        assert system_prompt(model) == "Prefix one."


async def test_a_child_works_in_the_system_of_its_parent() -> None:
    """Fault 12: in several systems, a child is in the one that its parent is in."""
    app, model = app_with("memory://")

    @app.workflow
    async def parent(ctx: Ctx) -> Any:
        return await ctx.child("support", "hi")

    async with app:
        await app.agents.define("support", {"model": "m"})
        for key in ("one", "two"):
            await app.systems.define(key, prefix=f"Prefix {key}.")
            await app.systems.add_member(key, "support")
        run = await app.run(parent, system="two")
        [child] = [one for one in await (await app.log()).streams("run-") if one != run.run_id]
        await app.resume(child)
        assert system_prompt(model) == "Prefix two."
        lost = await app.run(parent)
        assert lost.failure is not None
        assert lost.failure.error_type == "UsageError"


async def test_what_is_in_code_can_work_in_a_system_too() -> None:
    """S0.24: an agent in code, asked for in a system."""
    app, model = app_with("memory://")
    app.agent("coded", model="m", instructions="Prompt.")
    async with app:
        await app.systems.define("desk", prefix="Prefix.")
        run = await app.run("coded", "hi", system="desk")
        assert system_prompt(model) == "Prefix.\n\n---\n\nPrompt."
        await app.systems.revise("desk", prefix="Another.")
        assert (await app.replay(run.run_id)).complete
        with pytest.raises(NotFound, match="No system 'else'"):
            await app.run("coded", "hi", system="else")


async def test_what_a_system_says_that_cannot_be_read_is_a_warning_and_the_run_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S0.24: a failed lookup of shared knowledge ends no run."""
    app, model = app_with("memory://")
    async with app:
        await app.agents.define("support", {"model": "m", "instructions": "Prompt."})
        await app.systems.define("desk", prefix="Prefix.")
        await app.systems.add_member("desk", "support")
        log = await app.log()
        [row] = [row for row in await log.read() if row.type == "system.defined"]
        await log.erase_payload(row.position)
        app.agents.refresh()
        with caplog.at_level(logging.WARNING, "evrt.definitions"):
            run = await app.run("support", "hi")
        assert run.output == "Yes."
        assert system_prompt(model) == "Prompt."
        assert "has been erased" in caplog.text
        assert (await app.replay(run.run_id)).complete


async def test_what_cannot_be_done_to_a_system_is_refused() -> None:
    """B6: each change names what is wrong with it."""
    app, _ = app_with("memory://")
    async with app:
        await app.systems.define("desk", name="Desk", description="Front.")
        await app.agents.define("support", {})
        await app.systems.add_member("desk", "support")
        before = (await app.systems.get("desk")).version
        await app.systems.add_member("desk", "support")
        await app.systems.revise("desk", name="Desk")
        assert (await app.systems.get("desk")).version == before
        for change, kind, text in (
            (app.systems.define("desk"), Conflict, "System desk has been defined already"),
            (app.systems.add_member("desk", "x"), NotFound, "No agent 'x'"),
            (app.systems.add_member("x", "support"), NotFound, "No system 'x'"),
            (app.systems.remove_knowledge("desk", "x"), NotFound, "knows nothing under the name 'x'"),
            (
                app.systems.set_knowledge("desk", {"name": "x", "text": "y", "inject": "z"}),
                InvalidInput,
                "inject",
            ),
            (app.systems.set_knowledge("desk", {"name": "x", "file": "y"}), InvalidInput, "has no text"),
        ):
            with pytest.raises(kind, match=text):
                await change
        await app.systems.remove_member("desk", "support")
        with pytest.raises(NotFound, match=r"Agent support is not in system desk\. Its members: none"):
            await app.systems.remove_member("desk", "support")
        assert [one.key for one in await app.systems.list()] == ["desk"]
