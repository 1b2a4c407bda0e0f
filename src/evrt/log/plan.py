"""One append, decided: checked, and turned into rows. Pure; every store uses it, so the rules exist once.

``check_request`` does all that needs no log and runs in the caller's thread, so what comes
into a writer's queue can be refused only for what other writers did. ``plan`` does the rest
inside the writer's transaction: expectations, versions, entries and leaves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from evrt.errors import Fenced, InvalidInput, PayloadTooLarge, RepeatMismatch, WrongVersion
from evrt.log.contract import (
    EMPTY_HEAD,
    META_BYTES_MAX,
    NAME_BYTES_MAX,
    REQUEST_EVENTS_MAX,
    Append,
    Appended,
    Claim,
    Draft,
    Exact,
    Expectation,
    Fence,
    Head,
    Next,
    Recorded,
)
from evrt.log.coordinating import Place, check_changes
from evrt.log.coordination import Change
from evrt.log.entry import build_entry, leaf_hash, payload_digest

SALT_BYTES = 32

EVENT_OVERHEAD_BYTES = 512
"""What an event weighs in a batch beyond its meta and payload, roughly."""

CHANGE_BYTES = 512
"""What a change of the queue writes, roughly."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_WHITE_SPACE = re.compile(rb"\s")
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class Checked(NamedTuple):
    """A request that nothing but the state of the log can refuse any more."""

    drafts: tuple[Draft, ...]
    epochs: tuple[int | None, ...]
    """For each draft the epoch that its meta names, if any: it must be its stream's."""
    streams: tuple[str, ...]
    """Every stream whose head the decision needs."""
    expect: Mapping[str, Expectation]
    repeat_after: Mapping[str, int] | None
    beside: tuple[Change, ...]
    bytes: int

    @property
    def events(self) -> int:
        return len(self.drafts)


@dataclass(slots=True)
class End:
    """The end of a log as one transaction sees it. ``plan`` moves it forward.

    ``heads`` holds the head of every stream that a request may name; a missing one is empty.
    """

    log: str
    position: int
    time: int
    heads: dict[str, Head]


# ------------------------------------------------------------------------------ without the log


def check_request(request: Append, payload_bytes_max: int) -> Checked:
    """Refuse what no state of any log could accept. Raises InvalidInput, PayloadTooLarge."""
    drafts = tuple(request.drafts)
    if not drafts:
        raise InvalidInput("An append needs at least one event.")
    if len(drafts) > REQUEST_EVENTS_MAX:
        raise InvalidInput(
            f"An append may carry {REQUEST_EVENTS_MAX} events; this one has {len(drafts)}. Split it."
        )
    epochs: list[int | None] = []
    ids: set[str] = set()
    streams: dict[str, None] = {}
    size = 0
    for draft in drafts:
        epochs.append(_check_draft(draft, payload_bytes_max))
        stream, _, event_id, _, meta, payload = draft
        ids.add(event_id)
        streams[stream] = None
        size += EVENT_OVERHEAD_BYTES + len(meta) + len(payload)
    if len(ids) < len(drafts):
        raise InvalidInput("Two events of one append have the same id; every event needs its own.")
    expect = dict(request.expect)
    for stream, expectation in expect.items():
        _check_expectation(stream, expectation, drafts, epochs)
        streams[stream] = None
    repeat_after = None if request.repeat_after is None else _check_repeat(request.repeat_after, drafts)
    beside = check_changes(request.beside) if request.beside else ()
    size += CHANGE_BYTES * len(beside)
    return Checked(drafts, tuple(epochs), tuple(streams), expect, repeat_after, beside, size)


def check_external(kind: str, external: str) -> None:
    """Refuse an external id that cannot be kept. Raises InvalidInput."""
    if not _KIND.fullmatch(kind):
        raise InvalidInput(
            f"{kind!r} cannot be a kind of ref: it takes lower-case letters, digits, '-' and '_', "
            "begins with a letter and has at most 64 characters."
        )
    length = _utf8_length(external)
    if not length:
        raise InvalidInput(f"The external id of a {kind} must be a text of valid Unicode that is not empty.")
    if length > NAME_BYTES_MAX:
        raise InvalidInput(
            f"The external id of a {kind} has {length} bytes; at most {NAME_BYTES_MAX} can be kept. "
            "Use a digest of it."
        )


def _check_draft(draft: Draft, payload_bytes_max: int) -> int | None:
    """The epoch that the draft's meta names, if any."""
    stream, type_, event_id, correlation, meta, payload = draft
    problem = _name_problem(stream) or _name_problem(type_) or _name_problem(correlation)
    if problem is not None:
        raise InvalidInput(problem)
    if not _UUID.fullmatch(event_id):
        raise InvalidInput(f"{event_id!r} cannot be an event id: it must be a UUID in lower case.")
    if type(meta) is not bytes or type(payload) is not bytes:
        raise InvalidInput(f"The meta and the payload of a {type_} event must be bytes.")
    if len(payload) > payload_bytes_max:
        raise PayloadTooLarge(
            f"The payload of a {type_} event for {stream} has {len(payload)} bytes; this log takes "
            f"{payload_bytes_max}. Keep large things elsewhere and record a reference to them."
        )
    return _check_meta(meta, type_)


