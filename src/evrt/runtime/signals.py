"""Signals: messages to a run from outside, which its code receives by their name, in their order, each once.

A signal is kept until somebody waits for it. That a wait received one is noted with ``input.received``; before that a
wait without a time-out leaves nothing in the log, so its identity has the name.
"""

from __future__ import annotations

from evrt.events import JsonValue
from evrt.events.run import RunSignalled, TimerFired
from evrt.folds.waits import SIGNAL, checked_signal
from evrt.retry import Length
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.timers import set_timer
from evrt.runtime.waiting import parse_timeout, timed_out, wait


async def receive(execution: Execution, name: str, timeout: Length | None) -> JsonValue:
    """The payload of the next signal of this name. Raises TimedOut."""
    seconds = parse_timeout(timeout)
    identity = execution.bind(f"{SIGNAL}{checked_signal(name)}")
    digest = digest_of([name, timeout])
    known = await execution.recorded(identity, "signal", digest)
    if known is not None and known.outcome is not None:
        event = known.outcome.event
    else:
        due = None
        if seconds is not None and not execution.journal.signals.get(name):
            due = await set_timer(execution, identity, digest, seconds=seconds, signal=name)
        found = await wait(execution, identity, "signal", due=due, signal=name)
        if found is None:
            event = TimerFired(operation=identity)
            execution.record(event)
        else:
            event = execution.observe(identity, found)
    if isinstance(event, RunSignalled):
        return event.payload
    raise timed_out(identity, f"No signal {name} came")
