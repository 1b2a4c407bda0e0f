"""Runs that wait: what for, the commands to go on with, and those commands: answer, approve, deny, signal, settle."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import cast

from evrt.cli.details import called, options_text
from evrt.cli.documents import divergence, waits, worker
from evrt.cli.lanes import behind_text
from evrt.cli.output import note, on_terminal, out, out_json
from evrt.cli.place import Place, require_log
from evrt.cli.text import json_or_text, listed, local_time, one_line, rfc3339, short
from evrt.errors import InvalidInput, UsageError
from evrt.events import JsonValue
from evrt.events.calls import ApprovalRequested, QuestionAsked, ToolCallRequested
from evrt.folds.journal import Operation
from evrt.folds.waits import OpenWait, open_waits
from evrt.history import Run, load_run, resolve_run
from evrt.inbox import answer_question, decide_approval, settle_write, signal_run, verdict
from evrt.log import Log, open_log
from evrt.runtime.answers import checked_answer
from evrt.seal import Redact, admit
from evrt.secret_patterns import redact_secrets

DETAILS_CHARACTERS_MAX = 4_000
"""Of what is to be approved much is shown: what is cut would be approved unseen."""

# ------------------------------------------------------------------------------------------------ hints


def wait_texts(run: Run) -> list[str]:
    """Everything that a run waits for: first what a person can do something about."""
    others = (wait for wait in open_waits(run.journal) if wait.reason in ("signal", "timer"))
    children = [one_line(_child_text(run, identity)) for identity in _waits_for_children(run)]
    return [*map(wait_text, waits(run)), *map(_other_text, others), *children]


def wait_text(operation: Operation) -> str:
    """What one operation waits for of a person, in one line: a model may have written it, and could fake another."""
    return one_line(_wait_text(operation))


def _wait_text(operation: Operation) -> str:
    intent = operation.intent.event if operation.intent is not None else None
    until = "" if operation.due is None else f" (until {_time_text(operation.due)})"
    if isinstance(intent, QuestionAsked):
        options = options_text(intent.options, intent.descriptions)
        return f"{operation.identity} asks: {intent.question}{options}{until}"
    if isinstance(intent, ApprovalRequested):
        details = "" if intent.details is None else f" {short(intent.details, DETAILS_CHARACTERS_MAX)}"
        return f"{operation.identity} asks for leave: {intent.action}{details}{until}"
    if isinstance(intent, ToolCallRequested):
        return (
            f"{operation.identity} is in doubt: {called(intent.tool, intent.arguments)} was cut off, and nobody knows "
            "whether it happened."
        )
    return f"{operation.identity} waits."


def _other_text(wait: OpenWait) -> str:
    if wait.reason == "timer":
        return f"{wait.operation} sleeps until {_time_text(wait.due or 0)}."
    until = "" if wait.due is None else f", until {_time_text(wait.due)} at most"
    return f"{wait.operation} waits for the signal {wait.signal}{until}."


def _waits_for_children(run: Run) -> list[str]:
    return [] if run.state.ended else run.journal.waiting_for_child()


def _child_text(run: Run, identity: str) -> str:
    child = run.journal.started[identity]
    target = run.journal.children.get(child)
    return f"{identity} waits for its child {child}{f' ({target})' if target else ''}, which has not ended."


def _time_text(time: int) -> str:
    return local_time(time) if on_terminal(sys.stderr) else rfc3339(time)


def hints(place: Place, run: Run) -> list[str]:
    """The commands that let a run go on, each with a word on when to use it; none where it has ended."""
    if run.state.ended:
        return []
    waiting = waits(run)
    commands = [one for operation in waiting for one in _commands(place, run, operation, len(waiting) > 1)]
    others = open_waits(run.journal) if run.state.status == "waiting" else []
    signals = dict.fromkeys(wait.signal for wait in others if wait.signal is not None)
    commands += [(place.command("runs", "signal", run.id, name, "PAYLOAD"), "") for name in signals]
    children = [run.journal.started[identity] for identity in _waits_for_children(run)]
    if children:
        commands.append((place.command("worker"), "executes the children, and then this run"))
        commands += [
            (place.command("runs", "resume", child), "executes this child here") for child in children
        ]
    due = min((wait.due for wait in others if wait.due is not None), default=None)
    if commands:
        when = "then" if due is None else f"then, or from {_time_text(due)} on"
    elif due is not None:
        when = f"from {_time_text(due)} on"
    elif run.state.status == "running":
        when = f"if {worker(run)} is at it no longer"
    else:
        when = "with the right code" if divergence(run) else "now"
    commands.append((place.command("runs", "resume", run.id), when))
    characters = max(len(command) for command, _ in commands)
    return [
        f"  {command.ljust(characters)}  {f'# {when}' if when else ''}".rstrip() for command, when in commands
    ]


def _commands(place: Place, run: Run, operation: Operation, several: bool) -> list[tuple[str, str]]:
    identity = operation.identity
    if operation.kind == "question":
        which = ["--operation", identity] if several else []
        first, others = _answers(operation)
        return [(place.command("runs", "answer", run.id, first, *which), others)]
    if operation.kind == "approval":
        which = ["--operation", identity] if several else []
        requested = operation.intent.event if operation.intent is not None else None
        shown = requested.shown_digest if isinstance(requested, ApprovalRequested) else None
        this = [] if shown is None else ["--digest", shown]
        return [
            (place.command("runs", "approve", run.id, *which, *this), "granted"),
            (place.command("runs", "deny", run.id, *which, "--reason", "WHY NOT"), "denied"),
        ]
    settle = ["runs", "settle", run.id, identity]
    return [
        (place.command(*settle, "--result", "WHAT IT RETURNED"), "it happened"),
        (place.command(*settle, "--error", "WHAT WENT WRONG"), "it was tried and failed"),
        (place.command(*settle, "--again"), "it did not happen: make it again"),
    ]


def _answers(operation: Operation) -> tuple[str, str]:
    """An answer to give to a question, and a word on what others it takes."""
    asked = operation.intent.event if operation.intent is not None else None
    if not isinstance(asked, QuestionAsked) or not asked.options:
        return "YOUR ANSWER", ""
    first, *others = asked.options
    if not first.isprintable():
        first, others = "YOUR ANSWER", [first, *others]
    elif asked.allow_free_form is not False:
        others.append("your own words")
    return first, one_line(f"or {listed(others, 'or')}") if others else ""


# --------------------------------------------------------------------------------------------- commands


async def answer(
    place: Place, name: str, given: str, *, operation: str | None, by: str | None, as_json: bool
) -> None:
    """Append the answer to a run's question."""
    log, redact, _ = await _open(place)
    async with aclosing(log):
        run = await load_run(log, await resolve_run(log, name))
        value = admit(_read(run, operation, given), redact)
        answered = await answer_question(
            log, run.id, value, operation=operation, by=_shown(by, redact), check=checked_answer
        )
        behind = await behind_text(log, run.id)
    if as_json:
        out_json({"run": run.id, "operation": answered, "answer": value})
        return
    out(f"{run.id}: {answered} is answered.")
    _say_how_to_go_on(place, run.id, behind)


