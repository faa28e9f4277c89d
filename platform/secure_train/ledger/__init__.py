"""Privacy budgets: what datasets allow, what jobs hold, and what they have been charged."""

from secure_train.ledger.accounts import budget, steps_charged
from secure_train.ledger.charges import charge_evaluation, charge_training, training_epsilon
from secure_train.ledger.errors import BudgetExceeded, ChargeRefused, LedgerError, NoReservation
from secure_train.ledger.reservations import reopen, reserve, settle

__all__ = [
    "BudgetExceeded",
    "ChargeRefused",
    "LedgerError",
    "NoReservation",
    "budget",
    "charge_evaluation",
    "charge_training",
    "reopen",
    "reserve",
    "settle",
    "steps_charged",
    "training_epsilon",
]
