"""A run told step by step, for people who watch it: a pure fold of its events, the same for a chat and for a task.

``RunFeed`` takes the events of one run in their order and tells a few ``RunEvent`` for some of them. Nothing is kept
anywhere but in the log, so a reader may come late, come back, and come with others: what is told, and its cursor, is the
same every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, cast

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, field_validator

from evrt.agents.markers import Final, decision
from evrt.agents.tokens import text_content
from evrt.events import Envelope, JsonObject
from evrt.events.calls import ModelCallCompleted, ModelCallRequested, QuestionAsked, ToolCallRequested
from evrt.events.run import (
    TERMINAL,
    Failure,
    RunFailed,
    RunStepLimitReached,
    RunSucceeded,
    RunTimedOut,
)
from evrt.folds.journal import Journal, Operation, established, operation_of
from evrt.folds.messages import input_messages
from evrt.folds.requests import tool_result

RUN_LEVEL = -1
"""Step of what concerns the run as a whole."""
STEP_CALL = "model"
"""Name of the model calls that are steps of the loop; those for summaries and the like have others."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RunEventType(StrEnum):
    """What is told of a run."""

    STARTED = "started"
    TIER = "tier"
    THINKING = "thinking"
    REASONING = "reasoning"
    TOOL_CALLING = "tool_calling"
    TOOL_RESULT = "tool_result"
    ASKING_USER = "asking_user"
    USER_RESPONDED = "user_responded"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    MAX_STEPS = "max_steps"
    ERROR = "error"
    FINISHED = "finished"


STATUSES = {
    "run.succeeded": "completed",
    "run.failed": "error",
    "run.timed_out": "error",
    "run.cancelled": "cancelled",
    "run.step_limit_reached": "max_steps_reached",
}
"""How a run ended, in the words of this feed."""


class RunEvent(BaseModel):
    """One thing told of a run. ``step`` counts from 0; -1 is the run as a whole. ``timestamp`` is in UTC.

    A timestamp without a time zone is refused; ``data`` is JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: RunEventType
    step: int = Field(ge=RUN_LEVEL)
    data: dict[str, JsonValue] = {}
    timestamp: AwareDatetime

    @field_validator("timestamp")
    @classmethod
    def _in_utc(cls, timestamp: datetime) -> datetime:
        return timestamp.astimezone(UTC)


class Told(NamedTuple):
    """A run's event with its cursor: the position in the log that it is told of, and its number among those told of it.

    ``model_output`` is what a model said, whole, where that is what is told of; ``answer`` what a person answered.
    """

    position: int
    number: int
    event: RunEvent
    model_output: JsonObject | None = None
    answer: Any = None

    @property
    def cursor(self) -> tuple[int, int]:
        return self.position, self.number


class RunFeed:
    """The fold: give it every event of a run, in order, and it tells what there is to tell."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.ended = False
        self._journal = Journal(run)
        self._steps = 0
        self._unsaid: tuple[int, str] | None = None
        """A text that a model said without calling a tool, and its step: reasoning, where the loop goes on after it."""

    def apply(self, envelope: Envelope) -> list[Told]:
        """What the run's next event tells."""
        if self.ended:
            return []
        known = self._journal.operations.get(operation_of(envelope.event))
        was_open = known is None or known.open
        self._journal.apply(envelope)
        now = self._journal.operations.get(operation_of(envelope.event))
        closed = now if now is not None and was_open and not now.open else None
        told = [*self._told(envelope), *([] if closed is None else self._closed(closed))]
        time = EPOCH + timedelta(microseconds=envelope.time)
        output = envelope.event.message if isinstance(envelope.event, ModelCallCompleted) else None
        answer = None if closed is None else _answer(closed)
        return [
            Told(
                envelope.position,
                number,
                RunEvent(type=kind, step=step, data=cast(dict[str, Any], data), timestamp=time),
                output,
                answer,
            )
            for number, (kind, step, data) in enumerate(told)
        ]

    def _told(self, envelope: Envelope) -> Iterator[tuple[RunEventType, int, JsonObject]]:
        event = envelope.event
        if envelope.type in TERMINAL:
            self.ended = True
            yield from self._end(envelope)
        elif envelope.type == "run.started":
            yield RunEventType.STARTED, RUN_LEVEL, {"task": self._task()}
        elif envelope.type == "tier.selected":
            yield RunEventType.TIER, RUN_LEVEL, {"tier": event.__dict__.get("tier")}
        elif isinstance(event, ModelCallRequested) and _name(event.operation) == STEP_CALL:
            if self._unsaid is not None:
                step, text = self._unsaid
                self._unsaid = None
                yield RunEventType.REASONING, step, {"content": text}
            self._steps += 1
            yield RunEventType.THINKING, self._step, {}
        elif isinstance(event, ModelCallCompleted) and _name(event.operation) == STEP_CALL:
            yield from self._replied(event.message)
        elif isinstance(event, QuestionAsked):
            yield RunEventType.ASKING_USER, self._step, _question(event)

    @property
    def _step(self) -> int:
        return max(self._steps - 1, 0)

    def _task(self) -> str:
        requested = self._journal.requested
        if requested is None or requested.input is None:
            return ""
        messages = input_messages(requested.input)
        said = [text_content(one.get("content")) for one in messages if one.get("role") == "user"]
        return said[-1] if said else ""

    def _replied(self, message: JsonObject) -> Iterator[tuple[RunEventType, int, JsonObject]]:
        text = text_content(message.get("content"))
        calls = _calls(message)
        if not calls:
            self._unsaid = (self._step, text) if text else None
            return
        if text:
            yield RunEventType.REASONING, self._step, {"content": text}
        names = ", ".join(str(call["name"]) for call in calls)
        yield RunEventType.TOOL_CALLING, self._step, {"tool_names": names, "tool_calls": calls}

    def _closed(self, operation: Operation) -> Iterator[tuple[RunEventType, int, JsonObject]]:
        """What an operation tells that has come to its outcome."""
        assert operation.outcome is not None
        intent = operation.intent.event if operation.intent is not None else None
        if _is_answered(operation):
            yield RunEventType.USER_RESPONDED, self._step, {}
        elif isinstance(intent, ToolCallRequested) and intent.tool_call_id is not None:
            succeeded, value = established(operation.outcome.event)
            data: JsonObject = {
                "tool_name": intent.tool,
                "is_error": not succeeded,
                "content": _content(value, intent.tool_call_id),
            }
            files = _files(value)
            yield RunEventType.TOOL_RESULT, self._step, data | ({"produced_files": files} if files else {})

    def _end(self, envelope: Envelope) -> Iterator[tuple[RunEventType, int, JsonObject]]:
        event = envelope.event
        last = self._step
        match event:
            case RunSucceeded():
                output = event.output
                shown = _without_marker(output) if isinstance(output, str) else output
                yield RunEventType.COMPLETED, last, {"output": shown}
            case RunStepLimitReached():
                yield RunEventType.MAX_STEPS, last, {"summary": event.summary}
            case RunFailed():
                yield RunEventType.ERROR, last, {"message": event.failure.message}
            case RunTimedOut():
                message = f"The run took longer than {event.timeout_seconds:g} seconds."
                yield RunEventType.ERROR, last, {"message": message}
            case _ if envelope.type == "run.cancelled":
                yield RunEventType.CANCELLED, last, {}
            case _:  # Its payload has been erased: that it ended, and how, is known.
                yield RunEventType.ERROR, last, {"message": "How the run ended has been erased."}
        yield RunEventType.FINISHED, self._steps, {"run_id": self.run, "status": STATUSES[envelope.type]}