def _say_how_to_go_on(place: Place, run: str, behind: str | None) -> None:
    if behind is not None:
        note(f"It is {behind}: a worker goes on with it when that has ended.")
    note(f"  {place.command('runs', 'resume', run)}  # to go on")


def _read(run: Run, operation: str | None, given: str) -> object:
    """What was typed, as JSON if it is JSON and the question takes that, else as text."""
    asked = [
        waiting.intent.event
        for waiting in run.journal.waiting_for_answer()
        if waiting.intent is not None and operation in (None, waiting.identity)
    ]
    if len(asked) != 1 or not isinstance(asked[0], QuestionAsked):
        return json_or_text(given)
    if asked[0].options is not None:
        return given
    value = cast(JsonValue, json_or_text(given))
    try:
        checked_answer(asked[0], value)
        return value
    except InvalidInput:
        with suppress(InvalidInput):
            return checked_answer(asked[0], given)
        return value


async def decide(
    place: Place,
    name: str,
    approved: bool,
    *,
    operation: str | None,
    reason: str | None,
    digest: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Append the decision on what a run asks leave for."""
    log, redact, _ = await _open(place)
    async with aclosing(log):
        run = await resolve_run(log, name)
        why = _shown(reason, redact)
        decided = await decide_approval(
            log, run, approved, operation=operation, by=_shown(by, redact), reason=why, digest=digest
        )
        behind = await behind_text(log, run)
    if as_json:
        out_json({"run": run, "operation": decided, "approved": approved, "reason": why})
        return
    out(f"{run}: {decided} is {'approved' if approved else 'denied'}.")
    _say_how_to_go_on(place, run, behind)


async def signal(
    place: Place, name: str, signal_name: str, given: str | None, *, by: str | None, as_json: bool
) -> None:
    """Append a signal."""
    log, redact, _ = await _open(place)
    async with aclosing(log):
        run = await resolve_run(log, name)
        payload = admit(None if given is None else json_or_text(given), redact)
        await signal_run(log, run, signal_name, payload, by=_shown(by, redact))
        waits_for_it = (await load_run(log, run)).status == "waiting"
    if as_json:
        out_json({"run": run, "signal": signal_name, "payload": payload})
        return
    out(f"{run}: the signal {signal_name} is sent.")
    if waits_for_it:
        note(f"  {place.command('runs', 'resume', run)}  # to go on")


async def settle(
    place: Place,
    name: str,
    operation: str | None,
    *,
    result: str | None,
    error: str | None,
    again: bool,
    by: str | None,
    as_json: bool,
) -> None:
    """Append what a write in doubt came to."""
    if [result is not None, error is not None, again].count(True) != 1:
        raise UsageError(
            "Say what the write came to: --result JSON if it happened, --error TEXT if it was tried and failed, "
            "--again if it did not happen and is to be made again. Exactly one of them."
        )
    log, redact, check = await _open(place)
    async with aclosing(log):
        run = await resolve_run(log, name)
        value = admit(None if result is None else json_or_text(result), redact)
        failed = None if error is None else str(admit(error, redact))
        said = verdict(completed=result is not None, result=value, error=failed, again=again)
        settled = await settle_write(log, run, operation, said, by=_shown(by, redact), check=check)
    if as_json:
        out_json(
            {"run": run, "operation": settled, "outcome": said.outcome, "result": value, "error": failed}
        )
        return
    out(f"{run}: {settled} is settled ({said.outcome}).")
    note(f"  {place.command('runs', 'resume', run)}  # to go on")


def _shown(text: str | None, redact: Redact) -> str | None:
    return None if text is None else str(admit(text, redact))


async def _open(place: Place) -> tuple[Log, Redact, Callable[[str, JsonValue], None]]:
    """The log for writing; and where an app is named, its redaction and its check of results."""
    app = place.load_app_if_named()
    url = place.existing_url() if app is None else app.url
    require_log(url)
    log = await open_log(url)
    return (
        (log, redact_secrets, lambda tool, result: None)
        if app is None
        else (log, app.redact, app.check_result)
    )
