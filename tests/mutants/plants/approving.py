"""Bugs in questions and their answers, in approvals, and in what keeps text from outside in its place."""

from __future__ import annotations

from mutants.mutant import mutant

ASKED = "tests/agents/test_questions.py::"
APPROVED = "tests/agents/test_approving.py::"
ATTACKED = "tests/injection/test_injection.py::test_no_attack_has_an_effect_that_no_person_has_allowed"

APPROVING = (
    mutant(
        "an option that anybody may make up",
        "runtime/answers.py",
        "if asked.allow_free_form is not False:",
        "if True:",
        f"{ASKED}test_an_answer_that_does_not_fit_is_refused_to_its_giver_and_nothing_is_written",
    ),
    mutant(
        "an empty text that is an answer",
        "runtime/answers.py",
        "if isinstance(given, str) and not given.strip():",
        "if given is ...:",
        f"{ASKED}test_an_answer_that_does_not_fit_is_refused_to_its_giver_and_nothing_is_written",
    ),
    mutant(
        "a question that is asked twice",
        "agents/questions.py",
        "if key in self._came:",
        "if self._came.get(key, ...) is None:",
        f"{ASKED}test_a_repeat_gets_the_earlier_answer_even_beyond_the_limit_and_nobody_is_asked_again",
    ),
    mutant(
        "a question that is another in capital letters",
        "agents/questions.py",
        '" ".join(text.lower().split())',
        '" ".join(text.split())',
        f"{ASKED}test_a_question_is_recognised_by_its_words",
    ),
    mutant(
        "a repeat that is refused once the limit is reached",
        "agents/questions.py",
        "        if key in self._came:\n",
        "        if key in self._came and len(self._came) < self._questions.limit:\n",
        f"{ASKED}test_a_repeat_gets_the_earlier_answer_even_beyond_the_limit_and_nobody_is_asked_again",
    ),
    mutant(
        "questions that a new chapter has forgotten",
        "agents/questions.py",
        'self._came.update(state["came"])',
        "self._came.update({})",
        f"{ASKED}test_what_was_asked_survives_continuing_anew",
    ),
    mutant(
        "a marker that counts anywhere",
        "agents/markers.py",
        "if said.startswith(FINAL):",
        "if FINAL in said:",
        f"{ASKED}test_a_marker_counts_at_the_beginning_alone_and_a_question_mark_is_no_question",
    ),
    mutant(
        "a decision on whatever is asked now",
        "inbox.py",
        "if digest is not None and digest != shown:",
        "if digest is None and shown is ...:",
        f"{APPROVED}test_a_decision_on_something_else_than_was_shown_is_refused",
    ),
    mutant(
        "a call that is made with other arguments than were approved",
        "agents/calling.py",
        "approved=approved, gate=self._gate(known)",
        "gate=self._gate(known)",
        f"{APPROVED}test_a_call_that_something_in_the_loop_changes_after_the_approval_is_not_made",
    ),
    mutant(
        "a digest of the tool's name alone",
        "runtime/approvals.py",
        "return digest_of([tool, arguments])",
        "return digest_of([tool])",
        f"{APPROVED}test_a_call_whose_arguments_changed_after_the_approval_is_refused_before_its_effect",
    ),
    mutant(
        "memory that a run which was talked into it may poison",
        "agents/approving.py",
        "return policy.writes if shared else ",
        'return "never" if shared else ',
        f"{APPROVED}test_the_policy_says_which_calls_need_leave",
    ),
    mutant(
        "a tool that is trusted in spite of its errors",
        "runtime/context.py",
        "if not tool.trusted:",
        "if not tool.trusted and event.type != 'tool_call.failed':",
        f"{ATTACKED}[error of a tool-5]",
    ),
    mutant(
        "a child that is trusted once it has failed",
        "runtime/children.py",
        'execution.untrusted.setdefault(f"child:{self.target}")\n            return await _output(execution, self._ended)',
        'came = await _output(execution, self._ended)\n            execution.untrusted.setdefault(f"child:{self.target}")\n            return came',
        f"{ATTACKED}[how a child failed-5]",
    ),
    mutant(
        "a journey that trusts its state",
        "agents/journeys/templates.py",
        r'return OPENING.sub(r"\\\g<0>", text)',
        "return text",
        f"{ATTACKED}[state of a journey-5]",
    ),
    mutant(
        "a source that opens a heading",
        "agents/knowledge.py",
        'return f"## {on_one_line(one.name)} (score',
        'return f"## {one.name} (score',
        f"{ATTACKED}[source of a passage-5]",
    ),
    mutant(
        "a fence that what it quotes can end",
        "agents/knowledge.py",
        'fence = "`" * (longest + 1)',
        'fence = "`" * 3',
        f"{ATTACKED}[knowledge that is always there-5]",
    ),
    mutant(
        "a question that fakes an approval on the terminal",
        "cli/waiting.py",
        "return one_line(_wait_text(operation))",
        "return _wait_text(operation)",
        "tests/cli/test_answering.py::test_a_question_cannot_pretend_to_be_another_on_the_terminal",
    ),
)
