"""A run as a person reads it, now or after one of its events."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from evrt.cli.details import detail, message_text
from evrt.cli.documents import (
    checkpoints,
    divergence,
    memory_document,
    open_operations,
    operation_document,
    run_document,
    worker,
)
from evrt.cli.lanes import behind_text
from evrt.cli.listing import STATUS_STYLES
from evrt.cli.output import note, on_terminal, out, out_json, paint
from evrt.cli.place import Place
from evrt.cli.text import ago, counted, duration, listed, local_time, pretty, rfc3339, short
from evrt.cli.waiting import hints, wait_texts
from evrt.events import JsonObject
from evrt.folds.memory import MemoryItem
from evrt.folds.run import RunState
from evrt.history import Run, find_run, memory_at

LABEL_CHARACTERS = 14
CHECKPOINTS_MAX = 10
MESSAGES_MAX = 100
"""Most that is shown of a long run, its end; ``--json`` has all."""

Field = tuple[str, str | None]
"""A label and a text; without a text there is nothing to show."""


async def show_run(place: Place, revision: str, *, as_json: bool) -> None:
    """Print what is known of a run, or of a moment of it."""
    async with place.reading() as log:
        run = await find_run(log, revision)
        head = (await log.head(run.id)).version
        names = {ref: await log.external(ref) for ref in (run.state.user, run.state.conversation) if ref}
        behind = await behind_text(log, run.id)
    if as_json:
        external = {"user_name": run.state.user, "conversation_name": run.state.conversation}
        out_json(run_document(run, head) | {key: names.get(ref or "") for key, ref in external.items()})
        return
    _out_heading(run, head)
    out_fields(_fields(run, names))
    if len(run.events) == head:
        if behind is not None:
            out(paint(f"\nIt is {behind}, and goes on only when that has ended.", "yellow"))
        for text in wait_texts(run):
            out(paint(f"\n{text}", "yellow"))
        for hint in hints(place, run):
            note(paint(hint, "cyan", sys.stderr))


async def show_moment(place: Place, revision: str, *, as_json: bool) -> None:
    """Print a run as it was: its state, what had been said, what it remembered, what was under way."""
    async with place.reading() as log:
        run = await find_run(log, revision)
        head = (await log.head(run.id)).version
        memory = await memory_at(log, run)
    if as_json:
        out_json(_moment_document(run, head, memory))
        return
    _out_heading(run, head)
    saved = checkpoints(run)
    out_section(
        "state",
        [paint(line) for line in pretty(run.state.state).splitlines()] if saved else [],
        "no checkpoint has been saved",
    )
    messages = run.messages
    out_section("messages", message_lines(messages[-MESSAGES_MAX:]), "nothing has been said")
    if len(messages) > MESSAGES_MAX:
        note(f"The last {MESSAGES_MAX} of {len(messages)} messages; --json has all.")
    out_section("memory", _memory_lines(memory), "nothing is remembered")
    out_section("open", [_open_line(run, o.identity) for o in open_operations(run)], "nothing is under way")


# --------------------------------------------------------------------------------------------- one run


def _out_heading(run: Run, head: int) -> None:
    at = len(run.events)
    name = run.id if at == head else f"{run.id}@{at} of {head}"
    status = run.state.status
    last = run.events[-1]
    out(
        f"{paint(name, 'bold')}  {paint(status, STATUS_STYLES.get(status, ''))}  "
        f"{paint(f'{time_text(last.time)}, {last.type}', 'dim')}"
    )


def _fields(run: Run, names: dict[str, str | None]) -> list[Field]:
    state = run.state
    failure = None if state.failure is None else f"{state.failure.error_type}: {state.failure.message}"
    return [
        ("target", f"{state.target} ({state.kind})" if state.target else "(erased)"),
        ("child of", _parent(run)),
        ("asked for", time_text(state.requested_at)),
        ("took", _took(state)),
        ("conversation", ref_text(state.conversation, names)),
        ("user", ref_text(state.user, names)),
        ("claimed by", f"{worker(run)}, epoch {state.epoch}" if state.epoch else None),
        ("events", f"{state.events}, up to position {state.position} of the log"),
        ("operations", _operations(run)),
        ("tokens", _tokens(state)),
        ("cost", None if state.cost_usd is None else f"{state.cost_usd:.6f} USD"),
        ("checkpoints", _checkpoints(run)),
        ("chapters", _chapters(run)),
        ("digest", run.digest),
        ("input", pretty(state.input)),
        ("output", None if state.output is None else pretty(state.output)),
        ("failure", failure),
        ("cancelled", state.reason if state.status == "cancelled" else None),
        ("diverged", divergence(run)),
    ]


def _parent(run: Run) -> str | None:
    if run.state.parent is None:
        return None
    root = run.journal.kin.get("root", run.state.parent)
    return run.state.parent if root == run.state.parent else f"{run.state.parent}, below {root}"


def _chapters(run: Run) -> str | None:
    """How often the code has begun anew, and since when its operations count."""
    if not run.journal.continued:
        return None
    return f"{len(run.chapters)}, the last from @{run.journal.continued} on"


def _checkpoints(run: Run) -> str | None:
    saved = [f"{name or '(no name)'} @{at}" for at, name, _ in checkpoints(run)]
    earlier = len(saved) - CHECKPOINTS_MAX
    shown = [f"({earlier} earlier)", *saved[earlier:]] if earlier > 0 else saved
    return ", ".join(shown) or None


def _operations(run: Run) -> str:
    operations = run.journal.operations.values()
    kinds = Counter(operation.kind.replace("_", " ") for operation in operations)
    still_open = sum(operation.open for operation in operations)
    each = listed([counted(count, kind) for kind, count in sorted(kinds.items())]) or "none"
    return f"{each}{f'; {still_open} open' if still_open else ''}"


def _tokens(state: RunState) -> str | None:
    if not (state.input_tokens or state.output_tokens):
        return None
    return f"{state.input_tokens} in, {state.output_tokens} out"


def _took(state: RunState) -> str | None:
    if state.requested_at is None or state.changed_at is None or not state.ended:
        return None
    return duration((state.changed_at - state.requested_at) / 1_000_000)


def ref_text(ref: str | None, names: dict[str, str | None]) -> str | None:
    if ref is None:
        return None
    return f"{names[ref]} ({ref})" if names.get(ref) else ref


def time_text(time: int | None) -> str:
    if time is None:
        return "(erased)"
    return f"{local_time(time)} ({ago(time)})" if on_terminal(sys.stdout) else rfc3339(time)


def out_fields(fields: Iterable[Field]) -> None:
    for label, text in fields:
        if text is not None:
            first, *rest = text.splitlines() or [""]
            out(f"  {paint(label.ljust(LABEL_CHARACTERS), 'dim')}{paint(first)}")
            for line in rest:
                out(f"  {' ' * LABEL_CHARACTERS}{paint(line)}")


# -------------------------------------------------------------------------------------------- a moment


def _moment_document(run: Run, head: int, memory: dict[str, dict[str, MemoryItem]]) -> JsonObject:
    return {
        "run": run.id,
        "at": len(run.events),
        "head": head,
        "position": run.state.position,
        "time": rfc3339(run.events[-1].time),
        "status": run.state.status,
        "state": run.state.state,
        "messages": run.messages,
        "memory": memory_document(memory),
        "open_operations": [operation_document(operation) for operation in open_operations(run)],
    }


def out_section(name: str, lines: Sequence[str], nothing: str) -> None:
    out(f"\n{paint(name, 'bold')}")
    for line in lines or [paint(f"({nothing})", "dim")]:
        out(f"  {line}")


def message_lines(messages: Iterable[JsonObject]) -> list[str]:
    lines = []
    for message in messages:
        content = message.get("content")
        text = (
            content if isinstance(content, str) and not message.get("tool_calls") else message_text(message)
        )
        first, *rest = text.splitlines() or [""]
        lines.append(f"{paint(str(message.get('role')).ljust(LABEL_CHARACTERS - 2), 'cyan')}{paint(first)}")
        lines += [f"{' ' * (LABEL_CHARACTERS - 2)}{paint(line)}" for line in rest]
    return lines


def _memory_lines(memory: dict[str, dict[str, MemoryItem]]) -> list[str]:
    return [
        f"{paint(f'{scope}:{key}', 'cyan')} = {paint(short(item.value))}  "
        f"{paint(f'version {item.version}', 'dim')}"
        for scope, items in memory.items()
        for key, item in sorted(items.items())
    ]


def _open_line(run: Run, identity: str) -> str:
    operation = run.journal.operations[identity]
    gist = detail(operation.intent.event) if operation.intent is not None else ""
    doubt = paint("  in doubt", "red") if operation.in_doubt else ""
    return f"{paint(identity, 'cyan')}  {paint(gist)}{doubt}"
