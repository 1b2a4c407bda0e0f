"""Journeys from outside of their runs: how they stand, and where a router sends a conversation to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from evrt.codec import encode, meta_for
from evrt.errors import NotFound, UsageError
from evrt.events import JsonObject
from evrt.events.journey import JourneyRouted
from evrt.folds.journeys import JourneyFold, Standing
from evrt.history import resolve_ref, resolve_run
from evrt.log import Append, Draft, Log
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id
from evrt.runtime.journeys import journey_stream


class Journeys:
    """``app.journeys``. Conversations are named by ids of one's own, or by their refs."""

    def __init__(
        self,
        log: Callable[[], Awaitable[Log]],
        journeys_of: Callable[[str], list[str]],
        admit: Callable[[str], object],
    ) -> None:
        self._log = log
        self._journeys_of = journeys_of
        self._admit = admit

    async def standing(
        self, key: str, *, conversation: str | None = None, run: str | None = None
    ) -> Standing:
        """How the journey of a conversation stands, or of a run that has none: see ``evrt.folds.journeys.Standing``.

        Raises NotFound (no such conversation or run), UsageError (which one?).
        """
        if (conversation is None) == (run is None):
            raise UsageError("Say whose journey is meant: a conversation=, or a run= that has none.")
        log = await self._log()
        if conversation is not None:
            owner = await resolve_ref(log, "conversation", conversation)
        else:
            assert run is not None
            owner = await resolve_run(log, run)
        fold = JourneyFold()
        for envelope in envelopes(await log.read_stream(journey_stream(owner, key))):
            fold.apply(envelope)
        return fold.standing

    async def reroute(
        self, router: str, conversation: str, to: str | None = None, *, by: str | None = None
    ) -> None:
        """Have a router send a conversation to this journey from its next message on; without one, choose again.

        The journey that it leaves stays as it is, and goes on where it was if it is come back to. ``by`` says who wants
        it so. Raises NotFound (no such router, conversation, or journey that the router has a route to).
        """
        known = self._journeys_of(router)
        if to is not None and to not in known:
            raise NotFound(
                f"The router {router} has no route to {to!r:.80}. It has some to: {', '.join(known)}."
            )
        log = await self._log()
        ref = await resolve_ref(log, "conversation", conversation)
        person = None if by is None else str(self._admit(by))
        event = JourneyRouted(router=router, journey=to, by="person", person=person)
        meta: JsonObject = {"actor": "person"}
        stream = journey_stream(ref, router)
        draft = Draft(
            stream, event.type, new_event_id(), ref, meta_for(event, orjson.dumps(meta)), encode(event)
        )
        await log.append(Append([draft], {}))
