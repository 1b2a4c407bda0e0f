"""``evrt db requeue``: the queue made from the log again."""

from __future__ import annotations

from contextlib import aclosing

from evrt.cli.output import out, out_json
from evrt.cli.place import Place
from evrt.log import open_log
from evrt.requeue import requeue


async def requeued(url: str) -> int:
    """Make the queue of the log at this URL; how many runs stand in it."""
    async with aclosing(await open_log(url)) as log:
        return await requeue(log)


async def make_queue(place: Place, *, as_json: bool) -> None:
    """Make the queue of a log that is there, and tell how it stands."""
    url = place.existing_url()
    async with aclosing(await open_log(url)) as log:
        runs = await requeue(log)
        shown = log.url
        states: dict[str, int] = {}
        for (_, state), count in (await log.coordination.counts()).items():
            states[state] = states.get(state, 0) + count
    if as_json:
        out_json({"url": shown, "runs": runs, "states": states})
        return
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no runs"
    out(f"The queue of {shown} is as its events say: {told}.")
