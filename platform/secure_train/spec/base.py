"""What all models of this package share: strictness, YAML names, constrained types, cross-field errors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

API_VERSION = "secure-train/v1"
MAX_EXACT_INTEGER = 2**53 - 1
"""Largest integer that RFC 8785 JSON (IEEE 754 doubles) holds exactly."""
CROSS_FIELD = "spec"
"""Error type of `refusal`, told apart from pydantic's own types."""


class SpecModel(BaseModel):
    """A frozen value. Keys are camelCase in files and snake_case in Python; nothing is coerced or ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        field_title_generator=lambda name, _: name.replace("_", " ").capitalize(),
    )


def refusal(message: str, *, allowed: str, hint: str, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """An error about how fields fit together; `at` leads from the validated field to the one to blame."""
    context: dict[str, Any] = {"message": message, "allowed": allowed, "hint": hint, "at": at}
    return PydanticCustomError(CROSS_FIELD, "{message}", context)


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"),
    Field(
        json_schema_extra={
            "x-allowed": "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
        }
    ),
]
"""A DNS label (RFC 1123), so that it can name a Kubernetes object, a folder or a metric label."""

Text = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,256}$"),
    Field(json_schema_extra={"x-allowed": "1 to 256 characters without control characters"}),
]

Dimension = Annotated[int, Field(ge=1, le=65_536)]
