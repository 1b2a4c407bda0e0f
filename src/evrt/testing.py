"""For tests of agents, a model that says what it is told to; for tests of projections, proof that one is a pure fold."""

from __future__ import annotations

import asyncio
import copy
import inspect
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NoReturn, TypeAlias

import orjson

from evrt.effects.contract import ModelError, ModelReply, ModelRequest, OnDelta
from evrt.errors import InvalidInput, UsageError
from evrt.events import Envelope, Erased, JsonObject, JsonValue, Unknown
from evrt.projection import (
    AnyProjection,
    Correlation,
    Document,
    Documents,
    Place,
    Source,
    Stream,
    decode_document,
    encode_document,
    evolved,
    fold,
    place_of,
)

PIECES_MAX = 3
"""Pieces in which a text streams: enough to have a first, a middle and a last."""


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """A reply that calls tools: each a name and its arguments as JSON. Made by ``call`` and ``calls``."""

    each: tuple[tuple[str, str], ...]
    text: str | None = None


Reply: TypeAlias = str | ToolCalls | Sequence[ToolCalls] | Mapping[str, JsonValue] | ModelReply | Exception
"""A text, tool calls, a whole message, a whole ModelReply, or what to raise."""

Script: TypeAlias = Sequence[Reply] | Callable[[ModelRequest], Reply | Awaitable[Reply]]


def call(name: str, /, **arguments: JsonValue) -> ToolCalls:
    """A reply that calls the tool ``name``."""
    try:
        return ToolCalls(((name, orjson.dumps(arguments).decode()),))
    except orjson.JSONEncodeError as error:
        raise UsageError(f"The arguments of call({name!r}, …) are not JSON: {error}.") from error


def calls(*tool_calls: ToolCalls, text: str | None = None) -> ToolCalls:
    """A reply that calls several tools at once, and says something with it where ``text`` is given."""
    return ToolCalls(tuple(one for tool_call in tool_calls for one in tool_call.each), text)


class ScriptedModel:
    """A model that replies from a script: a list, used up in order, or a function of the request.

    A list is for one run in one process. A function that looks at nothing but its request gives the
    same replies after a crash, in another process, and to many runs at once.

        ScriptedModel([call("weather", city="Turin"), "26 °C and sunny."])
        ScriptedModel(lambda request: f"I have read {len(request.messages)} messages.")

    Ids of tool calls follow from the number of messages in the request, so a run that is made again
    gets the same. ``requests`` holds every request seen.
    """

    def __init__(self, script: Script) -> None:
        if isinstance(script, str | Mapping) or not (callable(script) or isinstance(script, Sequence)):
            raise UsageError(
                "ScriptedModel takes a list of replies, or a function of the request; "
                f"a single reply goes into a list too: [{script!r}]."
            )
        self._script = script
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        """The next reply of the script. Raises what the script says."""
        # The messages as they are now: the caller may go on using its list.
        self.requests.append(replace(request, messages=tuple(request.messages)))
        reply = _model_reply(await self._next(request), request)
        if on_delta is not None and isinstance(text := reply.message.get("content"), str):
            for piece in _pieces(text):
                on_delta(piece)
                await asyncio.sleep(0)  # A network would let other tasks run here.
        return reply

    async def _next(self, request: ModelRequest) -> Reply:
        if callable(self._script):
            reply = self._script(request)
            return await reply if inspect.isawaitable(reply) else reply
        count = len(self.requests)
        if count > len(self._script):
            raise ModelError(
                "script_exhausted",
                f"The script of this ScriptedModel has {len(self._script)} replies, and this is request number "
                f"{count}. Add a reply to the list, or give a function of the request.",
                retriable=False,
            )
        return self._script[count - 1]


def _model_reply(reply: Reply, request: ModelRequest) -> ModelReply:
    match reply:
        case Exception():
            raise reply
        case ModelReply():
            return reply
        case str():
            message: JsonObject = {"role": "assistant", "content": reply}
        case ToolCalls():
            message = _calling(reply, request)
        case Mapping():
            # A copy: the script has to say the same next time, whatever becomes of this message.
            message = {"role": "assistant", "content": None} | copy.deepcopy(dict(reply))
        case [*each] if each and all(isinstance(one, ToolCalls) for one in each):
            message = _calling(calls(*each), request)
        case _:
            raise UsageError(
                f"A script's reply is a text, call(…) or a list of them, a message, a ModelReply or an exception; "
                f"{reply!r} is none of these."
            )
    finish_reason = "tool_calls" if message.get("tool_calls") else "stop"
    return ModelReply(message, finish_reason=finish_reason, provider="script", model_returned=request.model)


