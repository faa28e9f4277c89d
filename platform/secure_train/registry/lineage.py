"""Where a model came from: enough to find, check and repeat it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import BudgetReservation, Dataset, Job, SearchTrial
from secure_train.registry.lookup import version_of_job


def lineage_of(session: Session, job: Job, weights_digest: str) -> dict[str, Any]:
    """Return the lineage of what a job publishes. ``weights_digest``: of the manifest the job wrote."""
    version = version_of_job(session, job)
    dataset = session.get_one(Dataset, job.dataset_id)
    spent = session.get_one(BudgetReservation, job.id)
    trial = session.scalar(select(SearchTrial).where(SearchTrial.job_id == job.id))
    return {
        "job": {
            "id": job.id,
            "name": job.name,
            "submitted_by": job.submitted_by,
            "purpose": job.purpose,
            "spec_digest": job.spec_digest,
            "code_digest": job.code_digest,
            "weights_digest": weights_digest,
            "noise_epoch": job.noise_epoch,
            "attempts": job.attempt,
            "generations": job.generation,
            "search": trial and {"id": trial.search_id, "trial": trial.number},
        },
        "dataset": {
            "id": dataset.id,
            "name": dataset.name,
            "version": version.version,
            "digest": version.digest,
            "training_rows": version.training_rows,
            "holdout_rows": version.holdout_rows,
        },
        "privacy": {"epsilon_spent": spent.spent_epsilon, "delta_spent": spent.spent_delta},
    }
