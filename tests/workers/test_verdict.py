"""The judge of chaos sees what it is there to see: a good story, spoilt in one place at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from crash.world import Line, World
from evrt.log import Recorded
from evrt.worker.worker import Worker, working
from workers.labour import expected, make_app
from workers.test_chaos import read_all
from workers.verdict import violations

Story = tuple[list[Recorded], list[Line]]


async def a_good_story(folder: Path) -> tuple[Story, dict[str, list[str]]]:
    async with make_app("memory://", World(folder)) as app:
        queued = await app.enqueue("steady", "crate")
        async with working(Worker(app, grace_seconds=0.0)):
            await queued.result()
        rows = await read_all(await app.log())
        return (rows, app.world.lines()), {queued.run_id: expected("crate", waits=False)}


def renumbered(rows: Sequence[Recorded]) -> list[Recorded]:
    versions: dict[str, int] = {}
    fresh = []
    for position, row in enumerate(rows, start=1):
        versions[row.stream] = versions.get(row.stream, 0) + 1
        fresh.append(row._replace(position=position, version=versions[row.stream]))
    return fresh


def first(rows: Sequence[Recorded], kind: str) -> Recorded:
    return next(row for row in rows if row.type == kind)


def without(kind: str) -> Callable[[Story], Story]:
    return lambda story: (renumbered([row for row in story[0] if row.type != kind]), story[1])


def twice(kind: str) -> Callable[[Story], Story]:
    def spoil(story: Story) -> Story:
        at = story[0].index(first(story[0], kind))
        return renumbered([*story[0][: at + 1], *story[0][at:]]), story[1]

    return spoil


def under_another_epoch(story: Story) -> Story:
    old = first(story[0], "tool_call.completed")
    meta = orjson.dumps({**orjson.loads(old.meta), "epoch": 7})
    return [row._replace(meta=meta) if row is old else row for row in story[0]], story[1]


def late(story: Story) -> Story:
    return renumbered([*story[0], first(story[0], "tool_call.requested")]), story[1]


def paid_twice(story: Story) -> Story:
    line = next(line for line in story[1] if line.tool == "pay")
    return story[0], [*story[1], line]


def paid_unasked(story: Story) -> Story:
    line = next(line for line in story[1] if line.tool == "pay")
    return story[0], [*story[1], line._replace(attempt=2)]


def never_paid(story: Story) -> Story:
    return story[0], [line for line in story[1] if line.tool != "pay"]


def booked_under_two_keys(story: Story) -> Story:
    line = next(line for line in story[1] if line.tool == "book")
    return story[0], [*story[1], line._replace(key="another")]


def with_a_gap(story: Story) -> Story:
    return [row for row in story[0] if row.type != "tool_call.failed"], story[1]


@pytest.mark.parametrize(
    "spoil,told",
    [
        (without("run.succeeded"), "0 ends"),
        (twice("run.succeeded"), "2 ends"),
        (twice("run.claimed"), "epoch 1 after 1"),
        (twice("tool_call.completed"), "has 2 outcomes"),
        (under_another_epoch, "of epoch 7 under epoch 1"),
        (late, "after its end"),
        (paid_twice, "happened 2 times"),
        (paid_unasked, "had no intent"),
        (never_paid, "never happened"),
        (booked_under_two_keys, "had the keys"),
        (with_a_gap, "positions have gaps"),
    ],
)
async def test_what_is_wrong_is_told(tmp_path: Path, spoil: Callable[[Story], Story], told: str) -> None:
    story, wanted = await a_good_story(tmp_path)
    assert violations(*story, wanted) == []
    found: list[Any] = violations(*spoil(story), wanted)
    assert any(told in one for one in found), found