def run_events(run: str, envelopes: Iterable[Envelope]) -> Iterator[Told]:
    """What the events of a run tell, in order."""
    feed = RunFeed(run)
    for envelope in envelopes:
        yield from feed.apply(envelope)


def _name(operation: str) -> str:
    return operation.rpartition("/")[2].partition("#")[0]


def _is_answered(operation: Operation) -> bool:
    return operation.outcome is not None and operation.outcome.type == "question.answered"


def _answer(operation: Operation) -> Any:
    assert operation.outcome is not None
    return established(operation.outcome.event)[1] if _is_answered(operation) else None


def _calls(message: JsonObject) -> list[JsonObject]:
    calls = message.get("tool_calls")
    found: list[JsonObject] = []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            args = _arguments(function.get("arguments"))
            found.append({"name": function.get("name"), "call_id": call.get("id"), "args": args})
    return found


def _arguments(text: Any) -> Any:
    """Arguments as a model wrote them: an object, or the text as it is where that is no JSON."""
    if not isinstance(text, str):
        return text
    try:
        return orjson.loads(text) if text.strip() else {}
    except ValueError:
        return text


def _question(event: QuestionAsked) -> JsonObject:
    options = event.options
    if not options:
        return {"question": event.question}
    fields = event.__dict__
    descriptions = fields.get("descriptions") or [""] * len(options)
    return {
        "question": event.question,
        "options": [
            {"label": label, "description": description}
            for label, description in zip(options, descriptions, strict=False)
        ],
        "allow_free_form": fields.get("allow_free_form") is not False,
    }


def _content(value: object, tool_call_id: str) -> Any:
    if isinstance(value, Failure):
        return value.message
    return tool_result(value, tool_call_id)["content"]


def _files(value: object) -> list[JsonObject]:
    """Files that a tool says it made: ``{"produced_files": [{"path", "size_bytes", "media_type"}, …]}``."""
    files = value.get("produced_files") if isinstance(value, dict) else None
    return [
        {name: file.get(name) for name in ("path", "size_bytes", "media_type")}
        for file in (files if isinstance(files, list) else [])
        if isinstance(file, dict)
    ]


def _without_marker(text: str) -> str:
    decided = decision(text)
    return decided.output if isinstance(decided, Final) else text
