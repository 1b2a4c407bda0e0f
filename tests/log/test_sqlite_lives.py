"""An open SQLite log among event loops, threads and forks, and one that nobody closes."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

from evrt.log import Exact, Log, open_log
from evrt.log.check import check
from log.stores import append, draft, run_python, url


def test_one_open_log_serves_one_event_loop_after_another(path: Path) -> None:
    async def begin() -> Log:
        log = await open_log(url(path))
        await log.append(append(draft()))
        assert len(await log.read()) == 1
        return log

    async def go_on(log: Log, number: int) -> None:
        await log.append(append(draft()))
        assert len(await log.read()) == number
        assert (await anext(log.subscribe(number - 1))).position == number

    log = asyncio.run(begin())
    threads = threading.active_count()
    for number in range(2, 6):
        asyncio.run(go_on(log, number))
    assert threading.active_count() <= threads
    asyncio.run(log.aclose())


async def test_loops_in_several_threads_share_an_open_log(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:

        async def elsewhere() -> None:
            following = log.subscribe()
            for _ in range(20):
                await log.append(append(draft()))
            assert [(await anext(following)).position for _ in range(20)] == list(range(1, 21))

        following = log.subscribe()
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, elsewhere()) for _ in range(3)))
        assert (await waiting).position == 1
        await log.append(append(draft(), run_1=Exact(60)))


async def test_a_forked_child_is_told_to_open_the_log_itself(path: Path) -> None:
    script = f"""
        import asyncio, os, warnings
        from evrt.errors import UsageError
        from evrt.log import Append, Draft, open_log

        DRAFT = Draft("a", "b", "018f0000-0000-7000-8000-000000000000", "a", b"{{}}", b"")

        async def child(log):
            for use in (lambda: log.append(Append([DRAFT], {{}})), log.read):
                try:
                    await use()
                except UsageError as error:
                    print(error, flush=True)
            log = await open_log({url(path)!r})
            await log.append(Append([DRAFT], {{}}))
            await log.aclose()

        log = asyncio.run(open_log({url(path)!r}))
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later: forking beside threads.
        if os.fork() == 0:
            asyncio.run(child(log))
            os._exit(0)
        print(os.wait()[1])
        asyncio.run(log.aclose())
    """
    done = await asyncio.to_thread(run_python, script)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.count("was forked") for line in lines] == [1, 1, 0]
    assert lines[2] == "0"
    assert check(url(path)).events == 1


FORGETFUL = """
    import asyncio
    from evrt.log import Append, Draft, open_log

    async def main():
        global log, waiting
        log = await open_log({url!r})
        draft = Draft("a", "b", "018f0000-0000-7000-8000-000000000000", "a", b"{{}}", b"")
        await log.append(Append([draft], {{}}))
        await log.read()
        following = log.subscribe(1)
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.05)
        print("acknowledged")

    {run}
"""


@pytest.mark.parametrize(
    "run",
    [
        "asyncio.run(main())",
        "asyncio.run(main()); del log, waiting",
        "asyncio.run(main()); raise SystemExit(0)",
    ],
)
async def test_forgetting_to_close_neither_hangs_nor_loses(path: Path, run: str) -> None:
    done = await asyncio.to_thread(run_python, FORGETFUL.format(url=url(path), run=run))
    assert (done.returncode, done.stdout, done.stderr) == (0, "acknowledged\n", "")
    assert check(url(path)).events == 1


async def test_forgetting_to_close_is_warned_about_politely(path: Path) -> None:
    script = FORGETFUL.format(url=url(path), run="asyncio.run(main()); del log, waiting")
    done = await asyncio.to_thread(run_python, script, "-W", "always::ResourceWarning")
    assert "ResourceWarning: The log" in done.stderr
    assert "Traceback" not in done.stderr