@lru_cache(maxsize=256)  # A worker writes the same meta with every event of a run.
def _check_meta(meta: bytes, type_: str) -> int | None:
    if len(meta) > META_BYTES_MAX:
        raise InvalidInput(
            f"The meta of a {type_} event has {len(meta)} bytes; at most {META_BYTES_MAX} are allowed. "
            "What is large belongs into the payload."
        )
    try:
        value = orjson.loads(meta)
        compact = isinstance(value, dict) and (orjson.dumps(value) == meta or _is_compact(meta))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        value, compact = {}, False
    if not compact:
        raise InvalidInput(
            f"The meta of a {type_} event must be a JSON object in compact form (UTF-8, no white space, "
            f"each key once); it is {meta[:80]!r}."
        )
    epoch = value.get("epoch")
    if epoch is None or type(epoch) is int:
        return epoch
    raise InvalidInput(f"The epoch in the meta of a {type_} event must be a whole number, not {epoch!r}.")


def _is_compact(meta: bytes) -> bool:
    """Whether valid JSON that orjson would write otherwise (a number, an escape) may go into an entry.

    The entry takes these bytes as they are: white space would belong to its hash, and of a key given
    twice one reader takes the first value and another the last.
    """

    def check_keys(pairs: list[tuple[str, object]]) -> None:
        if len(dict(pairs)) < len(pairs):
            raise ValueError

    try:
        json.loads(meta, object_pairs_hook=check_keys)
    except ValueError:
        return False
    return not _WHITE_SPACE.search(_STRING.sub(b"", meta))


@lru_cache(maxsize=8_192)
def _name_problem(name: str) -> str | None:
    """Why this cannot name a stream, a type or a correlation; None where it can."""
    length = _utf8_length(name)
    if not length:
        return (
            "A stream, a type and a correlation must be texts of valid Unicode that are not empty; "
            f"one is {name!r}."
        )
    if _CONTROL.search(name):
        return f"{name[:80]!r} cannot be a name: it has control characters in it."
    if length > NAME_BYTES_MAX:
        return f"{name[:80]!r} cannot be a name: it has {length} bytes; at most {NAME_BYTES_MAX} are allowed."
    return None


def _utf8_length(text: object) -> int:
    """In bytes; 0 for what is not a text or cannot be encoded."""
    if not isinstance(text, str):
        return 0
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


def _check_expectation(
    stream: str, expectation: Expectation, drafts: Iterable[Draft], epochs: Iterable[int | None]
) -> None:
    problem = _name_problem(stream)
    if problem is not None:
        raise InvalidInput(problem)
    smallest = 0
    if isinstance(expectation, Exact | Next):
        number = expectation.version
    elif isinstance(expectation, Fence):
        number = expectation.epoch
    elif isinstance(expectation, Claim):
        number, smallest = expectation.epoch, 1
        if expectation.version is not None and type(expectation.version) is not int:
            raise InvalidInput(
                f"{expectation!r} cannot be expected of {stream}: a version is a whole number."
            )
    else:
        raise InvalidInput(
            f"An append can expect Exact, Next, Fence or Claim of {stream}, not {expectation!r}."
        )
    if type(number) is not int or number < smallest:
        raise InvalidInput(f"{expectation!r} cannot be expected of {stream}: the least is {smallest}.")
    if isinstance(expectation, Next) and not any(draft.stream == stream for draft in drafts):
        raise InvalidInput(
            f"The next event of {stream} was to have version {number}, but the append has none."
        )
    if isinstance(expectation, Claim) and not any(
        draft.stream == stream and epoch == number for draft, epoch in zip(drafts, epochs, strict=True)
    ):
        # Else the epoch could not be found again from the events alone.
        raise InvalidInput(
            f"A claim of {stream} needs an event in that stream that records it: "
            f'its meta has to say "epoch":{number}.'
        )


def _check_repeat(repeat_after: Mapping[str, int], drafts: Iterable[Draft]) -> Mapping[str, int]:
    versions = dict(repeat_after)
    for draft in drafts:
        version = versions.get(draft.stream)
        if type(version) is not int or version < -1:
            raise InvalidInput(
                f"To repeat an append, say for each of its streams the version it had at the first try; "
                f"{draft.stream} has {version!r}."
            )
    return versions


# --------------------------------------------------------------------------- in the transaction


