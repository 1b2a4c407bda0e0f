"""The statements that change the queue once it has been decided that they may; see ``evrt.log.coordinating``."""

from __future__ import annotations

from evrt.log.coordinating import Decided, Facts, Place, Statement, span_of
from evrt.log.coordination import (
    Change,
    Enqueue,
    Hold,
    Keep,
    Park,
    Pause,
    Restore,
    Tick,
    Unpause,
    Wake,
    Yield,
)

_NOT_FIRST = (
    "EXISTS (SELECT 1 FROM queue AS earlier "
    "WHERE earlier.lane = queue.lane AND (earlier.place, earlier.run) < (queue.place, queue.run))"
)

_ENQUEUE = (
    "INSERT INTO queue (run, state, target, priority, place, lane, due, news) "
    "VALUES (:run, {state}, :target, :priority, :place, :lane, :due, 0)"
)
_UNLESS_THERE = " ON CONFLICT (run) DO NOTHING"
_STATE_IN_LANE = "CASE WHEN EXISTS (SELECT 1 FROM queue AS earlier WHERE earlier.lane = :lane) THEN 'behind' ELSE '{state}' END"
_GIVE_BACK = (
    f"UPDATE queue SET state = CASE WHEN state = 'paused' THEN 'paused' WHEN {_NOT_FIRST} THEN 'behind' "
    "ELSE '{state}' END, due = :due, worker = NULL, news = 0 WHERE run = :run"
)
_PARK_PAUSED = "UPDATE queue SET state = 'paused', due = :due, worker = NULL, news = 0 WHERE run = :run"
_WAKE = (
    "UPDATE queue SET state = CASE WHEN state IN ('waiting', 'delayed') THEN 'ready' ELSE state END, "
    "due = NULL, news = CASE WHEN state = 'claimed' THEN 1 ELSE 0 END WHERE run = :run"
)
_PAUSE = (
    "UPDATE queue SET state = CASE WHEN state = 'claimed' THEN 'claimed' ELSE 'paused' END, "
    "news = CASE WHEN state = 'claimed' THEN 1 ELSE 0 END WHERE run = :run"
)
_UNPAUSE = (
    f"UPDATE queue SET state = CASE WHEN {_NOT_FIRST} THEN 'behind' WHEN due > :now THEN 'delayed' ELSE 'ready' END "
    "WHERE run = :run AND state = 'paused'"
)
# Before the entry goes, for it knows the lane. Where it was not the first, the first is not behind. Not a join: without
# statistics PostgreSQL walks over all places to save itself the sorting of a lane.
_MOVE_UP = (
    "UPDATE queue SET state = CASE WHEN due > :now THEN 'delayed' ELSE 'ready' END "
    "WHERE state = 'behind' AND run = (SELECT other.run FROM queue AS other "
    "WHERE other.lane = (SELECT lane FROM queue WHERE run = :run) AND other.run <> :run "
    "ORDER BY other.place, other.run LIMIT 1)"
)
_REMOVE = "DELETE FROM queue WHERE run = :run"
_KEY = "INSERT INTO keys (owner, key, run) VALUES (:owner, :key, :run)"
_KEEP = f"{_KEY} ON CONFLICT (owner, key) DO NOTHING"
_FORGET_RATES = "DELETE FROM rates WHERE counts_until <= :now"
_RATE = (
    "INSERT INTO rates (run, key, begins, later, counts_until) "
    "VALUES (:run, :key, :begins, :later, :counts_until) ON CONFLICT (run) DO UPDATE "
    "SET key = excluded.key, begins = excluded.begins, later = excluded.later, counts_until = excluded.counts_until"
)
_RESTORE = (
    "INSERT INTO queue (run, state, target, priority, place, lane, due, news) "
    "VALUES (:run, {state}, :target, :priority, :place, :lane, :due, 0) "
    "ON CONFLICT (run) DO UPDATE SET state = excluded.state, target = excluded.target, priority = excluded.priority, "
    "place = excluded.place, lane = excluded.lane, due = excluded.due WHERE queue.state <> 'claimed'"
)
_RESTORED_IN_LANE = (
    "CASE WHEN EXISTS (SELECT 1 FROM queue AS earlier WHERE earlier.lane = :lane AND earlier.run <> :run "
    "AND (earlier.place, earlier.run) < (:place, :run)) THEN 'behind' ELSE '{state}' END"
)
_TICK = (
    "INSERT INTO ticks (schedule, tick) VALUES (:schedule, :tick) "
    "ON CONFLICT (schedule) DO UPDATE SET tick = excluded.tick"
)
COUNT_CHANGE = (
    "INSERT INTO turns (one, claims, changes) VALUES (1, 0, 1) "
    "ON CONFLICT (one) DO UPDATE SET changes = turns.changes + 1"
)
CHANGES = "SELECT coalesce(max(changes), 0) FROM turns"


