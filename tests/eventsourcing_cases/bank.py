"""A bank as an application of the eventsourcing library, and an app of evrt beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.application import Application, ProcessingEvent
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.projection import EventSourcedProjection
from eventsourcing.utils import get_topic

import evrt
from eventsourcing_cases.logs import MODULE


class Account(Aggregate):
    """Has a balance."""

    def __init__(self) -> None:
        self.balance = 0

    class Credited(Aggregate.Event):
        """Something was paid in."""

        amount: int

    @event(Credited)
    def credit(self, amount: int) -> None:
        self.balance += amount


class Gift(Aggregate):
    """For whoever opened an account."""

    def __init__(self, account: UUID) -> None:
        self.account = account


class Gifts(EventSourcedProjection[UUID]):
    """Gives one for every account, in the transaction of its tracking."""

    name = "gifts"
    topics = (get_topic(Account.Created),)

    @singledispatchmethod
    def policy(self, domain_event: Any, processing_event: ProcessingEvent[UUID]) -> None:
        processing_event.collect_events(Gift(domain_event.originator_id))


class Bank(Application[UUID]):
    """Opens accounts and credits them."""

    def open_account(self) -> UUID:
        account = Account()
        self.save(account)
        return account.id

    def credit(self, account_id: UUID, amount: int) -> int:
        """The notification's id."""
        account: Account = self.repository.get(account_id)
        account.credit(amount)
        return self.save(account)[-1].notification.id

    def balance(self, account_id: UUID) -> int:
        account: Account = self.repository.get(account_id)
        return account.balance


def open_bank(path: Path) -> Bank:
    return Bank(env={"PERSISTENCE_MODULE": MODULE, "SQLITE_DBNAME": str(path)})


@evrt.tool(effect="read")
async def rate(currency: str) -> int:
    """What a franc is worth."""
    return len(currency)


async def exchange(ctx: evrt.Context[None], amount: int) -> int:
    """A run with a bit of everything."""
    rates = await ctx.gather(ctx.call(rate, currency="EUR"), ctx.call(rate, currency="YEN"))
    await ctx.memory.set("last", amount)
    await ctx.checkpoint({"amount": amount})
    return amount * int(sum(rates))


def open_evrt(url: str) -> evrt.App:
    app = evrt.App(url)
    app.workflow(exchange)
    return app
