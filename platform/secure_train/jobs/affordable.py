"""What a job would need of its dataset's budget, and which ε it could have instead."""

from __future__ import annotations

from secure_train import ledger
from secure_train.jobs.cost import Cost
from secure_train.ledger import BudgetExceeded, Claim, Room
from secure_train.ledger.reservations import WAIT
from secure_train.ledger.room import shortage
from secure_train.spec import TrainingJob


def claim_of(spec: TrainingJob, cost: Cost) -> Claim:
    """Return all that a job may come to."""
    return Claim(cost.events, spec.privacy.epsilon, spec.privacy.delta)


def shortage_of(room: Room, claim: Claim) -> str | None:
    """Say in words why a job does not fit; None if it does."""
    refusing = room.refusing(claim)
    return None if refusing is None else shortage(refusing, claim)


def with_remedy(short: BudgetExceeded, cost: Cost) -> BudgetExceeded:
    """Add which ε would fit. Takes up to a second: call it outside of transactions."""
    return BudgetExceeded(short.shortage, remedy(ledger.largest_epsilon(short.room, cost.shape)), short.room)


def remedy(fitting_epsilon: float | None) -> str:
    """Say what a person can do about a job that does not fit."""
    if fitting_epsilon is None:
        return f"no ε would fit this job; {WAIT}"
    return f"privacy.epsilon up to {fitting_epsilon!r} would fit, all else as it is; or {WAIT}"
