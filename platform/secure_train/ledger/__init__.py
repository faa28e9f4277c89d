"""Privacy budgets: what datasets allow, what jobs hold, and what they have been charged."""

from secure_train.ledger.accounts import lock_dataset, room, steps_charged
from secure_train.ledger.changes import allocate, open_budget, set_budget
from secure_train.ledger.charges import charge_evaluation, charge_training, training_epsilon
from secure_train.ledger.errors import (
    BudgetChangeRefused,
    BudgetExceeded,
    ChargeRefused,
    LedgerError,
    NoReservation,
)
from secure_train.ledger.fitting import Shape, largest_epsilon
from secure_train.ledger.reservations import reopen, reserve, settle
from secure_train.ledger.room import Room
from secure_train.ledger.rules import Claim
from secure_train.ledger.views import budget

__all__ = [
    "BudgetChangeRefused",
    "BudgetExceeded",
    "ChargeRefused",
    "Claim",
    "LedgerError",
    "NoReservation",
    "Room",
    "Shape",
    "allocate",
    "budget",
    "charge_evaluation",
    "charge_training",
    "largest_epsilon",
    "lock_dataset",
    "open_budget",
    "reopen",
    "reserve",
    "room",
    "set_budget",
    "settle",
    "steps_charged",
    "training_epsilon",
]
