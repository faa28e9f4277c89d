"""Metrics on held-out rows: when they are due, what each costs, and what is released."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from secure_train.client.errors import ApiError
from secure_train.client.worker_client import WorkerClient
from secure_train.dp import EvaluationPlan, evaluate_private
from secure_train.spec import DatasetSchema, Evaluation
from secure_train.training.encoding import Examples
from secure_train.training.failures import PermanentFailure
from secure_train.training.state import Snapshot
from secure_train.training.tasks import HeldOutSums, Task
from secure_train.wire.worker import ReleaseMetrics, ReportLog


@dataclass(frozen=True)
class Schedule:
    """Which steps are evaluated, and at which ε each.

    In a later noise epoch only the final evaluation is: its steps are run again, and evaluating them again
    would spend what is set aside for the end.

    Attributes:
        evaluation: of the job's specification.
        final_step: where training ends in this noise epoch.
        noise_epoch: the current one.
    """

    evaluation: Evaluation
    final_step: int
    noise_epoch: int

    def due(self, step: int) -> bool:
        """Whether the state after ``step`` steps is evaluated."""
        if step == self.final_step:
            return True
        every = self.evaluation.every
        return (
            every is not None and self.noise_epoch == 0 and 0 < step < self.final_step and step % every == 0
        )

    def next_due(self, step: int) -> int:
        """The first step after ``step`` that is evaluated."""
        every = self.evaluation.every
        if every is None or self.noise_epoch > 0:
            return self.final_step
        return min(self.final_step, (step // every + 1) * every)

    def epsilon(self, step: int) -> float:
        """ε of the evaluation at ``step``; 0 where the owner released the held-out rows."""
        total, every = self.evaluation.epsilon, self.evaluation.every
        if total == 0:
            return 0.0
        if every is None:
            points = 0
        elif self.noise_epoch == 0:
            points = max(0, math.ceil(self.final_step / every) - 1)
        else:
            # How many live evaluations came before is not known here; half is what any number of them leaves.
            points = 1
        plan = EvaluationPlan(total, points)
        return plan.final if step == self.final_step else plan.intermediate


class Evaluator:
    """Rank 0's held-out rows.

    Args:
        exact: whether the owner released the rows for exact evaluation.
        generation: of this worker group.
    """

    def __init__(
        self,
        schedule: Schedule,
        task: Task,
        schema: DatasetSchema,
        rows: Examples,
        batch_size: int,
        device: torch.device,
        client: WorkerClient,
        generation: int,
    ) -> None:
        if schedule.evaluation.epsilon == 0 and schema.holdout.release != "exact":
            raise PermanentFailure("privacy.evaluation.epsilon is 0, but the held-out rows are not released")
        self.schedule = schedule
        self._task = task
        self._rows = rows
        self._batch_size = batch_size
        self._device = device
        self._client = client
        self._generation = generation

    def measure(self, model: nn.Module) -> HeldOutSums:
        """Exact sums over the held-out rows, private. Leaves the model and the random state as they were.

        Runs on the training thread: the author's model may draw random numbers, and those of training must
        not depend on what another thread does.
        """
        model.eval()
        try:
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(0)
                outputs = [
                    model(part.to(self._device)).cpu()
                    for part in torch.split(self._rows.features, self._batch_size)
                ]
        finally:
            model.train()
        return self._task.held_out(torch.cat(outputs), self._rows.targets)

    def release(self, sums: HeldOutSums, snapshot: Snapshot) -> None:
        """Noise the sums, have them charged and stored. Of repetitions for a step, the first stays."""
        epsilon = self.schedule.epsilon(snapshot.step)
        message = ReleaseMetrics(
            generation=self._generation,
            noise_epoch=snapshot.noise_epoch,
            step=snapshot.step,
            state_digest=snapshot.state_digest,
            metrics=metrics(sums, epsilon),
            epsilon=epsilon,
        )
        try:
            self._client.release_metrics(message)
        except ApiError as error:
            if error.body.code != "denied_by_budget":
                raise
            skipped = f"evaluation at step {snapshot.step} left out: its share of the budget is spent"
            self._client.report_log(
                ReportLog(generation=self._generation, source="worker 0", level="warning", message=skipped)
            )


def metrics(sums: HeldOutSums, epsilon: float) -> dict[str, Any]:
    """What is released: with discrete Laplace noise, or exactly where ε is 0.

    ``accuracy`` and ``loss`` (mean log loss, clipped) for classification, ``error`` (mean absolute error) for
    regression; ``…_scale`` is the scale of the noise in the same unit, ``rows`` and ``bound`` are public.
    """
    name = "error" if sums.correct is None else "loss"
    common = {"rows": sums.rows, "bound": sums.error_bound, "exact": epsilon == 0}
    if epsilon == 0:
        exact: dict[str, Any] = {name: sums.error / sums.rows, **common}
        return exact if sums.correct is None else {"accuracy": sums.correct / sums.rows, **exact}
    noisy = evaluate_private(sums.correct, sums.error, epsilon, rows=sums.rows, loss_bound=sums.error_bound)
    released: dict[str, Any] = {name: noisy.loss, f"{name}_scale": noisy.loss_scale, **common}
    if noisy.accuracy is None:
        return released
    return {"accuracy": noisy.accuracy, "accuracy_scale": noisy.accuracy_scale, **released}
