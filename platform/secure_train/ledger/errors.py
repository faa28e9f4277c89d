"""What the ledger refuses."""

from __future__ import annotations

from secure_train.ledger.room import Room


class LedgerError(Exception):
    """Root of this package's errors."""


class BudgetExceeded(LedgerError):
    """A dataset's budget, or a project's part of it, does not have room for a job.

    Attributes:
        shortage: what is spent, held, left and asked for, in words; the message adds what to do.
        room: what there is, to find out which ε would fit (`largest_epsilon`).
    """

    def __init__(self, shortage: str, remedy: str, room: Room) -> None:
        self.shortage = shortage
        self.room = room
        super().__init__(f"{shortage}: {remedy}")


class ChargeRefused(LedgerError):
    """A charge does not fit the job's plan or reservation. Nothing was charged: nothing may be released."""


class NoReservation(LedgerError):
    """The job has reserved nothing."""


class BudgetChangeRefused(LedgerError):
    """A budget cannot be set to this."""