def made(decided: Decided, facts: Facts, place: Place, now: int) -> list[Statement]:
    """What has to be written, none of which gives an answer; and what is known is brought up to date."""
    statements: list[Statement] = []
    for change, begin in zip(decided.changes, decided.begins, strict=True):
        statements += _made(change, begin, facts, place, now)
    return statements


def _made(change: Change, begin: int | None, facts: Facts, place: Place, now: int) -> list[Statement]:
    if isinstance(change, Hold):
        return []
    if isinstance(change, Tick):
        facts.make(("tick", change.schedule), [(change.tick,)])
        return [Statement(_TICK, change._asdict())]
    run = change.run
    entry = ("entry", run)
    if isinstance(change, Enqueue):
        facts.make(entry, [("ready", None)])
        return _made_enqueue(change, begin, facts, place(run), now)
    if isinstance(change, Park | Yield):
        facts.make(entry, [("waiting", None)])
        return _given_back(change, place(run), now)
    if isinstance(change, Wake):
        return [Statement(_WAKE, {"run": run})]
    if isinstance(change, Keep):
        facts.make(("key", *change.key), [(run,)])
        return [Statement(_KEEP, {**change.key._asdict(), "run": run})]
    if isinstance(change, Restore):
        facts.forget(entry)
        return [_restored(change, now)]
    if isinstance(change, Pause):
        return [Statement(_PAUSE, {"run": run})]
    if isinstance(change, Unpause):
        return [Statement(_UNPAUSE, {"run": run, "now": now})]
    facts.make(entry, [])
    return [Statement(_MOVE_UP, {"run": run, "now": now}), Statement(_REMOVE, {"run": run})]


def _made_enqueue(change: Enqueue, begin: int | None, facts: Facts, place: int, now: int) -> list[Statement]:
    run, key, rate = change.run, change.key, change.rate
    state = "ready" if begin is None else "delayed"
    statements = [_insert(change, state, place, begin)]
    if key is not None:
        facts.make(("key", *key), [(run,)])
        statements.append(Statement(_KEY, {**key._asdict(), "run": run}))
    if rate is not None:
        begins, later = begin or now, int(change.not_before is not None and change.not_before > now)
        facts.add_slot(rate.key, begins, later)
        slot = {"run": run, "key": rate.key, "begins": begins, "later": later}
        statements.append(Statement(_FORGET_RATES, {"now": now}))
        statements.append(Statement(_RATE, {**slot, "counts_until": begins + span_of(rate)}))
    return statements


def _restored(change: Restore, now: int) -> Statement:
    state: str = change.state
    if state == "ready" and change.due is not None and change.due > now:
        state = "delayed"
    alone = change.lane is None or state == "paused"
    parameters = change._asdict()
    del parameters["state"]
    if state == "ready":
        parameters["due"] = None
    sql = f"'{state}'" if alone else _RESTORED_IN_LANE.format(state=state)
    return Statement(_RESTORE.format(state=sql), parameters)


def _given_back(change: Park | Yield, place: int, now: int) -> list[Statement]:
    """Whichever is there: the entry is changed, or made."""
    run, due = change.run, change.due
    if isinstance(change, Yield):
        due = due if due is not None and due > now else None
        state = "ready" if due is None else "delayed"
    else:
        state = "paused" if change.paused else "waiting"
    there = _PARK_PAUSED if state == "paused" else _GIVE_BACK.format(state=state)
    made = _insert(change, state, place, due)
    return [
        Statement(there, {"run": run, "due": due}),
        made._replace(sql=made.sql + _UNLESS_THERE),
    ]


def _insert(change: Enqueue | Park | Yield, state: str, place: int, due: int | None) -> Statement:
    # What is paused is so wherever it stands in its lane; a place of today is the last of it.
    alone = change.lane is None or state == "paused"
    return Statement(
        _ENQUEUE.format(state=f"'{state}'" if alone else _STATE_IN_LANE.format(state=state)),
        {
            "run": change.run,
            "target": change.target,
            "priority": change.priority,
            "place": place,
            "lane": change.lane,
            "due": due,
        },
    )
