"""A search for hyperparameters: a training job with some keys left open, and how to fill them in."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, ValidationInfo, field_validator, model_validator

from secure_train.spec.base import SpecModel, refusal
from secure_train.spec.job import DataSpec, Metadata, Privacy, Recovery, Resources, Training
from secure_train.spec.model import ModelSpec, exact_json

MAX_TRIALS = 200
MAX_PARAMETERS = 16
MAX_CHOICES = 200

KeyPath = Annotated[
    str,
    StringConstraints(max_length=256, pattern=r"^(model|privacy|training)(\.[A-Za-z_][A-Za-z0-9_]*){1,8}$"),
    Field(
        json_schema_extra={"x-allowed": "a key below model, privacy or training, such as privacy.maxGradNorm"}
    ),
]
"""Where in the template a value goes. Data, resources and recovery are the same in all trials."""


class Template(SpecModel):
    """The training job that every trial is, but for the searched keys."""

    data: DataSpec = Field(description="The registered dataset to train on.")
    model: ModelSpec = Field(description="The model; `kind` decides which keys apply.")
    privacy: Privacy = Field(
        description="The guarantee of each trial by itself; `evaluation` is needed, to compare trials by."
    )
    training: Training = Field(description="How long and in what batches each model is trained.")
    resources: Resources = Field(
        default_factory=Resources, description="What each trial asks of the cluster."
    )
    recovery: Recovery = Field(default_factory=Recovery, description="How each trial survives failures.")


class Parameter(SpecModel):
    """What one key may be: one of `choices`, or a number from `low` to `high`."""

    choices: (
        Annotated[tuple[JsonValue, ...], Field(strict=False, min_length=1, max_length=MAX_CHOICES)] | None
    ) = Field(default=None, description="The values to choose from.")
    low: float | None = Field(default=None, description="Least number; a whole one for a whole-number key.")
    high: float | None = Field(default=None, description="Greatest number, itself included.")
    log: bool = Field(
        default=False, description="Whether to draw from the range evenly by order of magnitude."
    )

    @field_validator("choices")
    @classmethod
    def _exact_json(cls, value: tuple[JsonValue, ...] | None) -> tuple[JsonValue, ...] | None:
        if value is None:
            return None
        seen: dict[str, int] = {}
        for at, item in enumerate(value):
            first = seen.setdefault(json.dumps(item, sort_keys=True), at)
            if first != at:
                raise refusal(
                    "is listed twice, and would be paid for twice",
                    allowed="choices that differ",
                    hint="remove it",
                    at=(at,),
                )
        return tuple(exact_json(item, (at,)) for at, item in enumerate(value))

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        numbers = [bound for bound in (self.low, self.high) if bound is not None]
        if len(numbers) != (2 if self.choices is None else 0) or (self.log and self.choices is not None):
            raise refusal(
                "is neither a list of choices nor a range",
                allowed="either `choices`, or `low` and `high`, and with these `log`",
                hint="write e.g. {choices: [1, 2]} or {low: 0.001, high: 0.1, log: true}",
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise refusal("is an empty range", allowed="low below high", hint="exchange them", at=("low",))
        if self.log and self.low is not None and self.low <= 0:
            raise refusal(
                "begins at or below 0, which has no order of magnitude",
                allowed="a low above 0 with log: true",
                hint="raise low, or leave log out",
                at=("low",),
            )
        return self


class Search(SpecModel):
    """How many trials there are, what each sets, and by what the best is chosen."""

    sampler: Literal["grid", "random", "tpe"] = Field(
        description="`grid`: every combination of the choices. `random`: drawn independently. `tpe`: each "
        "drawn in the light of the metrics released before (Bergstra et al. 2011); keys that change what a "
        "trial costs cannot be searched with it."
    )
    trials: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TRIALS,
        description="How many trials; all are charged. Left out for `grid`, where it is the number of "
        "combinations.",
    )
    concurrency: int = Field(default=1, ge=1, le=64, description="Trials that are under way at once.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Public seed of the sampler.")
    objective: Literal["accuracy", "loss", "error"] = Field(
        description="Released held-out metric of the finished model: most `accuracy`, least `loss`, or, for "
        "regression, least `error`."
    )
    parameters: dict[KeyPath, Parameter] = Field(
        min_length=1,
        max_length=MAX_PARAMETERS,
        validate_default=True,
        description="What to search: by the key's path in the template, what it may be.",
    )

    @field_validator("parameters")
    @classmethod
    def _apart(cls, value: dict[str, Parameter], info: ValidationInfo) -> dict[str, Parameter]:
        for path in value:
            outer = next((other for other in value if path.startswith(f"{other}.")), None)
            if outer is not None:
                raise refusal(
                    f"lies inside `{outer}`, which is searched too",
                    allowed="keys that do not contain each other",
                    hint=f"search `{outer}` as a whole, or keys inside it",
                    at=(path,),
                )
        return value


class SearchJob(SpecModel):
    """Many trials of one training job, to find good hyperparameters. Every trial is charged."""

    api_version: Literal["secure-train/v1"] = Field(description="Version of this format.")
    kind: Literal["SearchJob"] = Field(description="What the file describes.")
    metadata: Metadata = Field(description="What the trials are called and to whom they belong.")
    template: Template = Field(description="The training job that every trial is, but for the searched keys.")
    search: Search = Field(description="What is searched, and how.")

    @property
    def trials(self) -> int:
        """How many trials there are."""
        given = self.search.trials
        return (self.combinations() or 0) if given is None else given

    def combinations(self) -> int | None:
        """How many combinations the choices make; None if a range is searched too."""
        choices = [parameter.choices for parameter in self.search.parameters.values()]
        return None if None in choices else math.prod(len(some or ()) for some in choices)
