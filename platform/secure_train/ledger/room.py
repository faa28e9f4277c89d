"""What a dataset's budget, and a project's part of it, still have room for."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from secure_train.ledger.exact import difference, exact, rounded_down
from secure_train.ledger.rules import Amount, Claim, Rule


@dataclass(frozen=True)
class Limit:
    """An ε that jobs together have to stay within, at the dataset's δ.

    Attributes:
        name: what sets it, for people: "the budget of dataset 'adult'".
        epsilon, delta: the limit.
        rule: how claims add up.
        claims: of the jobs that count towards it: all of what they hold, or, once they have ended, count for.
        spent: of the same jobs, what they have been charged so far.
    """

    name: str
    epsilon: float
    delta: float
    rule: Rule
    claims: tuple[Claim, ...]
    spent: tuple[Claim, ...]

    def used(self, *more: Claim) -> Amount:
        """Return what is spent or held, with further claims if any are given."""
        return self.rule.cost([*self.claims, *more], self.delta)

    def charged(self) -> Amount:
        """Return what has been spent. Never more than what is used."""
        return self.rule.cost(self.spent, self.delta)

    def admits(self, *more: Claim) -> bool:
        """Whether everything, with these claims, stays within the limit."""
        used = self.used(*more)
        return used.epsilon <= exact(self.epsilon) and used.delta <= exact(self.delta)

    def left(self) -> Amount:
        """Return the limit less what is used. Never negative: nothing is admitted, or lowered, beyond it."""
        used = self.used()
        return Amount(
            difference(exact(self.epsilon), used.epsilon), difference(exact(self.delta), used.delta)
        )


@dataclass(frozen=True)
class Room:
    """The limits that a project's jobs on a dataset have to stay within, all of them."""

    limits: tuple[Limit, ...]

    def refusing(self, *claims: Claim) -> Limit | None:
        """Return the first limit that does not admit a job, or jobs together, or None if all do."""
        return next((limit for limit in self.limits if not limit.admits(*claims)), None)

    def left_epsilon(self) -> float:
        """Return the least ε that any limit has left, rounded down."""
        return max(0.0, rounded_down(min(limit.left().epsilon for limit in self.limits)))


def shortage(limit: Limit, claim: Claim) -> str:
    """Say in words by how much a job does not fit."""
    used, charged, wanted = limit.used(), limit.charged(), limit.used(claim)
    held = difference(used.epsilon, charged.epsilon)
    text = (
        f"the job costs ε {claim.epsilon:g} by itself (δ {claim.delta:g}); {limit.name} is "
        f"ε {limit.epsilon:g} (δ {limit.delta:g}), of which {_shown(charged.epsilon)} are spent, "
        f"{_shown(held)} held by other jobs and {_shown(limit.left().epsilon)} left. "
    )
    if wanted.epsilon > exact(limit.epsilon):
        return text + f"With this job it would come to ε {_shown(wanted.epsilon)}"
    return text + f"With this job it would come to δ {_shown(wanted.delta)}"


def _shown(value: Decimal) -> str:
    return f"{float(value):.4g}"
