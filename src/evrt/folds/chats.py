"""What counts of a conversation: one rule for its history, for what its next run is shown, and for what is summed up.

Runs follow one another as they were asked for, and each has its messages in the order in which they came to be. What
a run said that failed, was cut off or given up is left out, and so is whatever another run has taken the place of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.calls import ModelCallCompleted
from evrt.events.run import MessageProduced, RunRequested
from evrt.folds.messages import input_messages
from evrt.folds.requests import tool_message
from evrt.folds.said import HANDLES, NOTHING, OF_THE_RUN, OPEN, Said, evolve_said, key_of, part_of

LISTENED_TO = frozenset({OPEN, "succeeded", "step_limit"})
"""Runs whose messages belong to the conversation; one that failed, was cut off or given up left it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one run said in a conversation, its input first."""

    run: str
    at: int
    """Position of the run's request."""
    messages: tuple[JsonValue, ...]
    inherited: bool = False
    """Whether it was said in the conversation that this one is a fork of."""
    untrusted: bool = False


def is_heard(run: Said, rewinds: Iterable[Said], *, include_failed_runs: bool = False) -> bool:
    """Whether what a run said counts. The documents are the run's own, and those of where the conversation was rewound."""
    if run.superseded or is_rewound(run.at, rewinds):
        return False
    return include_failed_runs or run.status in LISTENED_TO


def is_rewound(at: int, rewinds: Iterable[Said]) -> bool:
    """Whether the conversation has been rewound to before a run that was requested at this position."""
    return any(rewound.since is not None and rewound.since <= at < rewound.at for rewound in rewinds)


def turns_of(
    documents: Iterable[Said],
    *,
    include_failed_runs: bool = False,
    events: Mapping[int, Envelope] | None = None,
    inherited: Sequence[Turn] = (),
) -> list[Turn]:
    """The turns of a conversation that count, in order.

    ``events`` are those whose positions ``to_be_read`` names, by position; without them long messages stay cut.
    ``inherited`` are the turns of the conversation that it is a fork of, as of then (see ``origin_of``).
    """
    runs: dict[str, Said] = {}
    rewinds: list[Said] = []
    lines: dict[str, list[Said]] = {}
    turns: list[Turn] = []
    for one in documents:
        if one.status is not None or one.superseded:
            runs[one.run] = one
        if one.since is not None:
            rewinds.append(one)
        elif one.source is not None:
            turns = inherited_by(one, inherited)
        elif one.messages:
            lines.setdefault(one.run, []).append(one)
    turns = [turn for turn in turns if not is_rewound(turn.at, rewinds)]
    for run in sorted(lines, key=lambda run: (runs[run].at if run in runs else 0, run)):
        own = runs.get(run)
        if own is None or is_heard(own, rewinds, include_failed_runs=include_failed_runs):
            said = messages_in(lines[run], events)
            turns.append(Turn(run, own.at if own is not None else 0, tuple(said)))
    return turns


def messages_of(
    documents: Iterable[Said],
    *,
    include_failed_runs: bool = False,
    events: Mapping[int, Envelope] | None = None,
    inherited: Sequence[Turn] = (),
) -> list[JsonValue]:
    """The messages of a conversation that count, in order. See ``turns_of``."""
    turns = turns_of(documents, include_failed_runs=include_failed_runs, events=events, inherited=inherited)
    return [message for turn in turns for message in turn.messages]


def messages_in(lines: Iterable[Said], events: Mapping[int, Envelope] | None = None) -> list[JsonValue]:
    """The messages of one run's documents, in order."""
    said: list[JsonValue] = []
    for one in sorted(lines, key=lambda one: one.at):
        event = None if one.whole_at is None or events is None else events.get(one.whole_at)
        said += one.messages if event is None else whole(one, event)
    return said


def origin_of(documents: Iterable[Said]) -> Said | None:
    """The document that says of which conversation this one is a fork, or None."""
    return next((one for one in documents if one.source is not None), None)


def inherited_by(fork: Said, turns: Iterable[Turn]) -> list[Turn]:
    """The turns of its source that a fork has, the last one as far as its messages were to go."""
    found: list[Turn] = []
    for turn in turns:
        if turn.at < fork.last_at:
            found.append(replace(turn, inherited=True))
        elif turn.at == fork.last_at:
            found.append(replace(turn, messages=turn.messages[: fork.last_messages], inherited=True))
    return found


def last_assistant_message(messages: Iterable[JsonValue]) -> JsonObject | None:
    """The last message of an assistant that says something in words, or None."""
    last: JsonObject | None = None
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "assistant":
            content = message.get("content")
            if isinstance(content, str) and content.strip():
                last = message
    return last


