"""The check at the end: every claim decided exactly once, and as the policy says. Data only, nothing is printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from evrt.demo.claims import Claim
from evrt.demo.ledger import Entry, Ledger, Tray
from evrt.demo.policy import Decision, Outcome, Policy, Rates, decide

Verdict = Literal["agrees", "differs", "missing", "more than once"]


@dataclass(frozen=True, slots=True)
class Row:
    """One claim: what the policy says, and what the ledger and the tray hold about it."""

    claim: Claim
    expected: Decision
    found: tuple[Entry, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether the two agree."""
        if not self.found:
            return "missing"
        if len(self.found) > 1:
            return "more than once"
        entry, expected = self.found[0], self.expected
        amount = None if entry.amount_eur is None else Decimal(entry.amount_eur)
        found = (entry.decision, entry.reason, amount)
        return "agrees" if found == (expected.outcome, expected.reason, expected.amount_eur) else "differs"


@dataclass(frozen=True, slots=True)
class Verification:
    """What the check found. ``strays`` are entries about claims that nobody made."""

    rows: tuple[Row, ...]
    strays: tuple[Entry, ...]

    @property
    def ok(self) -> bool:
        """Every claim decided exactly once and as the policy says, and nothing else."""
        return not self.strays and all(row.verdict == "agrees" for row in self.rows)

    @property
    def found(self) -> tuple[Entry, ...]:
        """Every entry, strays included."""
        return tuple(entry for row in self.rows for entry in row.found) + self.strays

    @property
    def outcomes(self) -> Counter[str]:
        """How many claims were approved, rejected and left to a person, as found."""
        return Counter(entry.decision for entry in self.found)

    @property
    def deliveries_repeated(self) -> int:
        """How many deliveries came again, after a crash or a retry, and changed nothing."""
        return sum(entry.deliveries - 1 for entry in self.found)

    @property
    def refusals(self) -> int:
        """How many deliveries contradicted an earlier one and were refused."""
        return sum(entry.refusals for entry in self.found)

    def amount_eur(self, outcome: Outcome) -> Decimal:
        """What the entries with this outcome come to."""
        return sum(
            (
                Decimal(entry.amount_eur)
                for entry in self.found
                if entry.decision == outcome and entry.amount_eur
            ),
            Decimal("0.00"),
        )

    @property
    def problems(self) -> list[str]:
        """One sentence for each thing that is not as it should be."""
        told = [_told(row) for row in self.rows if row.verdict != "agrees"]
        return told + [f"{entry.claim}: decided, but there is no such claim." for entry in self.strays]


def verify(claims: Sequence[Claim], ledger: Ledger, tray: Tray, policy: Policy, rates: Rates) -> Verification:
    """Decide every claim again by the policy, and compare with what the ledger and the tray hold."""
    found: dict[str, list[Entry]] = {claim.claim: [] for claim in claims}
    strays: list[Entry] = []
    for entry in ledger.entries() + tray.entries():
        found.get(entry.claim, strays).append(entry)
    rows = (Row(claim, decide(claim, policy, rates), tuple(found[claim.claim])) for claim in claims)
    return Verification(tuple(rows), tuple(strays))


def _told(row: Row) -> str:
    says = f"{row.expected.outcome}, {_euros(row.expected.amount_eur)}, {row.expected.reason}"
    holds = " and ".join(
        f"{entry.decision}, {_euros(entry.amount_eur)}, {entry.reason}" for entry in row.found
    )
    return f"{row.claim.claim}: the policy says {says}; found is {holds or 'nothing'}."


def _euros(amount: Decimal | str | None) -> str:
    return "no amount" if amount is None else f"{amount} EUR"
