"""What the DP statement of a trial's model says of the search that it came out of."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import dp
from secure_train.db.tables import BudgetReservation, Job, Search, SearchTrial
from secure_train.dp.composition import total_epsilon
from secure_train.ledger.events import events_from_json

_METHOD = (
    "{sampler} search; every trial is charged to the dataset's budget, and composed; the best is chosen by "
    "its released, noised {objective}, which is post-processing"
)


def tuning_of(session: Session, job: Job) -> dp.Tuning | None:
    """State the search of a job; None for a job that is no trial.

    ε is of all trials together, at the job's δ: of all that they may come to, since others may go on.
    """
    query = select(Search).join(SearchTrial, SearchTrial.search_id == Search.id)
    search = session.scalar(query.where(SearchTrial.job_id == job.id))
    if search is None:
        return None
    held = select(BudgetReservation.events).join(SearchTrial, SearchTrial.job_id == BudgetReservation.job_id)
    events = [
        event
        for planned in session.scalars(held.where(SearchTrial.search_id == search.id))
        for event in events_from_json(planned)
    ]
    settings = search.spec["search"]
    return dp.Tuning(
        search=search.id,
        method=_METHOD.format(sampler=settings["sampler"], objective=settings["objective"]),
        trials_charged=search.trials,
        epsilon=total_epsilon(events, job.delta),
    )
