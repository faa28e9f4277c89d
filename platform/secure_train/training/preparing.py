"""Before the first record is read: the model is built, and tried on made-up records."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from secure_train.dp import DPError, check_model, removal_test
from secure_train.spec import (
    BinaryTarget,
    DatasetSchema,
    MulticlassTarget,
    TrainingJob,
)
from secure_train.training.errors import ModelError
from secure_train.training.failures import PermanentFailure, describe
from secure_train.training.models import build_model
from secure_train.training.tasks import Task

_EXAMPLES = 8


def prepare_model(job: TrainingJob, schema: DatasetSchema, task: Task, code: Path | None) -> nn.Module:
    """Build the job's model in training mode, and check its structure.

    Raises:
        PermanentFailure: it cannot be built or cannot be trained privately. The author's exceptions are not
            quoted.
    """
    try:
        model = build_model(
            job.model, schema.encoded_width(), task.outputs, job.training.seed, code=code
        ).train()
        check_model(model)
    except (ModelError, DPError) as error:
        raise PermanentFailure(str(error)) from None
    except Exception as error:
        raise PermanentFailure(f"the model could not be built: {describe(error, code)}") from None
    return model


def try_model(
    job: TrainingJob, schema: DatasetSchema, task: Task, model: nn.Module, code: Path | None
) -> None:
    """Measure on made-up records whether removing one moves the clipped sum by its own contribution only, and
    whether each is evaluated by itself.

    Raises:
        PermanentFailure: it does not, or the model fails on them.
    """
    inputs, targets = _examples(schema)
    try:
        removal_test(model, task.batch_losses, (inputs, targets), job.privacy.max_grad_norm)
        apart = _evaluates_apart(model, inputs)
    except DPError as error:
        raise PermanentFailure(str(error)) from None
    except Exception as error:
        raise PermanentFailure(f"the model failed on made-up records: {describe(error, code)}") from None
    if not apart:
        raise PermanentFailure(
            "in evaluation mode, the model's output for a record depends on other records: one record could "
            "move held-out metrics by more than their noise covers. Make each output depend on its own input "
            "alone"
        )


def _evaluates_apart(model: nn.Module, inputs: Tensor) -> bool:
    """Whether records get the same outputs together and each alone; training mode does not tell."""
    subject = copy.deepcopy(model).eval()
    with torch.random.fork_rng(), torch.no_grad():
        together = subject(inputs)
        alone = torch.cat([subject(record) for record in torch.split(inputs, 1)])
    return torch.allclose(together, alone, rtol=1e-3, atol=1e-4, equal_nan=True)


def _examples(schema: DatasetSchema) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(_EXAMPLES, schema.encoded_width(), generator=generator) * 2 - 1
    target = schema.target
    if isinstance(target, BinaryTarget):
        return inputs, torch.arange(_EXAMPLES).remainder(2).float()
    if isinstance(target, MulticlassTarget):
        return inputs, torch.arange(_EXAMPLES).remainder(len(target.classes))
    return inputs, torch.rand(_EXAMPLES, generator=generator) * 2 - 1
