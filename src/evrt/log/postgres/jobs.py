"""What the writer of a log on PostgreSQL can be asked to do, beside appending."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from evrt.log.postgres.transaction import Transaction


class WantedRef(NamedTuple):
    kind: str
    external: str


class Erasure(NamedTuple):
    position: int


class Forgetting(NamedTuple):
    ref: str


class Change(Protocol):
    """A change of what stands beside the events, made in the transaction of a batch."""

    def make(self, transaction: Transaction) -> object:
        """Raises NotFound, Conflict; then nothing has been changed."""
        ...
