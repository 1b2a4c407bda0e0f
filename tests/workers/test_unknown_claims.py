"""The queue has given a worker something, and the answer was lost for good: what it does not know of goes to somebody."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import evrt
from connections.conftest import by_way_of
from connections.proxy import Proxy
from evrt.log import Log, open_log
from evrt.worker.worker import Worker, working
from postgres import fresh_url, shared
from workers.waits import Ctx, until


class ShortOfPatience(evrt.App):
    """An app that gives up a write after a second."""

    _opened: Log | None = None

    async def log(self, *, read_only: bool = False) -> Log:
        if self._opened is None:
            self._opened = await open_log(self.url, lock_timeout_seconds=1.0)
        return self._opened

    async def aclose(self) -> None:
        await super().aclose()
        if self._opened is not None:
            await self._opened.aclose()


class CutOff(Proxy):
    """Cuts the answer to the next COMMIT, and lets nobody connect after that."""

    def cut_next(self) -> None:
        def cut() -> bool:
            self.refuses = True
            self.cut_commit = lambda: False
            return True

        self.cut_commit = cut


async def test_runs_that_a_worker_was_given_without_hearing_of_it_are_executed() -> None:
    port = urlsplit(shared().network).port
    assert port is not None
    url = fresh_url(shared().network)
    with CutOff(port) as proxy:
        async with evrt.App(url) as outside, ShortOfPatience(by_way_of(proxy, url)) as app:
            for each in (outside, app):

                @each.workflow
                async def visit(ctx: Ctx) -> str:
                    return "came"

            log = await app.log()
            claim = log.coordination.claim
            queue: Any = log.coordination
            cut: list[Any] = []

            async def claim_cut_off(*args: Any, **options: Any) -> Any:
                if not cut:
                    cut.append(True)
                    proxy.cut_next()
                try:
                    return await claim(*args, **options)
                finally:
                    proxy.refuses = False

            queue.claim = claim_cut_off
            run = await outside.enqueue("visit")
            async with working(Worker(app, lease_seconds=600.0, poll_seconds=0.1, grace_seconds=0.0)):
                await until(lambda: proxy.cuts == 1 and not proxy.refuses)
                result = await run.result()
            assert result.output == "came"
