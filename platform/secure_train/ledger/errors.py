"""What the ledger refuses."""


class LedgerError(Exception):
    """Root of this package's errors."""


class BudgetExceeded(LedgerError):
    """A dataset's budget does not have what a job asks for.

    Attributes:
        available_epsilon, available_delta: what is neither spent nor held.
    """

    def __init__(self, message: str, available_epsilon: float, available_delta: float) -> None:
        self.available_epsilon = available_epsilon
        self.available_delta = available_delta
        super().__init__(message)


class ChargeRefused(LedgerError):
    """A charge does not fit the job's plan or reservation. Nothing was charged: nothing may be released."""


class NoReservation(LedgerError):
    """The job has reserved nothing."""
