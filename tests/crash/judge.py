"""What must hold however often a run was cut off, told from its events and the ledger alone.

Pure: facts in, violations out. It folds the events by itself, so that a mistake in evrt's own folds
cannot hide itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from crash.apps import KEYED, UNKEYED
from crash.world import MODEL, REPLY, Line

TERMINAL = frozenset({"run.succeeded", "run.failed", "run.timed_out", "run.step_limit_reached"})
OUTCOMES = frozenset({"tool_call.completed", "tool_call.failed"})

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """A run as it turned out.

    ``facts`` are what its last worker told, ``cuts`` how long log and ledger were when each of its
    workers came. ``overlapped``: a worker was frozen while another went on, so that the cuts mean nothing
    and somebody may have settled a write as not made that was made later. ``free``: what the run does depends
    on the order in which its branches get on, so that it need not be what the reference did.
    """

    facts: dict[str, Any]
    lines: Sequence[Line]
    cuts: Sequence[tuple[int, int]]
    overlapped: bool = False
    free: bool = False

    @property
    def events(self) -> list[Event]:
        events: list[Event] = self.facts["events"]
        return events


@dataclass(slots=True)
class Begun:
    """What a part of a history says has begun: attempts by operation, and digests of model requests."""

    attempts: dict[str, int] = field(default_factory=dict)
    requests: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    keys: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def by(cls, events: Iterable[Event]) -> Begun:
        begun = cls()
        for event in events:
            begun._take(event)
        return begun

    def _take(self, event: Event) -> None:
        kind, operation = event["type"], event.get("operation", "")
        known = self.attempts.get(operation, 0)
        match kind:
            case "tool_call.requested":
                self.attempts[operation] = max(known, event["attempt"])
                self.keys[operation] = event["key"]
                if event["effect"] == "write" and event["key"] is None:
                    self.ended.discard(operation)
            case "step.started":
                self.attempts[operation] = max(known, 1)
            case "model_call.requested":
                self.requests.add(event["messages_digest"])
            case "tool_call.failed" | "step.failed" if not event["final"]:
                self.attempts[operation] = event["attempt"] + 1
            case "run.retry_scheduled":
                self.attempts[event["reopens"]] = self.attempts.get(event["reopens"], 0) + 1
        if kind in OUTCOMES or kind in ("input.received", "tool_call.in_doubt"):
            self.ended.add(operation)

    def has(self, line: Line) -> bool:
        """Whether an effect was announced before it happened."""
        if line.tool == MODEL:
            return line.key in self.requests
        return self.attempts.get(line.operation, 0) >= line.attempt


def violations(story: Story, reference: Story) -> list[str]:
    """Everything that is wrong with a story, given one of the same run that nobody interrupted."""
    return [
        *([] if story.free else _differences(story, reference)),
        *_ending(story),
        *_history(story),
        *_effects(story),
        *([] if story.overlapped else _moments(story)),
    ]


def _differences(story: Story, reference: Story) -> Iterable[str]:
    facts = story.facts
    if facts["digest"] != reference.facts["digest"]:
        mine, theirs = ({(e["type"], e.get("operation")) for e in s.events} for s in (story, reference))
        only = f"only here {sorted(map(str, mine - theirs))}, only there {sorted(map(str, theirs - mine))}"
        yield f"The history came to another digest ({facts['status']}): {only}."
    if facts["others"] != reference.facts["others"]:
        yield f"Memory and conversation differ: {facts['others']}, not {reference.facts['others']}."
    made, expected = ({(line.tool, line.operation) for line in _of_tools(s)} for s in (story, reference))
    if made != expected:
        yield f"Lost or invented effects: {sorted(made ^ expected)}."


def _of_tools(story: Story) -> list[Line]:
    return [line for line in story.lines if line.tool not in (MODEL, REPLY)]


def _ending(story: Story) -> Iterable[str]:
    facts = story.facts
    if len(facts["runs"]) != 1:
        yield f"There are {len(facts['runs'])} runs."
    if facts["replay"] is not None:
        yield f"The replay is not ok: {facts['replay']}"
    written = [e["event_id"] for e in story.events if e["type"] == "memory.written" and e["event_id"]]
    if sorted(written) != sorted(facts["memory"]):
        yield f"The run wrote {len(written)} facts into memory, which holds {len(facts['memory'])}."


def _history(story: Story) -> Iterable[str]:
    events = story.events
    if [event["version"] for event in events] != list(range(1, len(events) + 1)):
        yield "The versions are not 1, 2, 3 …"
    if story.facts["positions"] != list(range(1, len(story.facts["positions"]) + 1)):
        yield "The positions are not 1, 2, 3 …"
    terminal = [event["type"] for event in events if event["type"] in TERMINAL]
    if len(terminal) != 1:
        yield f"The run ended {len(terminal)} times: {terminal}."
    after = [event["type"] for event in events[_index_of_end(events) + 1 :]]
    if any(kind != "tool_call.reported" for kind in after):
        yield f"The history goes on after its end with {after}."
    epochs = [event["meta"].get("epoch") for event in events]
    spoken = [epoch for epoch in epochs if epoch is not None]
    if spoken != sorted(spoken):
        yield f"The epochs fall along the versions: {spoken}."
    claimed = [event["epoch"] for event in events if event["type"] == "run.claimed"]
    if claimed != list(range(1, len(claimed) + 1)):
        yield f"The claims do not rise one by one: {claimed}."
    outcomes = Counter(e["operation"] for e in events if e["type"] in OUTCOMES and e.get("final", True))
    # A retry of the run takes a failure back, and only that of the operation that it names.
    outcomes.subtract(e["reopens"] for e in events if e["type"] == "run.retry_scheduled")
    yield from (f"{operation} has {count} outcomes." for operation, count in outcomes.items() if count > 1)


def _index_of_end(events: Sequence[Event]) -> int:
    return next((i for i, event in enumerate(events) if event["type"] in TERMINAL), len(events))


def _effects(story: Story) -> Iterable[str]:
    lines = _of_tools(story)
    made = Counter(
        (line.operation, line.attempt if story.overlapped else 0) for line in lines if line.tool in UNKEYED
    )
    yield from (
        f"The unkeyed effect {what} happened {count} times." for what, count in made.items() if count > 1
    )
    keys: dict[str, set[str | None]] = defaultdict(set)
    for line in lines:
        if line.tool in KEYED:
            keys[line.operation].add(line.key)
    for operation, used in keys.items():
        if len(used) > 1 or None in used:
            yield f"The keyed effect {operation} happened under {len(used)} keys: {used}."
    if len({key for used in keys.values() for key in used}) < len(keys):
        yield f"Two keyed effects share a key: {dict(keys)}."
    begun = Begun.by(story.events)
    yield from (f"{line} happened without an intent." for line in lines if not begun.has(line))
    happened = {line.operation for line in lines}
    for event in story.events:
        if (
            event["type"] in ("tool_call.completed", "tool_call.reported")
            and event["operation"] not in happened
        ):
            yield f"{event['operation']} has an outcome, and it never happened."


def _moments(story: Story) -> Iterable[str]:
    """What the log held at each moment at which a worker was cut off."""
    for version, count in story.cuts:
        past = story.events[:version]
        begun = Begun.by(past)
        for line in story.lines[:count]:
            if line.tool == REPLY:
                yield from _told(line, past, version)
            elif not begun.has(line):
                yield f"At event {version} {line} had happened, and its intent was not durable."
        yield from _doubts(story, begun, version)


def _told(line: Line, past: Sequence[Event], version: int) -> Iterable[str]:
    if line.operation == "waiting":
        durable = any(e["type"] == "run.waiting" and list(e["operations"]) == line.result for e in past)
    else:
        durable = any(e["type"] == f"run.{line.operation}" for e in past)
    if not durable:
        yield f"At event {version} the outside had been told {line.operation!r}, and that was not durable."


def _doubts(story: Story, begun: Begun, version: int) -> Iterable[str]:
    """Every unkeyed write that was open when its worker died is called in doubt."""
    for operation in begun.attempts:
        name = operation.rpartition("/")[2].partition("#")[0]
        if name not in UNKEYED or operation in begun.ended:
            continue
        doubted = any(
            e["type"] == "tool_call.in_doubt" and e["operation"] == operation for e in story.events[version:]
        )
        if not doubted:
            yield f"{operation} was open at event {version} and was never called in doubt."