def plan(request: Checked, end: End, now: int, salts: bytes) -> list[Recorded]:
    """The rows of one request, and ``end`` moved behind them; or an error, and ``end`` as it was.

    ``now`` is in microseconds; ``salts`` holds SALT_BYTES for every draft.
    Raises WrongVersion, Fenced.
    """
    heads: dict[str, Head] = {}
    for stream in request.streams:
        heads[stream] = end.heads.get(stream, EMPTY_HEAD)
    for stream, expectation in request.expect.items():
        heads[stream] = _meet(stream, expectation, heads[stream])

    log = end.log
    position = end.position
    time = max(now, end.time)
    rows: list[Recorded] = []
    at = 0
    for (stream, type_, event_id, correlation, meta, payload), named in zip(
        request.drafts, request.epochs, strict=True
    ):
        version, prev, epoch = heads[stream]
        if named is not None and named != epoch:
            raise Fenced(
                f"An event for {stream} says that it was written under epoch {named}, "
                f"but the stream is at epoch {epoch}. {_CLAIMED}"
            )
        position += 1
        version += 1
        salt = salts[at : at + SALT_BYTES]
        at += SALT_BYTES
        digest = payload_digest(salt, payload)
        length = len(payload)
        leaf = leaf_hash(
            build_entry(
                log=log,
                position=position,
                time=time,
                event_id=event_id,
                stream=stream,
                version=version,
                prev=prev,
                type=type_,
                correlation=correlation,
                meta=meta,
                payload_length=length,
                payload_digest=digest,
            )
        )
        heads[stream] = Head(version, leaf, epoch)
        rows.append(
            Recorded(
                position,
                event_id,
                time,
                stream,
                version,
                type_,
                correlation,
                meta,
                length,
                digest,
                salt,
                payload,
                leaf,
            )
        )
    end.position = position
    end.time = time
    end.heads.update(heads)
    return rows


def places_of(rows: Sequence[Recorded]) -> Place:
    """By which position a run takes its place in the queue: that of its first event here, else of the first of all."""
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row.stream, row.position)
    return lambda run: first.get(run, rows[0].position)


_CLAIMED = "Another process has claimed it: stop working on it here."


def _meet(stream: str, expectation: Expectation, head: Head) -> Head:
    """The head as the append finds it: with the epoch of a claim, below the first version. Else an error."""
    version, leaf, epoch = head
    if isinstance(expectation, Exact):
        if version == expectation.version and (version > 0 or leaf is None):
            return head
        if expectation.version == 0:
            raise WrongVersion(f"{stream} was to be new, but it exists already, at version {version}.")
        raise WrongVersion(
            f"{stream} is at version {version}, but the append expected version {expectation.version}. "
            "Somebody else wrote to it first: read it again, then decide."
        )
    if isinstance(expectation, Next):
        if leaf is None and expectation.version <= 1:
            return head._replace(version=expectation.version - 1)
        if leaf is not None and version == expectation.version - 1:
            return head
        there = "is new" if leaf is None else f"is at version {version}"
        raise WrongVersion(
            f"The next event of {stream} was to have version {expectation.version}, but it {there}."
        )
    if isinstance(expectation, Fence):
        if epoch == expectation.epoch:
            return head
        raise Fenced(
            f"{stream} is at epoch {epoch}, but the append was made under epoch {expectation.epoch}. {_CLAIMED}"
        )
    if epoch == expectation.epoch - 1:
        if expectation.version not in (None, version):
            raise WrongVersion(
                f"{stream} is at version {version}, but the claim expected version {expectation.version}: something was "
                "written to it meanwhile. Read it again, then claim."
            )
        return head._replace(epoch=expectation.epoch)
    raise Fenced(
        f"{stream} cannot be claimed as epoch {expectation.epoch}: it is at epoch {epoch}. "
        "Another process was first."
    )


def settle_repeat(request: Checked, found: Iterable[Recorded]) -> Appended | None:
    """What a repeated request came to at its first try; None where it was never recorded.

    ``found`` are the events of its streams that lie behind the versions it names and bear one of
    its ids. An erased payload cannot be compared any more; then its length has to do.
    Raises RepeatMismatch.
    """
    by_id = {row.event_id: row for row in found}
    if not by_id:
        return None
    rows = [by_id.get(draft.event_id) for draft in request.drafts]
    for draft, row in zip(request.drafts, rows, strict=True):
        if row is None:
            raise RepeatMismatch(
                f"This append is not the one it repeats: event {draft.event_id} for {draft.stream} is not "
                "recorded, but others of the same append are."
            )
        if not _same(draft, row):
            raise RepeatMismatch(
                f"This append is not the one it repeats: event {draft.event_id} is recorded at position "
                f"{row.position} with other content."
            )
    recorded = [row for row in rows if row is not None]
    first = recorded[0].position
    if [row.position for row in recorded] != list(range(first, first + len(recorded))):
        raise RepeatMismatch(
            f"This append is not the one it repeats: its events are recorded from position {first} on, "
            "but not in this order."
        )
    return Appended(range(first, first + len(recorded)), tuple([row.version for row in recorded]))


def _same(draft: Draft, row: Recorded) -> bool:
    return (
        row.stream == draft.stream
        and row.type == draft.type
        and row.correlation == draft.correlation
        and row.meta == draft.meta
        and row.payload_length == len(draft.payload)
        and (row.salt is None or payload_digest(row.salt, draft.payload) == row.payload_digest)
    )
