"""An agent as data has numbered revisions that never change, of which one is active."""

from __future__ import annotations

import pytest

import evrt
from definitions.apps import app_with
from evrt.errors import Conflict, InvalidInput, NotFound, UsageError


async def test_an_agent_is_defined_with_a_key_of_its_own() -> None:
    """S0.25: an agent is data: a key, a name, a description, a configuration."""
    app, _ = app_with("memory://")
    async with app:
        agent = await app.agents.define("support", {"model": "m"}, name="Support", description="Helps.")
        assert (agent.key, agent.latest, agent.active, agent.retired) == ("support", 1, 1, False)
        revision = agent.revision(1)
        assert revision is not None
        assert (revision.name, revision.description, revision.config) == ("Support", "Helps.", {"model": "m"})
        assert [one.key for one in await app.agents.list()] == ["support"]
        with pytest.raises(Conflict, match="defined already, up to revision 1: revise it"):
            await app.agents.define("support", {})
        with pytest.raises(NotFound, match=r"No agent 'helper' .* Defined are: support\."):
            await app.agents.get("helper")


async def test_what_a_configuration_cannot_have_is_refused_with_its_place() -> None:
    """S0.25, fault 54: nothing is taken that means nothing, and each fault is named."""
    app, _ = app_with("memory://")
    async with app:
        for config, text in (
            ({"modle": "m"}, "modle: Extra inputs are not permitted"),
            ({"limits": {"model_turns_max": 0}}, "limits.model_turns_max: Input should be greater than 0"),
            ({"memory_enabled": "yes"}, "memory_enabled: Input should be a valid boolean"),
            ({"extra": {"memory_enabled": "yes"}}, "extra.memory_enabled has to be true or false"),
            ({"tools": ["a", {"name": "a"}]}, "tools has a twice"),
            ({"limits": {"wall_clock": "soon"}}, "'soon' is not a length of time"),
            ({"knowledge": [{"name": "a", "text": "b", "threshold": 2}]}, "less than or equal to 1"),
            ({"knowledge": [{"name": "a"}]}, "it has neither a text nor a file"),
            (
                {"knowledge": [{"name": "a", "file": "/etc/hosts"}]},
                "names the file '/etc/hosts' and has no text",
            ),
        ):
            with pytest.raises(InvalidInput, match=text):
                await app.agents.define("support", config)
        assert await app.agents.list() == []
        for key in ("", " ", "a\nb", "x" * 2_000):
            with pytest.raises(InvalidInput, match="The key of an agent"):
                await app.agents.define(key, {})


async def test_revisions_are_numbered_and_stay_as_they_were() -> None:
    """B4: revisions, draft and active, activate, restore."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("support", {"model": "m", "instructions": "one"})
        await app.agents.revise("support", {"model": "m", "instructions": "two"})
        agent = await app.agents.revise("support", {"model": "m", "instructions": "three"}, draft=True)
        assert (agent.latest, agent.active) == (3, 2)
        agent = await app.agents.activate("support", 3)
        assert agent.active == 3
        agent = await app.agents.restore("support", 1)
        assert (agent.latest, agent.active) == (4, 4)
        texts = [one.config["instructions"] for one in agent.revisions if one is not None]
        assert texts == ["one", "two", "three", "one"]
        last = agent.revision(4)
        assert last is not None
        assert last.restored_from == 1
        agent = await app.agents.activate("support", 1)
        assert (agent.latest, agent.active) == (4, 1)


async def test_what_is_not_said_of_a_new_revision_is_as_before() -> None:
    """B4: a revision may change the name alone."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("base", {})
        await app.agents.define("support", {"model": "m"}, parent="base", description="Helps.")
        agent = await app.agents.revise("support", name="Desk")
        revision = agent.revision(2)
        assert revision is not None
        assert revision[1:5] == ("Desk", "Helps.", {"model": "m"}, "base")
        agent = await app.agents.revise("support", parent=None)
        assert agent.revisions[2] is not None
        assert agent.revisions[2].parent is None


async def test_a_revision_that_is_not_there_is_named_with_those_that_are() -> None:
    """B4: NotFound lists the revisions there are."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("support", {})
        await app.agents.revise("support", {"model": "m"})
        text = r"Agent support has revisions 1, 2; there is no revision 9\."
        for change in (
            app.agents.activate("support", 9),
            app.agents.restore("support", 9),
            app.agents.fork("support", "other", revision=9),
            app.agents.effective_config("support", 9),
            app.run("support", "hi", revision=9),
        ):
            with pytest.raises(NotFound, match=text):
                await change
        with pytest.raises(NotFound, match="there is no revision 0"):
            await app.agents.activate("support", 0)


async def test_who_revises_what_another_has_changed_is_told() -> None:
    """B4: ``if_revision`` is a Conflict where somebody else was first."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("support", {"instructions": "one"})
        await app.agents.revise("support", {"instructions": "two"}, if_revision=1)
        with pytest.raises(Conflict, match="is at revision 2, not at 1: read it again"):
            await app.agents.revise("support", {"instructions": "three"}, if_revision=1)
        with pytest.raises(Conflict, match="is at revision 2, not at 1"):
            await app.agents.activate("support", 1, if_revision=1)
        assert (await app.agents.get("support")).latest == 2


async def test_two_who_revise_at_the_same_time_make_two_revisions(file_url: str) -> None:
    """B4: of two changes none is lost, and one that asked for the state before is refused."""
    app, _ = app_with(file_url)
    other, _ = app_with(file_url)
    async with app, other:
        await app.agents.define("support", {"instructions": "one"})
        await other.agents.get("support")
        await app.agents.revise("support", {"instructions": "two"})
        await other.agents.revise("support", {"instructions": "three"})
        agent = await app.agents.get("support")
        assert [one.config["instructions"] for one in agent.revisions if one] == ["one", "two", "three"]


