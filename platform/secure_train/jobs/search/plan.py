"""A search's cost and the decision on it, as the message that people read."""

from __future__ import annotations

from collections.abc import Sequence

from secure_train.db.tables import Dataset
from secure_train.jobs.search.pricing import (
    Planned,
    claims_of,
    fitting_epsilon,
    fitting_trials,
    shortage_of,
    together,
)
from secure_train.jobs.submission import Offer
from secure_train.ledger import Room
from secure_train.ledger.exact import rounded_up, total
from secure_train.policy import Decision
from secure_train.spec import SearchJob
from secure_train.wire.searches import SearchPlan, TrialPlan


def search_plan(
    spec: SearchJob,
    planned: Sequence[Planned],
    offers: Sequence[Offer],
    dataset: Dataset,
    room: Room,
    decision: Decision,
) -> SearchPlan:
    """Put a plan together. Takes up to a second; raises SpecErrors if a trial has no price."""
    costs = [offer.cost for offer in offers]
    claims = claims_of(planned, costs)
    whole, delta = room.limits[-1], spec.template.privacy.delta
    return SearchPlan(
        spec=spec.model_dump(mode="json", by_alias=True),
        dataset=dataset.id,
        dataset_version=offers[0].version,
        training_rows=offers[0].training_rows,
        trials=[
            TrialPlan(
                number=trial.number,
                parameters=None if trial.assignment is None else dict(trial.assignment),
                epsilon=trial.spec.privacy.epsilon,
                delta=cost.delta,
                noise_multiplier=cost.noise_multiplier,
                sampling_rate=cost.sampling_rate,
                steps=cost.steps,
            )
            for trial, cost in zip(planned, costs, strict=True)
        ],
        epsilon_sum=rounded_up(total(claim.epsilon for claim in claims)),
        delta_sum=rounded_up(total(claim.delta for claim in claims)),
        epsilon_together=together(claims, delta),
        delta=delta,
        allowed=decision.allowed,
        decision_id=decision.id,
        reason=decision.reason,
        policies=list(decision.policies),
        composition=dataset.composition,
        budget_epsilon=whole.epsilon,
        budget_delta=whole.delta,
        budget_used_epsilon=rounded_up(whole.used().epsilon),
        budget_with_search_epsilon=rounded_up(whole.used(*claims).epsilon),
        budget_available_epsilon=room.left_epsilon(),
        fits_budget=room.refusing(*claims) is None,
        shortage=shortage_of(room, claims),
        fitting_trials=fitting_trials(room, claims),
        fitting_epsilon=fitting_epsilon(room, costs),
    )
