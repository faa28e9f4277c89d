"""What a job costs: from its specification and the public size of its dataset to σ, q, T and the split of ε.

Unit of privacy: a record. Adjacency: add or remove one. Sampler: Poisson with rate q at every step.
Everything here is computed from public figures only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from secure_train import dp
from secure_train.dp.composition import DpEvent
from secure_train.ledger import Shape
from secure_train.spec import DatasetSchema, SpecError, SpecErrors, TrainingJob
from secure_train.spec.job import MAX_STEPS


@dataclass(frozen=True)
class Cost:
    """The privacy plan of one job.

    Attributes:
        sampling_rate: q = batch size / training rows.
        steps: T, logical steps of a whole run.
        noise_multiplier: σ, smallest for which T steps stay within ``training_epsilon`` at ``delta``.
        training_epsilon: ε of T steps.
        evaluation_epsilon: ε for all held-out metrics together (pure); basic composition with training.
        delta: δ, all of it training's, at which this job by itself is stated.
    """

    sampling_rate: float
    steps: int
    noise_multiplier: float
    training_epsilon: float
    evaluation_epsilon: float
    delta: float

    @property
    def shape(self) -> Shape:
        """The job but for its noise."""
        return Shape(self.sampling_rate, self.steps, self.delta, self.evaluation_epsilon)

    @property
    def events(self) -> tuple[DpEvent, ...]:
        """All that the job may release."""
        return self.shape.events(self.noise_multiplier)


def cost_of(job: TrainingJob, schema: DatasetSchema, training_rows: int, holdout_rows: int) -> Cost:
    """Work out what the job costs on a dataset version of that size. Pure; calibrating takes seconds.

    Raises:
        SpecErrors: the job does not fit the dataset; every error, with its path.
    """
    steps = steps_of(job, training_rows)
    evaluation = evaluation_epsilon(job)
    problems = [*_batch_problems(job, training_rows), *_length_problems(job, steps)]
    problems += _evaluation_problems(job, schema, holdout_rows)
    if problems:
        raise SpecErrors(problems, "job")
    rate = job.training.batch_size / training_rows
    training = _share_of_training(job.privacy.epsilon, evaluation)
    try:
        noise_multiplier = dp.calibrate(training, job.privacy.delta, rate, steps)
    except dp.InvalidParameterError as error:
        raise SpecErrors([_no_noise_fits(job, str(error))], "job") from error
    return Cost(
        sampling_rate=rate,
        steps=steps,
        noise_multiplier=noise_multiplier,
        training_epsilon=training,
        evaluation_epsilon=evaluation,
        delta=job.privacy.delta,
    )


def steps_of(job: TrainingJob, training_rows: int) -> int:
    """T: as given, or the expected number of batches of that many passes, rounded up."""
    if job.training.steps is not None:
        return job.training.steps
    return max(1, math.ceil((job.training.epochs or 0) * training_rows / job.training.batch_size))


def evaluation_epsilon(job: TrainingJob) -> float:
    """ε that the job sets aside for metrics on held-out rows."""
    return 0.0 if job.privacy.evaluation is None else job.privacy.evaluation.epsilon


def _share_of_training(total: float, evaluation: float) -> float:
    """What is left of ``total``, rounded down: the two shares must not exceed it by a rounding."""
    exact = Fraction(total) - Fraction(evaluation)
    nearest = float(exact)
    return nearest if Fraction(nearest) <= exact else math.nextafter(nearest, 0.0)


def _no_noise_fits(job: TrainingJob, why: str) -> SpecError:
    return SpecError(
        path="privacy.epsilon",
        message=f"cannot be met with these steps and this batch size: {why}",
        given=f"{job.privacy.epsilon:g}",
        hint="change privacy.epsilon, training.batchSize or the number of steps",
    )


def _batch_problems(job: TrainingJob, training_rows: int) -> list[SpecError]:
    if job.training.batch_size <= training_rows:
        return []
    return [
        SpecError(
            path="training.batchSize",
            message="is larger than the dataset",
            given=str(job.training.batch_size),
            allowed=f"1 to {training_rows}, the number of training rows",
            hint="lower training.batchSize",
        )
    ]


def _length_problems(job: TrainingJob, steps: int) -> list[SpecError]:
    if steps <= MAX_STEPS:
        return []
    return [
        SpecError(
            path="training.epochs",
            message=f"makes {steps} steps with this batch size",
            given=str(job.training.epochs),
            allowed=f"at most {MAX_STEPS} steps",
            hint="lower training.epochs or raise training.batchSize",
        )
    ]


def _evaluation_problems(job: TrainingJob, schema: DatasetSchema, holdout_rows: int) -> list[SpecError]:
    evaluation = job.privacy.evaluation
    if evaluation is None:
        return []
    if holdout_rows == 0:
        return [
            SpecError(
                path="privacy.evaluation",
                message="needs held-out rows, and the dataset has none",
                hint="remove the section, or ask the owner for a version with `holdout.fraction` above 0",
            )
        ]
    if evaluation.epsilon == 0 and schema.holdout.release != "exact":
        return [
            SpecError(
                path="privacy.evaluation.epsilon",
                message="is 0, and the owner has not released the held-out rows for exact evaluation",
                given="0",
                allowed=f"more than 0 and less than privacy.epsilon, which is {job.privacy.epsilon:g}",
                hint="set a part of privacy.epsilon aside for evaluation, or remove the section",
            )
        ]
    return []