async def test_a_fork_is_an_agent_of_its_own() -> None:
    """B4: a fork begins as a revision of another agent, and goes its own way."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("base", {"model": "m"})
        await app.agents.define("support", {"instructions": "one"}, parent="base")
        await app.agents.revise("support", {"instructions": "two"})
        fork = await app.agents.fork("support", "copy", revision=1, name="Copy")
        assert (fork.forked_from, fork.forked_revision, fork.latest) == ("support", 1, 1)
        await app.agents.revise("support", {"instructions": "three"})
        config = await app.agents.effective_config("copy")
        assert (config.instructions, config.model) == ("one", "m")
        with pytest.raises(Conflict, match="defined already"):
            await app.agents.fork("support", "copy")


async def test_a_retired_agent_takes_no_new_runs_until_it_is_activated() -> None:
    """B4: retired is said at the request, and can be taken back."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("support", {"model": "m"})
        await app.agents.retire("support", reason="replaced", by="ann")
        with pytest.raises(Conflict, match="has been retired and takes no new runs"):
            await app.run("support", "hi")
        with pytest.raises(Conflict, match="has been retired"):
            await app.agents.revise("support", {})
        await app.agents.activate("support", 1)
        assert (await app.run("support", "hi")).output == "Yes."


async def test_a_draft_runs_only_where_its_revision_is_named() -> None:
    """B4: draft and active."""
    app, model = app_with("memory://")
    async with app:
        await app.agents.define("support", {"model": "m", "instructions": "draft"}, draft=True)
        with pytest.raises(Conflict, match="has drafts only, revision 1"):
            await app.run("support", "hi")
        run = await app.run("support", "hi", revision=1)
        assert run.output == "Yes."
        assert (await app.replay(run.run_id)).complete
        assert model.requests[-1].messages[0] == {"role": "system", "content": "draft"}


async def test_what_is_in_code_cannot_be_shadowed_by_data() -> None:
    """S0.25: code goes before data, and the conflict is said where it can be known."""
    app, _ = app_with("memory://")
    app.agent("helper", model="m")
    async with app:
        with pytest.raises(Conflict, match="in code that is named 'helper', and code goes before data"):
            await app.agents.define("helper", {})
        await app.agents.define("support", {"model": "m"})
        app.agent("support", model="m", instructions="code")
        run = await app.run("support", "hi")
        requested = (await app.get(run.run_id)).journal.requested
        assert requested is not None
        assert requested.agent is None
        with pytest.raises(UsageError, match="in the app's code, which has no revisions"):
            await app.run("support", "hi", revision=1)


async def test_the_spec_of_an_agent_is_a_text_with_revisions() -> None:
    """S0.28: GET and update of the spec document, with what it was before."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("support", {})
        with pytest.raises(NotFound, match="has no spec yet"):
            await app.agents.spec("support")
        await app.agents.set_spec("support", "Answers within a day.", by="ann")
        spec = await app.agents.set_spec("support", "Antwortet heute. 72°F", if_revision=1)
        assert (spec.number, spec.text) == (2, "Antwortet heute. 72°F")
        assert (await app.agents.spec("support", 1)).by == "ann"
        with pytest.raises(Conflict, match="is at revision 2, not at 1"):
            await app.agents.set_spec("support", "x", if_revision=1)
        with pytest.raises(NotFound, match="has revisions 1 to 2; there is no 3"):
            await app.agents.spec("support", 3)
        assert (await app.agents.get("support")).latest == 1


async def test_what_must_not_be_recorded_is_taken_out_of_definitions() -> None:
    """S0.25: a key in the instructions of an agent is in no event."""
    app, _ = app_with("memory://")
    secret = "sk-" + "a1B2" * 12
    async with app:
        await app.agents.define("support", {"instructions": f"Use {secret}."})
        await app.agents.set_spec("support", f"It uses {secret}.")
        rows = await (await app.log()).read()
        assert rows
        assert all(secret.encode() not in (row.payload or b"") for row in rows)


async def test_an_erased_revision_leaves_its_number_behind() -> None:
    """B4: numbers are never given twice, whatever has been erased."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("support", {"instructions": "one"})
        await app.agents.revise("support", {"instructions": "two"})
        log = await app.log()
        await log.erase_payload(1)
        app.agents.refresh()
        agent = await app.agents.get("support")
        assert (agent.latest, agent.active, agent.revision(1)) == (2, 2, None)
        with pytest.raises(NotFound, match="Revision 1 of agent support has been erased"):
            await app.agents.restore("support", 1)
        assert (await app.agents.revise("support", {})).latest == 3


def test_a_configuration_can_be_read_by_code_that_is_not_async(file_url: str) -> None:
    """S0.25: the sync getter."""
    app, _ = app_with(file_url)
    app.run_alone(lambda: app.agents.define("support", {"model": "n"}), "")
    assert app.agents.effective_config_sync("support").model == "n"


async def test_the_sync_getter_says_what_to_do_where_an_event_loop_runs() -> None:
    """S0.25: the sync getter would hold up the loop."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("support", {})
        with pytest.raises(UsageError, match=r"await app\.agents\.effective_config"):
            app.agents.effective_config_sync("support")


async def test_a_name_that_nobody_knows_makes_no_log(file_url: str) -> None:
    """S0.25: looking for a definition writes nothing."""
    app, _ = app_with(file_url)
    with pytest.raises(NotFound, match="no agent or workflow 'support'"):
        await app.run("support", "hi")
    assert app._log is None
    assert isinstance(app, evrt.App)
