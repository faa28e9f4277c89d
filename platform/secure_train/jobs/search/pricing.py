"""What a search costs: each trial by itself, and all in their dataset's budget. Public figures only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from secure_train import ledger
from secure_train.db.tables import DatasetVersion
from secure_train.dp.composition import total_epsilon
from secure_train.jobs.affordable import claim_of
from secure_train.jobs.cost import Cost
from secure_train.jobs.submission import Offer, price
from secure_train.ledger import BudgetExceeded, Claim, Room
from secure_train.ledger.reservations import WAIT
from secure_train.spec import (
    Assignment,
    RegressionTarget,
    SearchJob,
    SpecError,
    SpecErrors,
    TrainingJob,
    schema_from_json,
)

MAX_PRICES = 16
"""Trials of different cost; each price takes seconds of work."""


@dataclass(frozen=True)
class Planned:
    """A trial before it is a row: its values, None where they are chosen later, and its job."""

    number: int
    assignment: Assignment | None
    spec: TrainingJob


def price_all(search: SearchJob, planned: Sequence[Planned], version: DatasetVersion) -> list[Offer]:
    """Price every trial on a dataset version. Takes seconds: call it outside of transactions.

    An offer's price is SpecErrors where its trial, or the objective, does not fit the dataset.
    """
    mismatch = _objective_problem(search, version)
    if mismatch is not None:
        return [_refused(version, SpecErrors([mismatch], "search")) for _ in planned]
    prices: dict[object, Offer] = {}
    offers = []
    for trial in planned:
        privacy, training = trial.spec.privacy, trial.spec.training
        decisive = (privacy.epsilon, privacy.delta, privacy.evaluation, training.batch_size)
        key = (*decisive, training.epochs, training.steps)
        if key not in prices:
            if len(prices) == MAX_PRICES:
                return [_refused(version, SpecErrors([_too_many_prices()], "search")) for _ in planned]
            prices[key] = _priced(trial, version)
        offers.append(prices[key])
    return offers


def claims_of(planned: Sequence[Planned], costs: Sequence[Cost]) -> list[Claim]:
    """Return all that each trial may come to."""
    return [claim_of(trial.spec, cost) for trial, cost in zip(planned, costs, strict=True)]


def together(claims: Sequence[Claim], delta: float) -> float:
    """Return ε of all trials together at `delta`, however they were chosen in the light of each other."""
    return total_epsilon([event for claim in claims for event in claim.events], delta)


def fitting_trials(room: Room, claims: Sequence[Claim]) -> int:
    """Return how many of the trials, from the first on, there is room for."""
    low, high = 0, len(claims)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if room.refusing(*claims[:middle]) is None else (low, middle - 1)
    return low


def fitting_epsilon(room: Room, costs: Sequence[Cost]) -> float | None:
    """Return the largest ε of each trial with which all would fit; None if none would, or trials differ.

    Takes up to a second: call it outside of transactions.
    """
    if len(set(costs)) > 1:
        return None
    return ledger.largest_epsilon(room, costs[0].shape, jobs=len(costs))


def shortage_of(room: Room, claims: Sequence[Claim]) -> str | None:
    """Say in words why the trials do not fit together; None if they do."""
    limit = room.refusing(*claims)
    if limit is None:
        return None
    used, wanted = limit.used(), limit.used(*claims)
    return (
        f"the search's {len(claims)} trials are all charged: {limit.name} is ε {limit.epsilon:g} "
        f"(δ {limit.delta:g}), of which {float(used.epsilon):.4g} are spent or held, and with them it would "
        f"come to ε {float(wanted.epsilon):.4g} (δ {float(wanted.delta):.4g})"
    )


def with_remedy(short: BudgetExceeded, claims: Sequence[Claim], costs: Sequence[Cost]) -> BudgetExceeded:
    """Add how many trials, or which ε, would fit. Call it outside of transactions."""
    trials, epsilon = fitting_trials(short.room, claims), fitting_epsilon(short.room, costs)
    return BudgetExceeded(short.shortage, remedy(trials, epsilon, short.room), short.room)


def remedy(trials: int, epsilon: float | None, room: Room) -> str:
    """Say what a person can do about a search that does not fit."""
    ways = [f"{trials} of its trials would fit"] if trials else ["not one of its trials would fit"]
    if epsilon is not None:
        ways.append(f"or all of them with template.privacy.epsilon up to {epsilon!r}")
    return f"{', '.join(ways)}; or {WAIT}"


def _priced(trial: Planned, version: DatasetVersion) -> Offer:
    offer = price(trial.spec, version)
    if not isinstance(offer.price, SpecErrors):
        return offer
    values = f" (trial {trial.number}: {dict(trial.assignment)})" if trial.assignment else ""
    errors = [
        replace(error, path=f"template.{error.path}", message=f"{error.message}{values}")
        for error in offer.price.errors
    ]
    return _refused(version, SpecErrors(errors, "search"))


def _refused(version: DatasetVersion, errors: SpecErrors) -> Offer:
    return Offer(version.dataset_id, version.version, version.training_rows, errors)


def _objective_problem(search: SearchJob, version: DatasetVersion) -> SpecError | None:
    regression = isinstance(schema_from_json(version.schema).target, RegressionTarget)
    released = ("error",) if regression else ("accuracy", "loss")
    if search.search.objective in released:
        return None
    return SpecError(
        path="search.objective",
        message=f"is not released for {'regression' if regression else 'classification'}",
        given=search.search.objective,
        allowed=" or ".join(released),
        hint="choose what the held-out evaluation releases for this dataset's target",
    )


def _too_many_prices() -> SpecError:
    return SpecError(
        path="search.parameters",
        message="makes too many trials of different cost",
        allowed=f"at most {MAX_PRICES} combinations of ε, δ, evaluation, batch size and number of steps",
        hint="list a few choices for what changes the cost, rather than a range",
    )
