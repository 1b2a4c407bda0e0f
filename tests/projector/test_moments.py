"""Moments: positions, times and revisions, each the position it stands for, and what is told of those that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evrt.codec import encode
from evrt.errors import EvrtError, InvalidInput, NotFound
from evrt.events.run import CheckpointSaved, RunStarted
from evrt.history import find_run
from evrt.log import Append, Draft, Log, open_log
from evrt.log.ids import new_event_id
from evrt.projector.moments import EPOCH, MICROSECOND, Moment, position_of

NOON = int(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()) * 1_000_000
LATER = NOON + 3_600_000_000


def draft(stream: str = "run-1", *, checkpoint: str | None = None) -> Draft:
    event = (
        RunStarted() if checkpoint is None else CheckpointSaved(name=checkpoint, state=None, operation="c#1")
    )
    return Draft(stream, event.type, new_event_id(), stream, b"{}", encode(event))


@asynccontextmanager
async def log_of_times(url: str, times: list[int]) -> AsyncIterator[Log]:
    """A log whose writer's clock showed these times, in microseconds, one event after the other."""
    async with aclosing(await open_log(url)) as log:
        for time in times:
            with patch("time.time_ns", lambda time=time: time * 1_000):
                await log.append(Append([draft()], {}))
        assert [row.time for row in await log.read()] == times
        yield log


# ---------------------------------------------------------------------------------------- positions


async def test_a_position_is_the_moment_after_its_event() -> None:
    async with log_of_times("memory://", [NOON, NOON, NOON + 1]) as log:
        assert [await position_of(log, position, now=LATER) for position in (1, 2, 3)] == [1, 2, 3]
        assert await position_of(log, "2", now=LATER) == 2


@pytest.mark.parametrize("position", [0, -1, 4, 10**30, "0", "4"])
async def test_a_position_outside_the_log_names_those_it_has(position: Moment) -> None:
    async with log_of_times("memory://", [NOON, NOON, NOON + 1]) as log:
        with pytest.raises(NotFound, match=f"has positions 1 to 3; there is no position {position}"):
            await position_of(log, position, now=LATER)


# -------------------------------------------------------------------------------------------- times


@settings(max_examples=settings().max_examples // 4)
@given(steps=st.lists(st.sampled_from([0, 0, 1, 5]), min_size=1, max_size=40))
def test_a_time_is_every_event_of_it_or_before(steps: list[int]) -> None:
    times = [NOON + sum(steps[: number + 1]) for number in range(len(steps))]

    async def compare() -> None:
        async with log_of_times("memory://", times) as log:
            for time in range(times[0], times[-1] + 3):
                wanted = sum(other <= time for other in times)
                assert await position_of(log, EPOCH + time * MICROSECOND, now=LATER) == wanted

    asyncio.run(compare())


async def test_a_time_is_found_in_few_looks() -> None:
    async with log_of_times("memory://", [NOON]) as log:
        await log.append(Append([draft() for _ in range(5_000)], {}))
        looks = 0
        read = log.read

        async def counted(**range: Any) -> object:
            nonlocal looks
            looks += 1
            assert range["upto"] - range["after"] == 1
            return await read(**range)

        with patch.object(log, "read", counted):
            assert await position_of(log, "2026-11-27T12:00:00Z", now=LATER) == 1
        assert looks <= 15


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-27T12:00:00Z",
        "2026-11-27t12:00:00z",
        "2026-11-27 12:00:00Z",
        "2026-11-27T12:00:00.000000Z",
        "2026-11-27T12:00:00.000000999Z",
        "2026-11-27T13:00:00+01:00",
        " 2026-11-27T06:30:00-05:30 ",
    ],
)
async def test_a_time_is_written_as_rfc_3339_has_it(tmp_path: Path, text: str) -> None:
    async with log_of_times(f"sqlite:///{tmp_path / 'evrt.db'}", [NOON - 1, NOON, NOON + 1]) as log:
        assert await position_of(log, text, now=LATER) == 2


async def test_a_datetime_of_any_zone_is_a_time() -> None:
    async with log_of_times("memory://", [NOON - 1, NOON, NOON + 1]) as log:
        for zone in (UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))):
            moment = datetime(2026, 11, 27, 12, tzinfo=UTC).astimezone(zone)
            assert await position_of(log, moment, now=LATER) == 2


async def test_a_time_behind_the_last_event_is_the_head_until_now_and_unknown_after() -> None:
    async with log_of_times("memory://", [NOON, NOON + 10]) as log:
        for time in (NOON + 10, NOON + 11, LATER):
            assert await position_of(log, EPOCH + time * MICROSECOND, now=LATER) == 2
        with pytest.raises(
            NotFound,
            match=r"2026-11-27T13:00:00.000001Z is still to come: the last event of memory://, at position 2, is of "
            r"2026-11-27T12:00:00.000010Z, and it is 2026-11-27T13:00:00Z",
        ):
            await position_of(log, EPOCH + (LATER + 1) * MICROSECOND, now=LATER)


async def test_a_time_that_the_log_has_is_no_future_though_its_writers_clock_was_ahead() -> None:
    async with log_of_times("memory://", [NOON, LATER + 10, LATER + 20]) as log:
        assert await position_of(log, EPOCH + (LATER + 10) * MICROSECOND, now=LATER) == 2