def to_be_read(documents: Iterable[Said]) -> list[int]:
    """Positions of the events that hold what is cut in these documents."""
    return sorted(document.whole_at for document in documents if document.whole_at is not None)


def whole(document: Said, envelope: Envelope) -> list[JsonValue]:
    """The messages of a document again, from the event that has them whole."""
    event = envelope.event
    if isinstance(event, RunRequested):
        return list(input_messages(event.input))
    if isinstance(event, ModelCallCompleted):
        return [event.message]
    if isinstance(event, MessageProduced):
        return [{"role": event.role, "content": event.content}]
    if document.tool_call_id is None:
        return list(document.messages)  # Erased in the meantime: what is here is all there is.
    return [tool_message(event, document.tool_call_id)]


@dataclass(slots=True)
class Chat:
    """A conversation folded event by event, whole and as it is: what a run that belongs to it reads.

    ``position`` is that of the last event that was looked at, ``size``
    roughly the bytes of what is held.
    """

    position: int = 0
    size: int = 0
    runs: dict[str, Said] = field(default_factory=dict)
    """The runs' own documents, in the order in which the runs were asked for."""
    lines: dict[str, dict[str, Said]] = field(default_factory=dict)
    """What each run said, by part; its own document is there too."""
    rewinds: list[Said] = field(default_factory=list)
    origin: Said | None = None
    inherited: Sequence[Turn] = ()
    """What a fork has from its source; the reader puts it in."""
    tainted: set[str] = field(default_factory=set)
    """Runs that have read what nobody vouches for."""
    trusted: set[tuple[str, str]] = field(default_factory=set)
    """Run and operation of tool calls that are vouched for."""
    cut: list[tuple[str, str]] = field(default_factory=list)
    """Run and part of documents that only the event at ``whole_at`` has whole: the reader puts them right."""

    def apply(self, envelope: Envelope) -> None:
        """Take in the next event that has the conversation as its correlation."""
        if envelope.type not in READ or key_of(envelope) is None:
            return
        if self._is_untrusted(envelope):
            self.tainted.add(envelope.stream)
        part = part_of(envelope) if envelope.type in HANDLES else None
        if part is None:
            return
        kind, run = envelope.type, envelope.stream
        lines = self.lines.setdefault(run, {})
        after = evolve_said(lines.get(part, NOTHING), envelope)
        if after is None:
            lines.pop(part, None)
        elif after.since is not None:
            self.rewinds.append(after)
        elif after.source is not None:
            self.origin = after
        else:
            lines[part] = after
            if kind in OF_THE_RUN:
                self.runs[run] = after
            if after.whole_at is not None:
                self.cut.append((run, part))

    def _is_untrusted(self, envelope: Envelope) -> bool:
        """Whether the run has read something with this event that nobody vouches for: what a tool found, say."""
        fields = envelope.event.__dict__
        call = (envelope.stream, fields.get("operation", ""))
        if envelope.type == "tool_call.requested" and fields.get("trusted"):
            self.trusted.add(call)
        if envelope.type in RESULTS:
            return call not in self.trusted
        if envelope.type == "value.recorded":
            return fields.get("kind") == "distrusted"
        return envelope.type == "child.ended" or bool(fields.get("untrusted"))

    def put_right(self, run: str, part: str, envelope: Envelope) -> None:
        """Put the whole messages of a document in, from the event that has them."""
        known = self.lines.get(run, {}).get(part)
        if known is not None and known.whole_at == envelope.position:
            update = {"messages": tuple(whole(known, envelope)), "whole_at": None}
            self.lines[run][part] = known.model_copy(update=update)

    def turns(self, *, include_failed_runs: bool = False) -> list[Turn]:
        """The turns that count, in order."""
        return list(self.newest_first(include_failed_runs=include_failed_runs))[::-1]

    def newest_first(self, *, before: int | None = None, include_failed_runs: bool = False) -> Iterable[Turn]:
        """The turns that count, the last one first; those asked for before a position."""
        for run, own in reversed(self.runs.items()):
            if (before is None or own.at < before) and is_heard(
                own, self.rewinds, include_failed_runs=include_failed_runs
            ):
                said = messages_in(one for one in self.lines[run].values() if one.messages)
                if said:
                    yield Turn(run, own.at, tuple(said), untrusted=run in self.tainted)
        for turn in reversed(self.inherited):
            if (before is None or turn.at < before) and not is_rewound(turn.at, self.rewinds):
                yield turn


RESULTS = frozenset({"tool_call.completed", "tool_call.failed", "tool_call.settled", "tool_call.reported"})
READ = HANDLES | {
    *("conversation.recalled", "memory.recalled", "journey.recalled"),
    *("child.ended", "run.continued", "value.recorded"),
}
"""Types of events that a chat takes in: those that say something, and those that tell of what a run has read."""