def _calling(reply: ToolCalls, request: ModelRequest) -> JsonObject:
    tool_calls: list[JsonObject] = [
        {
            "id": f"call_{len(request.messages)}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for index, (name, arguments) in enumerate(reply.each)
    ]
    return {"role": "assistant", "content": reply.text, "tool_calls": tool_calls}


def _pieces(text: str) -> list[str]:
    size = -(-len(text) // PIECES_MAX) or 1
    return [text[start : start + size] for start in range(0, len(text), size)]


# ------------------------------------------------------------------------------------- projections

SPLITS = 5
"""Ways in which a history is cut into pieces at random."""


def check_projection(
    projection: AnyProjection, histories: Iterable[Iterable[Envelope]], *, seed: int = 0
) -> None:
    """Fold histories in every way a view is ever folded, and see that they all come to the same documents.

    At once, event by event, in pieces cut at random, twice, and key by key from where ``source`` says the key's events
    are; documents go through their JSON each time, as they do in a view. Also that ``key`` looks at clear columns only,
    that nothing given to ``evolve`` is changed, that events which are erased or of an unknown shape are no obstacle, and
    that no document is too large.

    Raises AssertionError in one paragraph that says what differs and at which event.
    """
    chance = Random(seed)
    handled = 0
    for history in histories:
        events = list(history)
        handled += sum(projection.wants(envelope.type) for envelope in events)
        whole = _checked_fold(projection, events)
        _check_same(projection, whole, fold(projection, events), "the second time it is folded")
        for _ in range(SPLITS):
            _check_same(
                projection, whole, _in_pieces(projection, events, chance), "when it is folded in pieces"
            )
        _check_sources(projection, events, whole)
        for unreadable in (_erased, _unknown):
            for share in (1.0, 0.5):
                mixed = [unreadable(event) if chance.random() < share else event for event in events]
                _checked_fold(projection, mixed)
    if not handled:
        _wrong(
            projection, "handles no event of the histories it was given, so that nothing has been shown of it"
        )


def history_of(source: str | Path) -> list[Envelope]:
    """The events of a log by its URL, or of a file of JSON lines, one row of a log each, as in tests/histories.

    Raises what ``evrt.log.open_log`` and ``evrt.log.envelopes.envelopes`` raise.
    """
    from concurrent.futures import ThreadPoolExecutor

    from evrt.log.envelopes import envelopes

    if isinstance(source, str) and "://" in source:
        with ThreadPoolExecutor(1) as thread:  # A test that calls this may have an event loop of its own.
            return thread.submit(asyncio.run, _read_log(source)).result()
    return envelopes(map(_row, Path(source).read_text("utf-8").splitlines()))


async def _read_log(url: str) -> list[Envelope]:
    from evrt.log import open_log
    from evrt.log.envelopes import envelopes

    async with aclosing(await open_log(url, read_only=True)) as log:
        events: list[Envelope] = []
        while rows := await log.read(after=events[-1].position if events else 0):
            events += envelopes(rows)
        return events


def _row(line: str) -> Any:
    from evrt.log import Recorded

    fields = orjson.loads(line)
    for name in ("meta", "salt", "payload"):
        fields[name] = None if fields[name] is None else b64decode(fields[name])
    for name in ("payload_digest", "leaf"):
        fields[name] = bytes.fromhex(fields[name])
    return Recorded(**fields)


@dataclass(frozen=True, slots=True)
class _Clear:
    """An event's clear columns and nothing else."""

    position: int
    time: int
    stream: str
    version: int
    type: str
    correlation: str
    meta: JsonObject


def _checked_fold(projection: AnyProjection, events: Sequence[Envelope]) -> Documents[Any]:
    """The documents, folded event by event with every promise looked at."""
    found: Documents[Any] = {}
    for envelope in events:
        place = _checked_place(projection, envelope)
        if place is None:
            continue
        after = _checked_step(projection, found.get(place), place, envelope)
        if after is None:
            found.pop(place, None)
        else:
            found[place] = after
    return found


def _checked_place(projection: AnyProjection, envelope: Envelope) -> Place | None:
    try:
        place = place_of(projection, envelope)
        again = place_of(projection, envelope)
    except Exception as error:  # noqa: BLE001  (whatever the user's function raises is what is wrong)
        _wrong(projection, f"raises {type(error).__name__} ({error}) where it says which document", envelope)
    if place != again:
        _wrong(projection, f"puts the same event to {place} and then to {again}", envelope)
    if place is None:
        return None
    if not all(isinstance(text, str) for text in place):
        _wrong(projection, f"puts an event to {place}, and a key or part has to be a text", envelope)
    clear = _Clear(*(getattr(envelope, name) for name in _Clear.__slots__))
    try:
        key = projection.key(clear)
    except AttributeError as error:
        _wrong(projection, f"needs more than the clear columns for its key ({error})", envelope)
    if key != place[0]:
        _wrong(
            projection,
            f"has the key {key!r} by an event's clear columns and {place[0]!r} by all of it",
            envelope,
        )
    return place


def _checked_step(
    projection: AnyProjection, before: Document[Any] | None, place: Place, envelope: Envelope
) -> Document[Any] | None:
    given = None if before is None else encode_document(projection, before)
    try:
        first = projection.initial(*place).model_dump_json()
    except Exception as error:  # noqa: BLE001  (as above)
        _wrong(projection, f"raises {type(error).__name__} ({error}) where it makes `initial`", envelope)
    event = envelope.event.model_dump_json()
    try:
        after = evolved(projection, before, place, envelope)
        again = evolved(projection, before, place, envelope)
    except Exception as error:  # noqa: BLE001  (as above)
        _wrong(projection, f"raises {type(error).__name__}: {error}", envelope)
    if before is not None and encode_document(projection, before) != given:
        _wrong(projection, "changes the document it is given instead of returning another", envelope)
    if projection.initial(*place).model_dump_json() != first:
        _wrong(projection, "changes what `initial` returns, which has to be the same each time", envelope)
    if envelope.event.model_dump_json() != event:
        _wrong(projection, "changes the event it is given", envelope)
    if after is not None and not isinstance(after.value, projection.document):
        made, wanted = type(after.value).__name__, projection.document.__name__
        _wrong(projection, f"makes a document that is of {made} and not of {wanted}", envelope)
    if after != again:
        _wrong(projection, "makes two different documents of the same document and event", envelope)
    if after is None:
        return None
    for field in projection.indexed:
        value = getattr(after.value, field)
        beyond = isinstance(value, int) and not -(2**63) <= value < 2**63
        if beyond or not (value is None or isinstance(value, str | int | float)):
            _wrong(
                projection,
                f"has an index on {field}, which is no text, number of 64 bits or None: {value!r:.80}",
                envelope,
            )
    try:
        decoded = decode_document(projection, encode_document(projection, after))
    except (InvalidInput, ValueError) as error:
        _wrong(projection, f"makes a document that cannot be kept ({error})", envelope)
    if decoded != after.value:
        _wrong(
            projection,
            f"makes a document that its JSON changes: {after.value!r:.300} → {decoded!r:.300}",
            envelope,
        )
    return after._replace(value=decoded)


def _in_pieces(projection: AnyProjection, events: Sequence[Envelope], chance: Random) -> Documents[Any]:
    documents: Documents[Any] = {}
    start = 0
    while start < len(events):
        end = start + chance.randint(1, max(1, len(events) // 3))
        folded = fold(projection, events[start:end], documents)
        documents = {
            place: document._replace(value=decode_document(projection, encode_document(projection, document)))
            for place, document in folded.items()
        }
        start = end
    return documents


def _check_sources(projection: AnyProjection, events: Sequence[Envelope], whole: Documents[Any]) -> None:
    places = [(place_of(projection, envelope), envelope) for envelope in events]
    for key in dict.fromkeys(place[0] for place, _ in places if place is not None):
        source = projection.source(key)
        for place, envelope in places:
            if place is not None and place[0] == key and not _selects(source, envelope):
                _wrong(
                    projection,
                    f"says that all events of {key!r} are in {source}, and this is one of them",
                    envelope,
                )
        alone = fold(projection, [envelope for envelope in events if _selects(source, envelope)])
        same_key = {place: document for place, document in whole.items() if place[0] == key}
        found = {place: document for place, document in alone.items() if place[0] == key}
        _check_same(projection, same_key, found, f"when only {source} is read")


def _selects(source: Source, envelope: Envelope) -> bool:
    if isinstance(source, Stream):
        return envelope.stream == source.name
    return not isinstance(source, Correlation) or envelope.correlation == source.name


def _check_same(projection: AnyProjection, one: Documents[Any], other: Documents[Any], when: str) -> None:
    for place in sorted(one.keys() | other.keys()):
        if one.get(place) != other.get(place):
            _wrong(
                projection,
                f"comes to another document {' '.join(filter(None, place))} {when}: "
                f"{one.get(place)!r:.300}, then {other.get(place)!r:.300}",
            )


def _erased(envelope: Envelope) -> Envelope:
    return envelope._replace(event=Erased(logical_type=envelope.type))


def _unknown(envelope: Envelope) -> Envelope:
    event = Unknown(logical_type=envelope.type, schema_version=99, state=envelope.event.__dict__)
    return envelope._replace(event=event)


def _wrong(projection: AnyProjection, what: str, envelope: Envelope | None = None) -> NoReturn:
    where = ""
    if envelope is not None:
        unreadable = {Erased: ", erased", Unknown: ", of a shape it does not know"}.get(
            type(envelope.event), ""
        )
        where = f" (at position {envelope.position}: {envelope.type}{unreadable}, event {envelope.version} of {envelope.stream})"
    raise AssertionError(
        f"The projection {projection.name} {what}{where}. A projection is a pure fold: its documents follow from the "
        "events alone."
    ) from None