async def test_a_time_before_the_first_event_names_that() -> None:
    async with log_of_times("memory://", [NOON]) as log:
        for moment in ("2026-11-27T11:59:59Z", "0001-01-01T00:00:00+14:00", datetime.min.replace(tzinfo=UTC)):
            with pytest.raises(
                NotFound, match=r"before anything happened: the first event .* 2026-11-27T12:00:00Z"
            ):
                await position_of(log, moment, now=LATER)


@pytest.mark.parametrize("moment", ["2026-11-27T12:00:00", datetime(2026, 11, 27, 12)])  # noqa: DTZ001  # That is it.
async def test_a_time_without_a_zone_is_refused(moment: Moment) -> None:
    async with log_of_times("memory://", [NOON]) as log:
        with pytest.raises(InvalidInput, match="2026-11-27T12:00:00 has no zone"):
            await position_of(log, moment, now=LATER)


@pytest.mark.parametrize(
    "text",
    ["2026-02-30T12:00:00Z", "2026-11-27T12:00:61Z", "2026-11-27T12:00:00+99:00", "0000-01-01T00:00:00Z"],
)
async def test_a_time_that_no_calendar_has_is_refused(text: str) -> None:
    async with log_of_times("memory://", [NOON]) as log:
        with pytest.raises(InvalidInput, match="is no time: "):
            await position_of(log, text, now=LATER)


# ---------------------------------------------------------------------------------------- revisions


@asynccontextmanager
async def log_of_runs() -> AsyncIterator[Log]:
    async with aclosing(await open_log("memory://")) as log:
        drafts = [
            draft("run-aa1"),
            draft("run-ab2"),
            draft("run-aa1", checkpoint="begun"),
            draft("run-ab2"),
            draft("run-aa1", checkpoint="done"),
            draft("run-aa1"),
            draft("run-ab2"),
        ]
        await log.append(Append(drafts, {}))
        yield log


@pytest.mark.parametrize(
    "revision, position",
    [
        ("run-aa1@1", 1),
        ("run-aa1@3", 5),
        ("aa1@4", 6),
        ("run-ab@2", 4),
        ("run-aa1@head", 6),
        ("run-aa1@head~3", 1),
        ("run-ab2@head~0", 7),
        ("run-aa1@{begun}", 3),
        ("run-aa1@{done}", 5),
    ],
)
async def test_a_revision_is_the_position_of_its_last_event(revision: str, position: int) -> None:
    async with log_of_runs() as log:
        assert await position_of(log, revision, now=LATER) == position
        assert (await find_run(log, revision)).events[-1].position == position


@pytest.mark.parametrize(
    "revision, told",
    [
        ("run-aa1@0", r"run-aa1 has events 1 to 4; there is no run-aa1@0"),
        ("run-aa1@5", r"run-aa1 has events 1 to 4; there is no run-aa1@5"),
        ("run-aa1@99999999999999999999", "run-aa1 has events 1 to 4"),
        ("run-aa1@head~4", "run-aa1 has events 1 to 4; there is no run-aa1@head~4"),
        ("run-aa1@{never}", "no checkpoint 'never'. Its checkpoints: begun, done"),
        ("run-zz@1", "no run run-zz"),
    ],
)
async def test_a_revision_of_what_is_not_there_names_what_is(revision: str, told: str) -> None:
    async with log_of_runs() as log:
        with pytest.raises(NotFound, match=told):
            await position_of(log, revision, now=LATER)


async def test_a_counted_revision_of_a_long_run_does_not_read_the_run() -> None:
    async with log_of_runs() as log:
        read = log.read_stream

        async def one(stream: str, *, after: int, upto: int) -> object:
            assert upto - after == 1
            return await read(stream, after=after, upto=upto)

        with patch.object(log, "read_stream", one):
            assert await position_of(log, "run-aa1@2", now=LATER) == 3
            assert await position_of(log, "run-aa1@head", now=LATER) == 6


# ------------------------------------------------------------------------------------- none of these


@pytest.mark.parametrize(
    "moment",
    [
        "",
        "yesterday",
        "run-aa1",
        "-3",
        "4.5",
        "2026-11-27",
        "٤",
        "9" * 5_000,
        "run-aa1@",
        "@3",
        "run-aa1@tail",
        "run-aa1@" + "9" * 5_000,
        "run-aa1@{begun",
    ],
)
async def test_a_text_that_is_no_moment_is_told_how_moments_are_written(moment: str) -> None:
    async with log_of_runs() as log:
        with pytest.raises(EvrtError, match=r"RUN@head~3") as caught:
            await position_of(log, moment, now=LATER)
        assert caught.value.exit_code == 2
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("moment", [True, False, 4.0, None, b"4", timedelta(1)])
async def test_a_value_that_is_no_moment_is_refused(moment: Moment) -> None:
    async with log_of_runs() as log:
        with pytest.raises(InvalidInput, match="is no moment, being a"):
            await position_of(log, moment, now=LATER)


@pytest.mark.parametrize("moment", [1, "1", "2026-11-27T12:00:00Z"])
async def test_an_empty_log_has_no_moment(moment: Moment) -> None:
    async with aclosing(await open_log("memory://")) as log:
        with pytest.raises(NotFound, match="no event in memory:// yet"):
            await position_of(log, moment, now=LATER)
