"""The public description of a dataset's records: columns, target and held-out split.

Everything here is published with the dataset, so nothing in it may be derived from the records: bounds and
categories come from the documentation of the data or from domain knowledge.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from secure_train.spec.base import SpecModel, Text, refusal

Bound = Annotated[float, Field(ge=-1e15, le=1e15)]
MAX_ENCODED_WIDTH = 1_000_000


def _ordered(value: float, info: ValidationInfo) -> float:
    lower = info.data.get("lower")
    if lower is not None and value <= lower:
        raise refusal(
            "is not above `lower`", allowed=f"more than {lower:g}", hint="exchange or widen the bounds"
        )
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise refusal(
                "is listed twice", allowed="each value once", hint="remove the repetition", at=(index,)
            )
        seen.add(value)
    return values


class NumericColumn(SpecModel):
    """A number, clipped to public bounds and then scaled linearly. Encoded width 1."""

    name: Text = Field(description="Column name in the data.")
    kind: Literal["numeric"] = Field(default="numeric", description="A number.")
    lower: Bound = Field(description="Public lower clip bound.")
    upper: Bound = Field(description="Public upper clip bound.")
    scale: Literal["symmetric", "unit"] = Field(
        default="symmetric", description="Range after scaling: symmetric is [-1, 1], unit is [0, 1]."
    )

    _bounds = field_validator("upper")(_ordered)

    @property
    def width(self) -> int:
        """Number of model inputs this column becomes."""
        return 1


class CategoricalColumn(SpecModel):
    """One of publicly listed values, one-hot encoded in the order listed."""

    name: Text = Field(description="Column name in the data.")
    kind: Literal["categorical"] = Field(default="categorical", description="One of listed values.")
    categories: Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=10_000)] = Field(
        description="The public list of values, as they are written in the data."
    )
    unknown: Literal["error", "other"] = Field(
        default="error",
        description="A value that is not listed: refuse the dataset, or count it as one further category.",
    )

    _once = field_validator("categories")(_distinct)

    @property
    def width(self) -> int:
        """Number of model inputs this column becomes."""
        return len(self.categories) + (self.unknown == "other")


class IgnoredColumn(SpecModel):
    """A column that is in the data and is never read."""

    name: Text = Field(description="Column name in the data.")
    kind: Literal["ignored"] = Field(default="ignored", description="Present, never read.")


Feature = NumericColumn | CategoricalColumn
Column = Annotated[NumericColumn | CategoricalColumn | IgnoredColumn, Field(discriminator="kind")]


class BinaryTarget(SpecModel):
    """Two classes; the model outputs one logit, of the positive class."""

    name: Text = Field(description="Target column in the data.")
    task: Literal["binary"] = Field(default="binary", description="Two classes.")
    classes: Annotated[tuple[Text, Text], Field(strict=False)] = Field(
        description="The two labels, as they are written in the data."
    )
    positive: Text = Field(description="The label that counts as 1.")

    _once = field_validator("classes")(_distinct)

    @field_validator("positive")
    @classmethod
    def _is_a_class(cls, value: str, info: ValidationInfo) -> str:
        classes = info.data.get("classes")
        if classes is not None and value not in classes:
            raise refusal(
                "is not one of the two classes",
                allowed=" or ".join(f"`{label}`" for label in classes),
                hint="write it exactly as in `classes`",
            )
        return value

    @property
    def negative(self) -> str:
        """The label that counts as 0."""
        return self.classes[1] if self.positive == self.classes[0] else self.classes[0]

    @property
    def width(self) -> int:
        """Number of model outputs."""
        return 1


class MulticlassTarget(SpecModel):
    """Several classes; the model outputs one logit per class, in the order listed."""

    name: Text = Field(description="Target column in the data.")
    task: Literal["multiclass"] = Field(default="multiclass", description="Several classes.")
    classes: Annotated[tuple[Text, ...], Field(strict=False, min_length=2, max_length=10_000)] = Field(
        description="The public list of labels, as they are written in the data."
    )

    _once = field_validator("classes")(_distinct)

    @property
    def width(self) -> int:
        """Number of model outputs."""
        return len(self.classes)


class RegressionTarget(SpecModel):
    """A number, clipped to public bounds."""

    name: Text = Field(description="Target column in the data.")
    task: Literal["regression"] = Field(default="regression", description="A number.")
    lower: Bound = Field(description="Public lower clip bound.")
    upper: Bound = Field(description="Public upper clip bound.")

    _bounds = field_validator("upper")(_ordered)

    @property
    def width(self) -> int:
        """Number of model outputs."""
        return 1


Target = Annotated[BinaryTarget | MulticlassTarget | RegressionTarget, Field(discriminator="task")]


class Holdout(SpecModel):
    """The part of the records that is never trained on and serves to measure the model."""

    fraction: float = Field(
        default=0.2, ge=0, le=0.5, description="Share of the records held out; 0 holds none out."
    )
    release: Literal["noised", "exact"] = Field(
        default="noised",
        description="Metrics on held-out records: noised metrics cost ε. `exact` publishes exact metrics, "
        "which gives the held-out records no privacy guarantee: the owner's decision.",
    )


class DatasetSchema(SpecModel):
    """What a record looks like, in public terms only."""

    api_version: Literal["secure-train/v1"] = Field(
        default="secure-train/v1", description="Version of this format."
    )
    kind: Literal["DatasetSchema"] = Field(default="DatasetSchema", description="What the file describes.")
    columns: Annotated[tuple[Column, ...], Field(strict=False, min_length=1, max_length=4096)] = Field(
        description="Every column of the data but the target."
    )
    target: Target = Field(description="What the model predicts; `task` decides which keys apply.")
    holdout: Holdout = Field(default_factory=Holdout, description="The held-out split.")

    @field_validator("columns")
    @classmethod
    def _usable(cls, value: tuple[Column, ...]) -> tuple[Column, ...]:
        names: set[str] = set()
        for index, column in enumerate(value):
            if column.name in names:
                raise refusal(
                    f"`{column.name}` is the name of two columns",
                    allowed="a different name for each column",
                    hint="rename or remove one of them",
                    at=(index, "name"),
                )
            names.add(column.name)
        width = sum(column.width for column in value if not isinstance(column, IgnoredColumn))
        if not 1 <= width <= MAX_ENCODED_WIDTH:
            raise refusal(
                f"encode to {width:,} model inputs",
                allowed=f"1 to {MAX_ENCODED_WIDTH:,} model inputs",
                hint="add a numeric or categorical column"
                if width == 0
                else "ignore columns or shorten lists",
            )
        return value

    @field_validator("target")
    @classmethod
    def _apart_from_features(cls, value: Target, info: ValidationInfo) -> Target:
        if any(column.name == value.name for column in info.data.get("columns", ())):
            raise refusal(
                "is also listed in `columns`",
                allowed="a column that is not among `columns`",
                hint=f"remove `{value.name}` from `columns`: a feature that is the target would be predicted",
                at=("name",),
            )
        return value

    @property
    def features(self) -> tuple[Feature, ...]:
        """The columns that are encoded, in order."""
        return tuple(column for column in self.columns if not isinstance(column, IgnoredColumn))

    def encoded_width(self) -> int:
        """Number of model inputs: the sum of the features' widths."""
        return sum(column.width for column in self.features)
