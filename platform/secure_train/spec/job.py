"""A training job: what is trained, on which data, under which privacy guarantee, with which resources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from secure_train.spec.base import Name, SpecModel, refusal
from secure_train.spec.model import ModelSpec

MAX_STEPS = 100_000
"""Longest training. The accountant's bound stays within 0.5 % of the truth up to here."""

LabelValue = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$"),
    Field(json_schema_extra={"x-allowed": "1 to 63 letters, digits, '-', '_' or '.'"}),
]


class Metadata(SpecModel):
    """What the job is called and to whom it belongs."""

    name: Name = Field(description="Name of the job; runs of the same name form its history.")
    project: Name = Field(description="Project that owns the job; policies and budgets refer to it.")
    purpose: Name = Field(description="What the model is for; policies permit the use of data by purpose.")
    labels: dict[Name, LabelValue] = Field(
        default_factory=dict,
        max_length=64,
        description="Free labels to find the job by; they have no effect on training.",
    )


class DataSpec(SpecModel):
    """The registered dataset to train on."""

    dataset: str = Field(
        pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(@[1-9][0-9]{0,8})?$",
        description="Dataset name; `name@3` pins version 3, otherwise the newest at submission is pinned. "
        "`project/name`: of another project, which shares its budget with this one.",
        json_schema_extra={
            "x-allowed": "a dataset name, NAME@VERSION with an integer version, or PROJECT/NAME for another "
            "project's"
        },
    )

    @property
    def dataset_name(self) -> str:
        """The name without the version."""
        return self.dataset.partition("@")[0]

    @property
    def dataset_version(self) -> int | None:
        """The pinned version, or None where the newest is meant."""
        version = self.dataset.partition("@")[2]
        return int(version) if version else None


class Evaluation(SpecModel):
    """Metrics on the held-out split while and after training."""

    epsilon: float = Field(
        ge=0,
        le=100,
        description="Part of `privacy.epsilon` spent on noised held-out metrics. 0 is accepted only for a "
        "dataset whose owner released the held-out split for exact evaluation.",
    )
    every: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        description="Steps between live evaluations; without it there is one evaluation, at the end.",
    )


class Privacy(SpecModel):
    """The (ε, δ) guarantee of all that the job releases, and the clipping that bounds a record's effect."""

    epsilon: float = Field(gt=0, le=100, description="Total ε of the job: training and evaluation together.")
    delta: float = Field(
        gt=0, lt=1, description="Total δ of the job; choose it well below 1 / number of records."
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, le=1e6, description="L2 norm to which each record's gradient is clipped."
    )
    evaluation: Evaluation | None = Field(
        default=None, description="Held-out metrics; without this section none are computed or released."
    )

    @field_validator("evaluation")
    @classmethod
    def _training_keeps_a_share(cls, value: Evaluation | None, info: ValidationInfo) -> Evaluation | None:
        total = info.data.get("epsilon")
        if value is not None and total is not None and value.epsilon >= total:
            raise refusal(
                "leaves nothing for training",
                allowed=f"less than privacy.epsilon, which is {total:g}",
                hint="lower privacy.evaluation.epsilon or raise privacy.epsilon",
                at=("epsilon",),
            )
        return value


LearningRate = Annotated[float, Field(gt=0, le=1000)]
WeightDecay = Annotated[float, Field(ge=0, le=10)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Sgd(SpecModel):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = Field(description="Stochastic gradient descent.")
    learning_rate: LearningRate = Field(description="Step size.")
    momentum: Momentum = Field(default=0.0, description="Heavy-ball momentum.")
    weight_decay: WeightDecay = Field(default=0.0, description="L2 penalty on the weights.")


class Adam(SpecModel):
    """Adam (Kingma & Ba 2015)."""

    kind: Literal["adam"] = Field(description="Adam.")
    learning_rate: LearningRate = Field(description="Step size.")
    beta1: Momentum = Field(default=0.9, description="Decay of the gradient average.")
    beta2: Momentum = Field(default=0.999, description="Decay of the squared-gradient average.")
    eps: float = Field(default=1e-8, gt=0, le=1, description="Added to the denominator.")
    weight_decay: WeightDecay = Field(default=0.0, description="L2 penalty on the weights.")


class Training(SpecModel):
    """How long and in what batches the model is trained."""

    batch_size: int = Field(
        ge=1,
        le=16_777_216,
        description="Expected batch size: each record joins a step by its own coin (Poisson sampling).",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Expected passes over the training split. Give either this or `steps`.",
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        validate_default=True,
        description="Optimizer steps. Give either this or `epochs`.",
    )
    optimizer: Annotated[Sgd | Adam, Field(discriminator="kind")] = Field(
        description="How noisy gradients become weights."
    )
    physical_batch_size: int = Field(
        default=1024,
        ge=1,
        le=1_048_576,
        description="Most records a worker holds in memory at once; it does not change the result.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Public seed of the model's initial weights. Sampling and noise never use it.",
    )

    @field_validator("steps")
    @classmethod
    def _one_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        if "epochs" in info.data and (value is None) == (info.data["epochs"] is None):
            raise refusal(
                "is absent, and so is training.epochs"
                if value is None
                else "is given beside training.epochs",
                allowed="exactly one of training.epochs and training.steps",
                hint="add one of them" if value is None else "remove one of them",
            )
        return value


class Resources(SpecModel):
    """What the job asks of the cluster."""

    workers: int = Field(default=1, ge=1, le=256, description="Training processes.")
    cpus_per_worker: int = Field(default=1, ge=1, le=256, description="CPU cores for each worker.")
    gpus_per_worker: int = Field(default=0, ge=0, le=16, description="GPUs for each worker.")
    priority: int = Field(default=50, ge=0, le=100, description="Place in the queue; higher goes first.")


class Recovery(SpecModel):
    """What happens when a worker, the driver or the control plane dies."""

    max_failures: int = Field(
        default=3, ge=0, le=100, description="Restarts before the job is given up as failed."
    )
    checkpoint_every: int = Field(default=25, ge=1, le=1_000_000, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(
        default=3, ge=1, le=100, description="Newest checkpoints kept while the job runs."
    )


class TrainingJob(SpecModel):
    """One job, as its author wrote it and with every default resolved."""

    api_version: Literal["secure-train/v1"] = Field(description="Version of this format.")
    kind: Literal["TrainingJob"] = Field(description="What the file describes.")
    metadata: Metadata = Field(description="What the job is called and to whom it belongs.")
    data: DataSpec = Field(description="The registered dataset to train on.")
    model: ModelSpec = Field(description="The model; `kind` decides which keys apply.")
    privacy: Privacy = Field(description="The guarantee of everything the job releases.")
    training: Training = Field(description="How long and in what batches the model is trained.")
    resources: Resources = Field(default_factory=Resources, description="What the job asks of the cluster.")
    recovery: Recovery = Field(default_factory=Recovery, description="How the job survives failures.")
