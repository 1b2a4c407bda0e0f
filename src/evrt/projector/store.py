"""Where views are kept, as their writer sees it: generations, documents to fold on from, and what a batch changes.

Documents and cursor change in one transaction, and only where the cursor is still the one that the batch began at.
So of two projectors that work on one view, dead, frozen or alive, one is always refused and looks again, and a view
is at every moment the fold of the events up to its cursor.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import BaseModel

from evrt.errors import UsageError
from evrt.projection import AnyProjection, Document, Place, Projection
from evrt.projector import transactions
from evrt.projector.records import (
    Change,
    Family,
    Generation,
    Kept,
    Misfit,
)
from evrt.projector.schema import column

D = TypeVar("D", bound=BaseModel)
R = TypeVar("R")


class ViewStore(ABC):
    """The connection that writes, of one event loop.

    Each transaction is one call in a thread of its own, from its begin to its commit: nobody who is cancelled
    meanwhile leaves one open, and another's work never gets into it.
    """

    def __init__(self, place: str, log: str) -> None:
        self.place = place
        """Where the views are, for people."""
        self._log = log
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evrt views")
        self._closed = False

    # ------------------------------------------------------------------------------- generations

    async def generations(self) -> list[Generation]:
        """Every generation of every view."""
        return await self._do(transactions.generations, writes=False)

    async def ensure(self, projection: AnyProjection) -> Generation | None:
        """The generation that a program with this projection has to keep; made where there is none.

        It is the live one, or where that is of an older version or has other indexes, one that is built beside it.
        None where the live one is of a newer version.
        """
        return await self._do(lambda connection: transactions.ensure(connection, projection))

    async def build(self, projection: AnyProjection, *, anew: bool = False) -> Generation:
        """A generation beside the live one, to take its place when it has been built; ``anew`` drops one begun before.

        Raises UsageError where the live one, or the one that is being built, is of a newer version.
        """
        return await self._do(lambda connection: transactions.build(connection, projection, anew))

    async def remove(self, generation: Generation) -> None:
        """Throw a generation and its documents away, unless somebody has moved it meanwhile."""
        await self._do(lambda connection: transactions.remove_unmoved(connection, generation))

    async def release(self, owner: str) -> None:
        """Let others go on at once with what this owner has kept."""
        await self._do(
            lambda connection: connection.execute("UPDATE views SET owner = NULL WHERE owner = ?", (owner,))
        )

    # --------------------------------------------------------------------------------- documents

    async def load(
        self, generation: Generation, projection: Projection[D], places: Sequence[Place]
    ) -> tuple[dict[Place, Document[D] | Misfit], int]:
        """Those of the documents in these places that there are, and how many bytes their JSON has."""
        return await self._do(
            lambda connection: transactions.load(connection, generation, projection, places), writes=False
        )

    async def families(self, generation: Generation, keys: Sequence[str]) -> dict[str, Family]:
        """What is known of these keys."""
        return await self._do(
            lambda connection: transactions.load_families(connection, generation, keys), writes=False
        )

    async def changed_since(self, generation: Generation, key: str, position: int) -> list[Kept]:
        """The documents of a key that an event after this position has changed, as they are now."""
        return await self._do(
            lambda connection: transactions.changed_since(connection, generation, key, position),
            writes=False,
        )

    async def commit(self, changes: Sequence[Change], owner: str) -> bool:
        """Write batches of several generations, all or none. Returns whether a built one has taken its view's place.

        Raises Overtaken, and then nothing is written; Unavailable.
        """
        return await self._do(lambda connection: transactions.commit(connection, changes, owner))

    def as_column(self, projection: AnyProjection, field: str, value: object) -> object:
        """An indexed value as its column takes it. Raises InvalidInput for a number beyond 64 bits."""
        return column(value)

    # ------------------------------------------------------------------------------- the database

    async def _do(self, work: Callable[[transactions.Connection], R], writes: bool = True) -> R:
        """Do something in one transaction. Raises Unavailable, UnusableLog, and what the work raises.

        Somebody who is cancelled meanwhile does not know whether it was done: look again.
        """
        if self._process != os.getpid():
            raise forked(self.place)
        if self._closed:
            raise UsageError(f"The views {self.place} have been closed; open them again.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work, writes)

    @abstractmethod
    def _transact(self, work: Callable[[transactions.Connection], R], writes: bool) -> R:
        """Begin, do, commit; in the store's thread."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the connection; in the store's thread."""

    async def aclose(self) -> None:
        """Close the connection, when what is under way has been done. Idempotent."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)


def forked(place: str) -> UsageError:
    """What a child process is told that goes on with its parent's views."""
    return UsageError(
        f"The views {place} were opened before this process was forked and their thread stayed behind. Open them again "
        "here, or start workers by spawning them."
    )
