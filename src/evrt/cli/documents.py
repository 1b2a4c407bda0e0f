"""Runs and events as JSON documents: what ``--json`` prints. Keys are stable; times are RFC 3339, UTC."""

from __future__ import annotations

from collections import Counter
from typing import cast

from evrt.cli.text import rfc3339, rfc3339_or_none
from evrt.events import Envelope, Erased, JsonObject, JsonValue, Unknown
from evrt.events.calls import ApprovalRequested, QuestionAsked, ToolCallRequested
from evrt.events.run import CheckpointSaved, RunClaimed, RunDiverged
from evrt.folds.journal import Operation
from evrt.folds.memory import MemoryItem
from evrt.folds.run import RunState
from evrt.history import Run
from evrt.log import Recorded

TIMES = ("requested_at", "changed_at")


def state_document(state: RunState) -> JsonObject:
    """A run as a list of runs shows it."""
    document = cast(JsonObject, state.model_dump(mode="json"))
    return document | {name: rfc3339_or_none(getattr(state, name)) for name in TIMES}


def run_document(run: Run, head: int) -> JsonObject:
    """A run, or a moment of it, with everything that its history says. ``head``: events of the whole run."""
    operations = run.journal.operations.values()
    return state_document(run.state) | {
        "at": len(run.events),
        "head": head,
        "worker": worker(run),
        "digest": run.digest,
        "operations": dict(sorted(Counter(operation.kind for operation in operations).items())),
        "open_operations": [operation_document(operation) for operation in open_operations(run)],
        "waits": [wait_document(operation) for operation in waits(run)],
        "divergence": divergence(run),
        "checkpoints": [
            {"at": version, "name": name, "time": rfc3339(time)} for version, name, time in checkpoints(run)
        ],
    }


def operation_document(operation: Operation) -> JsonObject:
    """An operation that has no outcome yet."""
    since = operation.intent
    return {
        "operation": operation.identity,
        "kind": operation.kind,
        "in_doubt": operation.in_doubt,
        "attempts": operation.attempts,
        "since": None if since is None else rfc3339(since.time),
        "intent": None if since is None else event_fields(since),
    }


def wait_document(operation: Operation) -> JsonObject:
    """What a person is waited for: an answer, leave to do something, or a word on a write in doubt."""
    intent = operation.intent.event if operation.intent is not None else None
    asked = intent if isinstance(intent, QuestionAsked) else None
    called = intent if isinstance(intent, ToolCallRequested) else None
    requested = intent if isinstance(intent, ApprovalRequested) else None
    return {
        "operation": operation.identity,
        "for": {"question": "answer", "approval": "approval"}.get(operation.kind, "settlement"),
        "question": asked.question if asked else None,
        "options": list(asked.options) if asked and asked.options is not None else None,
        "descriptions": list(asked.descriptions) if asked and asked.descriptions is not None else None,
        "allow_free_form": asked.allow_free_form if asked else None,
        "answer_schema": asked.answer_schema if asked else None,
        "tool": called.tool if called else asked.tool if asked else None,
        "arguments": called.arguments if called else asked.arguments if asked else None,
        "action": requested.action if requested else None,
        "details": requested.details if requested else None,
        "digest": requested.shown_digest if requested else None,
        "due": rfc3339_or_none(operation.due),
    }


def memory_document(memory: dict[str, dict[str, MemoryItem]]) -> JsonObject:
    """Scopes, keys, items."""
    return {
        scope: {
            key: {
                **item._asdict(),
                "time": rfc3339(item.time),
                "expires_at": rfc3339_or_none(item.expires_at),
            }
            for key, item in items.items()
        }
        for scope, items in memory.items()
    }


def event_document(row: Recorded, envelope: Envelope) -> JsonObject:
    """An event with its place in the log and its proofs. ``event`` is None where it has been erased."""
    event = envelope.event
    return {
        "position": row.position,
        "stream": row.stream,
        "version": row.version,
        "time": rfc3339(row.time),
        "type": row.type,
        "event_id": row.event_id,
        "correlation": row.correlation,
        "meta": envelope.meta,
        "known": not isinstance(event, Unknown) and not isinstance(event, Erased),
        "erased": isinstance(event, Erased),
        "event": event_fields(envelope),
        "payload_length": row.payload_length,
        "payload_digest": row.payload_digest.hex(),
        "leaf": row.leaf.hex(),
    }


def event_fields(envelope: Envelope) -> JsonValue:
    """What an event holds; of an unknown type what was recorded."""
    event = envelope.event
    if isinstance(event, Erased):
        return None
    return event.state if isinstance(event, Unknown) else event.model_dump(mode="json")


def worker(run: Run) -> str | None:
    """The process that claimed the run last, as host and process id."""
    claims = [e.event.worker for e in run.events if isinstance(e.event, RunClaimed)]
    return claims[-1] if claims else None


def open_operations(run: Run) -> list[Operation]:
    """Operations that have begun and have no outcome yet."""
    return [operation for operation in run.journal.operations.values() if operation.open]


def waits(run: Run) -> list[Operation]:
    """Operations that go on only when a person answers, decides or settles."""
    if run.state.ended:
        return []
    journal = run.journal
    return [
        *journal.waiting_for_answer(),
        *journal.waiting_for_approval(),
        *journal.waiting_for_settlement(),
    ]


def divergence(run: Run) -> str | None:
    """Why the run is parked, if its code left its history."""
    if run.state.reason != "diverged":
        return None
    return [e.event.message for e in run.events if isinstance(e.event, RunDiverged)][-1]


def checkpoints(run: Run) -> list[tuple[int, str | None, int]]:
    """Version, name and time of each."""
    return [(e.version, e.event.name, e.time) for e in run.events if isinstance(e.event, CheckpointSaved)]
