"""How the jobs on a dataset add up: two rules, of which the owner chooses one for good at registration.

Unit: one record. Adjacency: add or remove one. Both hold for jobs that are chosen in the light of what
earlier ones released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from secure_train.dp import Adjacency
from secure_train.dp.composition import DpEvent, Pure, merged, total_epsilon
from secure_train.ledger.exact import difference, exact, rounded_up, total


@dataclass(frozen=True)
class Amount:
    """Some ε and δ, exactly."""

    epsilon: Decimal
    delta: Decimal


@dataclass(frozen=True)
class Claim:
    """What one job has, or may, come to.

    Attributes:
        events: typed events.
        epsilon, delta: of the job by itself; what the rule `basic` adds up.
    """

    events: tuple[DpEvent, ...]
    epsilon: float
    delta: float


class Rule(Protocol):
    """Composes the claims of all jobs."""

    def cost(self, claims: Iterable[Claim], delta: float) -> Amount:
        """Return what all claims together come to, rounded up; `delta` is the dataset's δ."""

    def counted(self, planned: Claim, spent: Claim) -> Claim:
        """Return what a job has spent, and counts for once it has ended; never falls while it is charged."""


class RdpFilter:
    """A Rényi filter: the curves of all events add up, and become one ε at the dataset's δ.

    Charged steps are all that a job counts for once it has ended, whenever and why ever it did: the filter's
    guarantee holds at each step (see ``secure_train.dp.composition``).
    """

    def cost(self, claims: Iterable[Claim], delta: float) -> Amount:
        """Compose the curves."""
        events = merged(event for claim in claims for event in claim.events)
        if not events:
            return Amount(Decimal(0), Decimal(0))
        return Amount(exact(total_epsilon(events, delta)), exact(delta))

    def counted(self, planned: Claim, spent: Claim) -> Claim:
        """Return what was charged."""
        return spent


class Basic:
    """Basic composition: ε and δ of the jobs are summed (Dwork and Roth 2014, theorem 3.16).

    That a job's parameters may be chosen adaptively: Rogers et al. 2016, theorem 3.6.
    """

    def cost(self, claims: Iterable[Claim], delta: float) -> Amount:
        """Add up."""
        claims = list(claims)
        return Amount(total(claim.epsilon for claim in claims), total(claim.delta for claim in claims))

    def counted(self, planned: Claim, spent: Claim) -> Claim:
        """Return the evaluations that were charged, and all of training once its first step was.

        (ε, δ) after t steps is a bound for a t that was fixed beforehand. When a job is stopped half-way may
        depend on what it had released, so what holds for it is the bound for all of its steps: what it did
        release can be computed from what it would have released.
        """
        evaluations = [event for event in spent.events if isinstance(event, Pure)]
        epsilons = [event.epsilon for event in evaluations for _ in range(event.releases)]
        if len(evaluations) == len(spent.events):
            return Claim(spent.events, rounded_up(total(epsilons)), 0.0)
        aside = total(event.epsilon for event in planned.events if isinstance(event, Pure))
        training = difference(exact(planned.epsilon), aside)
        return Claim(
            spent.events,
            min(planned.epsilon, rounded_up(total([rounded_up(training), *epsilons]))),
            planned.delta,
        )


RULES: dict[str, Rule] = {"rdp-filter": RdpFilter(), "basic": Basic()}


def replace_one_epsilon(claims: Iterable[Claim], delta: float) -> float:
    """What all claims together come to under replace-one, by the Rényi filter whatever the rule is."""
    events = [event for claim in claims for event in claim.events]
    return total_epsilon(events, delta, Adjacency.REPLACE_ONE)
