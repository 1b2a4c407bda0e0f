"""Bugs in what an agent does through others: sub-agents, clients, toolgroups, MCP servers, loops of somebody's own."""

from __future__ import annotations

from mutants.mutant import mutant

SUB_AGENTS = "tests/agents/test_sub_agents.py::"
CLIENT = "tests/agents/test_client_tools.py::"
GROUPS = "tests/agents/test_toolgroups.py::"
CLASSES = "tests/agents/test_class_agents.py::"
MCP = "tests/mcp_tools/test_mcp.py::"
DOUBT = "tests/runtime/test_effects.py::test_a_tool_that_cannot_tell_whether_its_write_happened_is_in_doubt_and_no_other"
TRUST = SUB_AGENTS + "test_a_sub_agent_of_a_run_that_is_not_trusted_is_not_trusted_either"

DELEGATING = (
    mutant(
        "a handoff that leaves the last word to whoever handed over",
        "agents/sub_agents.py",
        'control.handed_off = HandedOff(sub_agent.key, "" if output is None else output)',
        "pass",
        SUB_AGENTS + "test_a_handoff_has_the_last_word",
    ),
    mutant(
        "a conversation that nobody can hand back",
        "agents/sub_agents.py",
        "if isinstance(output, dict) and HANDED_BACK in output:",
        "if False:",
        SUB_AGENTS + "test_whoever_was_handed_the_conversation_may_hand_it_back",
    ),
    mutant(
        "two handoffs at once",
        "agents/sub_agents.py",
        "if control.handing_off_to is not None:",
        "if False:",
        SUB_AGENTS + "test_two_handoffs_at_once_are_one_and_an_error",
    ),
    mutant(
        "a circle of agents that goes one deeper",
        "agents/sub_agents.py",
        "if len(above) > self.nesting_max:",
        "if len(above) > self.nesting_max + 1:",
        SUB_AGENTS + "test_agents_that_ask_one_another_in_a_circle_come_to_an_end",
    ),
    mutant(
        "instructions that a sub-agent is told",
        "agents/sub_agents.py",
        'if message.get("role") == "system":',
        "if False:",
        SUB_AGENTS + "test_calls_without_their_results_and_instructions_are_not_shared",
    ),
    mutant(
        "a call that has its result by an id of later on",
        "agents/sub_agents.py",
        'results = takewhile(lambda after: after.get("role") == "tool", following)',
        'results = (after for after in following if after.get("role") == "tool")',
        SUB_AGENTS + "test_a_call_is_not_answered_by_a_later_one_of_its_id",
    ),
    mutant(
        "a child that is trusted though its parent is not",
        "runtime/children.py",
        '"untrusted": tuple(execution.untrusted),',
        '"untrusted": (),',
        TRUST,
    ),
    mutant(
        "a parent that trusts what its child says",
        "runtime/children.py",
        'execution.untrusted.setdefault(f"child:{self.target}")',
        "pass",
        TRUST,
    ),
    mutant(
        "a client that may answer twice",
        "inbox.py",
        "still = [one.identity for one in calls if one in waiting]",
        "still = [one.identity for one in calls]",
        CLIENT + "test_a_result_is_for_a_call_that_waits_and_each_takes_one",
    ),
    mutant(
        "a client whose error is taken for a result",
        "runtime/client_calls.py",
        'if isinstance(answer, dict) and answer.keys() == {"error"}:',
        "if False:",
        CLIENT + "test_what_a_client_could_not_do_is_an_error_the_model_reads",
    ),
    mutant(
        "a client that is trusted like the operator",
        "runtime/in_run.py",
        "if not tool.trusted:",
        "if False:",
        CLIENT + "test_what_a_client_sends_makes_the_run_distrusted_unless_it_is_trusted",
    ),
    mutant(
        "a run's choice of tools that its agent's groups are added to",
        "agents/toolgroups.py",
        "choices = [*(choice for choice in choices if isinstance(choice, Tool)), *ctx.toolgroups]",
        "choices = [*choices, *ctx.toolgroups]",
        GROUPS + "test_a_run_has_groups_of_its_own_choice_in_place_of_its_agents",
    ),
    mutant(
        "a run's choice of tools that those it calls have too",
        "runtime/context.py",
        "if requested is None or requested.target != self.target:",
        "if requested is None:",
        GROUPS + "test_the_choice_of_a_run_is_its_own_and_not_of_those_it_calls",
    ),
    mutant(
        "a tool that is named beside its group",
        "agents/toolgroups.py",
        "if choice in seen or (slash and group in whole):",
        "if choice in seen:",
        GROUPS + "test_what_is_unknown_or_there_twice_is_refused_by_name",
    ),
    mutant(
        "a debug mode that keeps the exception",
        "app.py",
        "if self.debug and ending.error is not None:",
        "if False:",
        CLASSES + "test_in_debug_an_exception_of_the_code_comes_through_once_it_is_recorded",
    ),
    mutant(
        "a replay that has forgotten the app's model",
        "replaying.py",
        "models=no_model, on_delta=None,",
        "models=no_model, default_model=None, on_delta=None,",
        CLASSES + "test_an_agent_without_a_model_of_its_own_is_replayed_with_the_apps",
    ),
    mutant(
        "an unknown outcome that is taken for a failure",
        "runtime/tool_calls.py",
        'self._unknown = execution.failure("unknown", str(error) or "unknown").message',
        "return self._raised(error, began)",
        DOUBT,
    ),
    mutant(
        "a broken connection that is taken for a failure",
        "effects/mcp/connection.py",
        "if error.code in (CONNECTION_CLOSED, PARSE_ERROR, REQUEST_TIMEOUT) or attempt.status >= 500:",
        "if error.code in (PARSE_ERROR, REQUEST_TIMEOUT) or attempt.status >= 500:",
        MCP + "test_a_process_that_dies_in_a_call_is_started_again_and_only_a_write_is_in_doubt",
    ),
    mutant(
        "a server that has gone and is asked again",
        "effects/mcp/transports.py",
        "async def __anext__(self) -> Any:\n        try:\n            return await self._stream.__anext__()\n"
        "        except BaseException:\n            self._gone()\n",
        "async def __anext__(self) -> Any:\n        try:\n            return await self._stream.__anext__()\n"
        "        except BaseException:\n",
        MCP + "test_a_process_that_died_while_nobody_asked_it_is_started_again_and_ended_with_the_app",
    ),
    mutant(
        "a lost answer that is taken for a request that never left",
        "effects/mcp/transports.py",
        'if attempt is not None and request.method == "POST" and not attempt.status:',
        "if attempt is not None:",
        MCP + "test_only_a_request_that_found_no_connection_at_all_counts_as_not_sent",
    ),
    mutant(
        "tools that nobody allowed",
        "agents/mcp.py",
        'if self._allow == "*" or tool["name"] in self._allow',
        "if True",
        MCP + "test_what_a_server_returns_is_recorded_and_a_replay_connects_to_nobody",
    ),
    mutant(
        "an idempotent write without its key",
        "agents/mcp.py",
        "return replace(tool, takes_key=True, retry=CALL_RETRY)",
        "return replace(tool, retry=CALL_RETRY)",
        MCP + "test_a_process_that_dies_in_a_call_is_started_again_and_only_a_write_is_in_doubt",
    ),
    mutant(
        "a server whose descriptions are trusted",
        "agents/mcp.py",
        "if not self.trusted:",
        "if False:",
        MCP + "test_what_a_server_says_makes_the_run_distrusted_unless_it_is_trusted",
    ),
)
