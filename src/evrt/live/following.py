"""A run's streaming text as it comes in, held against the log: whatever that has an outcome of is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from evrt.folds.journal import Journal
from evrt.history import load_last_chapter
from evrt.live.frames import Delta, Frame, Place, advance
from evrt.live.store import LiveReader
from evrt.log import Log
from evrt.log.contract import Watch
from evrt.log.envelopes import envelopes
from evrt.waiting import LOOK_SECONDS


async def follow(
    log: Log, reader: LiveReader, run: str, after: Mapping[str, Place]
) -> AsyncGenerator[Delta, None]:
    """What streams in a run behind these places, until it has ended. Raises NotFound and what reading raises."""
    places = dict(after)
    watch = log.watch()
    journal = (await load_last_chapter(log, run)).journal
    while True:
        seen = reader.bell.rung
        # The frames first: of an outcome that lands between the two reads, the log knows then.
        frames = await reader.read(run, places)
        for envelope in envelopes(await log.read_stream(run, after=journal.version)):
            journal.apply(envelope)
        told = False
        for frame in frames:
            if _is_current(journal, frame):
                for delta in advance(places.get(frame.operation), frame):
                    told, places[frame.operation] = True, delta.end
                    yield delta
        for operation in [each for each in places if _is_over(journal, each)]:
            place = places.pop(operation)
            yield Delta("end", operation, place.attempt, place.epoch, place.offset, "")
        if journal.terminal is not None:
            return
        if not told:
            await _news(watch, reader, seen, streaming=_may_stream(journal))


def _is_current(journal: Journal, frame: Frame) -> bool:
    """Whether it is of an attempt that nothing has come of yet, under the claim that counts."""
    known = journal.operations.get(frame.operation)
    return (
        known is not None
        and known.outcome is None
        and frame.epoch >= journal.epoch
        and frame.attempt >= known.attempts
    )


def _is_over(journal: Journal, operation: str) -> bool:
    known = journal.operations.get(operation)
    return journal.terminal is not None or known is None or known.outcome is not None


def _may_stream(journal: Journal) -> bool:
    return any(known.kind == "model_call" and known.outcome is None for known in journal.operations.values())


async def _news(watch: Watch, reader: LiveReader, seen: int, *, streaming: bool) -> None:
    """Wait for a commit to the log or, while a model may say something, for frames."""
    if not streaming:
        await watch.wait(LOOK_SECONDS)
        return
    waits = [
        asyncio.ensure_future(watch.wait(LOOK_SECONDS)),
        asyncio.ensure_future(reader.changed(seen, LOOK_SECONDS)),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
