"""Leaving runs to workers, ``runs start --detach``, and watching how they go on there."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import datetime

from evrt.app import App
from evrt.cli.executing import Session, drive_run, with_hint
from evrt.cli.following import follow_run, refuse_claimed, was_taken
from evrt.cli.output import out, out_json
from evrt.cli.place import Place, require_log
from evrt.definitions.finding import NO_CHOICES, Choices
from evrt.errors import Conflict, InvalidInput, UsageError
from evrt.log.address import MEMORY_URL
from evrt.result import Result


@dataclass(frozen=True, slots=True)
class Wish:
    """On what terms a run is to be queued, as the options say; None and False where they say nothing."""

    conversation: str | None = None
    user: str | None = None
    priority: int | None = None
    delay: str | None = None
    at: str | None = None
    idempotency_key: str | None = None
    concurrent: bool = False
    choices: Choices = NO_CHOICES

    @property
    def options(self) -> list[str]:
        """Options that were given and mean something in a queue only."""
        given = {
            "--priority": self.priority is not None,
            "--delay": self.delay is not None,
            "--at": self.at is not None,
            "--idempotency-key": self.idempotency_key is not None,
            "--concurrent": self.concurrent,
        }
        return [option for option, is_given in given.items() if is_given]


def enqueue(place: Place, name: str, given: object, wish: Wish, *, follow: bool, as_json: bool) -> int:
    """Put a run into the queue; then print its id, or follow it to its end. Returns the exit code."""
    at = None if wish.at is None else _moment(wish.at)
    app = place.load_app()
    if app.url == MEMORY_URL:
        raise UsageError(
            "A log in memory has no workers: leave out --detach, or name a log that is kept with --db."
        )

    async def enqueued() -> tuple[str, bool]:
        try:
            queued = await app.enqueue(
                name,
                given,
                conversation=wish.conversation,
                user=wish.user,
                priority=wish.priority or 0,
                delay=wish.delay,
                at=at,
                idempotency_key=wish.idempotency_key,
                concurrent=wish.concurrent,
                **asdict(wish.choices),
            )
        except InvalidInput as error:
            raise with_hint(error, given) from error.__cause__
        return queued.run_id, queued.new

    async def once() -> tuple[str, bool]:
        async with app:
            return await enqueued()

    if not follow:
        run, new = asyncio.run(once())
        if as_json:
            out_json({"run": run, "new": new})
        else:
            out(run)
        return 0
    session = Session(place, kept=True, left=True)

    async def followed() -> Result:
        run, _ = await enqueued()
        session.began(run)
        return await _follow(app, session, run)

    return drive_run(app, session, followed, as_json)


def retry(place: Place, name: str, *, as_json: bool) -> int:
    """Try a run again, here, or wherever a worker was quicker to take it; returns the exit code."""
    app = place.load_app()
    require_log(app.url)
    session = Session(place, kept=True)

    async def execute() -> Result:
        run = await app.retry(name)
        session.began(run)
        log = await app.log()
        try:
            await refuse_claimed(log, run)
            return await app.resume(run)
        except Conflict:
            if not await was_taken(log, run):
                raise
        session.left = True
        return await _follow(app, session, run)

    return drive_run(app, session, execute, as_json)


async def _follow(app: App, session: Session, run: str) -> Result:
    """Wait until a run of workers has ended, or waits for somebody; meanwhile tell a terminal what its models say."""
    telling = None if app.on_delta is None else asyncio.create_task(session.follow_deltas(app, run))
    try:
        return await follow_run(await app.log(), run)
    finally:
        if telling is not None:
            telling.cancel()
            await asyncio.wait([telling])


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(
            f"--at takes a time with its zone, as 2026-11-27T12:00:00Z; {text!r} is none."
        ) from None
