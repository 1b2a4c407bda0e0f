"""Bugs in journeys: what a model may call, what is kept of a state and when, and where a conversation is sent to."""

from __future__ import annotations

from mutants.mutant import mutant

T = "tests/journeys/test_journeys.py::"
PARTS = "tests/journeys/test_parts.py::"
ROUTING = "tests/journeys/test_routing.py::"
DEPLOYS = "tests/journeys/test_deploys.py::"
KILLS = "tests/journeys/test_kills.py::"
JOURNEY = "agents/journeys/journey.py"

JOURNEYS = (
    mutant(
        "a prompt that stays what it was when the run began",
        JOURNEY,
        "settings.prompt_changes = True",
        "settings.prompt_changes = False",
        f"{T}test_prompt_and_tools_are_those_of_the_step_and_change_as_soon_as_it_does",
    ),
    mutant(
        "tools that stay those of the first step",
        JOURNEY,
        "settings.tools = lambda: self.get_tools(self._now(kept))",
        "settings.tools = lambda tools=tuple(self.get_tools(self._now(kept))): tools",
        f"{T}test_prompt_and_tools_are_those_of_the_step_and_change_as_soon_as_it_does",
    ),
    mutant(
        "all tools, at every step",
        JOURNEY,
        "if not steps or state.step in steps]",
        "]",
        f"{T}test_only_the_tools_of_the_step_can_be_called",
    ),
    mutant(
        "a tool that does not know its steps when somebody else calls it",
        JOURNEY,
        "        self._check_offered(tool, before)\n",
        "",
        f"{T}test_a_tool_of_a_journey_knows_its_steps_whoever_calls_it",
    ),
    mutant(
        "a tool that is given the state itself, where an error comes after a change",
        JOURNEY,
        "        result = await change(after)\n",
        "        try:\n"
        "            result = await change(after)\n"
        "        except Exception:\n"
        "            await self._keep(ctx, kept, before, after, tool)\n"
        "            raise\n",
        f"{T}test_what_a_tool_changed_before_it_raised_is_dropped_and_all_before_that_is_kept",
    ),
    mutant(
        "a move that nobody looks at",
        JOURNEY,
        "        self._check_move(before, after)\n",
        "",
        f"{T}test_a_move_that_the_journey_does_not_have_is_refused",
    ),
    mutant(
        "checks of the step that is left, and none of the one that is entered",
        JOURNEY,
        "                if there in on\n",
        "                if there in on and False\n",
        f"{T}test_what_must_hold_of_a_step_is_checked_when_it_is_entered_and_left",
    ),
    mutant(
        "a state that is kept without being looked at",
        JOURNEY,
        "        after = self._checked_state(after)\n",
        "",
        f"{T}test_a_state_of_the_wrong_type_is_refused_with_what_is_wrong_about_it",
    ),
    mutant(
        "a change on top of one that another call has made meanwhile",
        JOURNEY,
        "        if kept.standing != standing:\n",
        "        if kept.standing != standing and False:\n",
        f"{T}test_of_calls_made_at_the_same_time_one_counts_and_the_others_are_told_so",
    ),
    mutant(
        "two beginnings at once, of which one fails its run",
        JOURNEY,
        "        except Conflict:\n",
        "        except ZeroDivisionError:\n",
        f"{T}test_two_runs_that_begin_a_journey_at_once_begin_it_once",
    ),
    mutant(
        "an end that comes again and again",
        JOURNEY,
        "ends = terminal and standing.ended is None",
        "ends = terminal",
        f"{T}test_a_journey_is_complete_when_a_tool_says_so",
    ),
    mutant(
        "an end that cannot be left",
        JOURNEY,
        "            after.is_complete = False  # It has left its end.\n",
        "            pass\n",
        f"{T}test_a_journey_that_goes_back_from_its_terminal_step_is_under_way_until_it_ends_again",
    ),
    mutant(
        "a journey that has left its end, and is not known to be under way",
        "folds/journeys.py",
        "None if event.reopened else standing.ended",
        "standing.ended",
        f"{T}test_a_journey_that_goes_back_from_its_terminal_step_is_under_way_until_it_ends_again",
    ),
    mutant(
        "no answer to a closing phrase in the middle of a journey",
        JOURNEY,
        "if standing.ended is not None and is_closing(",
        "if is_closing(",
        f"{T}test_a_journey_ends_at_its_terminal_step_and_answers_a_closing_phrase_with_nothing",
    ),
    mutant(
        "a closing phrase that closes whatever comes after it",
        "agents/journeys/closing.py",
        "return bool(words) and whole[-1]",
        "return bool(words) and any(whole[1:])",
        f"{PARTS}test_only_a_message_that_is_nothing_else_closes_a_conversation",
    ),
    mutant(
        "a journey of each run, in place of the conversation's",
        "runtime/journeys.py",
        "return journey_stream(execution.conversation or execution.run, self.name)",
        "return journey_stream(execution.run, self.name)",
        f"{T}test_state_is_kept_by_conversation_and_journey_from_run_to_run",
    ),
    mutant(
        "one state for all journeys of a conversation",
        "runtime/journeys.py",
        "digest_of([owner, name])",
        "digest_of([owner])",
        f"{T}test_state_is_kept_by_conversation_and_journey_from_run_to_run",
    ),
    mutant(
        "a change written whatever another run has made of the journey meanwhile",
        "runtime/journeys.py",
        "await self._facts.append(self.stream, standing.version, drafts, written)",
        "self._facts.record(drafts, written)",
        f"{T}test_of_two_runs_at_once_the_one_that_comes_too_late_is_told_so_and_goes_on_with_what_is_there",
    ),
    mutant(
        "a conflict after which nobody looks again",
        "runtime/journeys.py",
        "            await self.load()\n            raise Conflict",
        "            raise Conflict",
        f"{T}test_of_two_runs_at_once_the_one_that_comes_too_late_is_told_so_and_goes_on_with_what_is_there",
    ),
    mutant(
        "a change written a second time when the run is executed again",
        "runtime/journeys.py",
        '        known = await execution.recorded(identity, "journey", digest)\n'
        "        if known is not None and known.outcome is not None:\n"
        "            written = known.outcome.event\n",
        '        known = await execution.recorded(identity, "journey", digest)\n'
        "        if execution.writer is None and known is not None and known.outcome is not None:\n"
        "            written = known.outcome.event\n",
        f"{KILLS}test_ten_turns_cut_off_at_appends_all_over_come_to_the_same_and_replay",
    ),
    mutant(
        "how a journey stands, read anew when the run is executed again",
        "runtime/journeys.py",
        "            event = known.outcome.event\n        else:\n            event = JourneyRecalled(",
        "            event = JourneyRecalled(operation=identity, digest=digest, journey=self.name)\n"
        "        else:\n            event = JourneyRecalled(",
        f"{KILLS}test_ten_turns_cut_off_at_appends_all_over_come_to_the_same_and_replay",
    ),
    mutant(
        "a state that does not fit, which fails its run",
        JOURNEY,
        "            raise kept.refuse(what) from error\n",
        "            raise UsageError(what) from error\n",
        f"{DEPLOYS}test_a_step_that_is_no_longer_there_parks_the_run_and_loses_nothing",
    ),
    mutant(
        "a change that takes away what the class no longer knows",
        "folds/journeys.py",
        "state = {**(standing.state or {}), **event.patch}",
        "state = dict(event.patch)",
        f"{DEPLOYS}test_a_state_with_a_new_field_and_without_an_old_one_takes_up_what_was_kept",
    ),
    mutant(
        "a state that is trusted again in the next run",
        "runtime/journeys.py",
        "        if event.untrusted:\n",
        "        if event.untrusted and False:\n",
        f"{T}test_a_state_that_came_of_what_nobody_answers_for_is_not_trusted_in_the_next_run_either",
    ),
    mutant(
        "a value that opens a paragraph of the prompt",
        "agents/journeys/templates.py",
        'LINE_ENDS.sub(" ", str(value.value if isinstance(value, Enum) else value))',
        "str(value.value if isinstance(value, Enum) else value)",
        f"{PARTS}test_a_value_can_open_no_paragraph_of_the_prompt",
    ),
    mutant(
        "a missing variable that is left empty",
        "agents/journeys/templates.py",
        "        if missing:\n",
        "        known |= dict.fromkeys(missing, '')\n        if not known and missing:\n",
        f"{PARTS}test_a_missing_variable_is_an_error_that_names_it_and_those_there_are",
    ),
    mutant(
        "sets in the order of the process",
        "agents/journeys/state.py",
        "            return sorted(jsonable, key=repr)\n",
        "            return list(jsonable)\n",
        f"{PARTS}test_sets_are_written_in_the_same_order_by_every_process",
    ),
    mutant(
        "a conversation that is routed anew with every message",
        "agents/journeys/routing.py",
        "        if known is not None and known[1]:\n",
        "        if known is not None and known[1] and False:\n",
        f"{ROUTING}test_a_model_chooses_the_journey_and_the_conversation_stays_there",
    ),
    mutant(
        "a journey that has ended, and is stayed with",
        "agents/journeys/routing.py",
        ".load()).ended is None",
        ".load()).ended is not self",
        f"{ROUTING}test_a_journey_that_has_ended_is_left_and_begins_anew_when_it_is_chosen_again",
    ),
    mutant(
        "a guess that counts however uncertain it is",
        "agents/journeys/routing.py",
        "detected.confidence >= self.confidence_min",
        "detected.confidence >= 0",
        f"{ROUTING}test_a_guess_that_is_not_certain_enough_does_not_count_and_a_default_does",
    ),
    mutant(
        "a tool call of the router's model that nobody answers",
        "agents/journeys/routing.py",
        "for call in reply.tool_calls]",
        "for call in reply.tool_calls[:1]]",
        f"{ROUTING}test_every_call_of_the_router_s_model_is_answered_so_that_the_history_can_be_sent_again",
    ),
    mutant(
        "calls of one reply that are made at the same time",
        JOURNEY,
        "        settings.one_at_a_time = True\n",
        "",
        f"{T}test_tools_called_at_once_change_the_state_one_after_another",
    ),
    mutant(
        "a journey that begins anew in the middle of a long turn",
        JOURNEY,
        "anew = self.restart and ctx.state is None",
        "anew = self.restart",
        f"{ROUTING}test_a_long_turn_goes_on_with_its_journey_in_another_chapter",
    ),
    mutant(
        "a conversation that is routed anew in the middle of a long turn",
        "agents/journeys/routing.py",
        "if ctx.state is not None and (chosen",
        "if ctx.state is self and (chosen",
        f"{ROUTING}test_a_long_turn_goes_on_with_its_journey_in_another_chapter",
    ),
    mutant(
        "a journey that is routed to, and is not told what was said before",
        "agents/journeys/routing.py",
        "await route.journey.execute(ctx, input)",
        "await ctx.call(route.journey, input)",
        f"{ROUTING}test_a_journey_that_is_routed_to_knows_what_was_said_before",
    ),
)
