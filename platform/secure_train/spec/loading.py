"""From files, texts and API bodies to validated specifications."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import ValidationError

from secure_train.spec.base import SpecModel
from secure_train.spec.diagnose import diagnose
from secure_train.spec.document import MAX_BYTES, Document, decode, parse
from secure_train.spec.errors import SpecError, SpecErrors
from secure_train.spec.job import TrainingJob
from secure_train.spec.overrides import override
from secure_train.spec.plain import from_plain
from secure_train.spec.schema import DatasetSchema

Source = str | bytes | os.PathLike[str]
Spec = TypeVar("Spec", bound=SpecModel)


def load_job(source: Source, overrides: Iterable[str] = ()) -> TrainingJob:
    """A job from a file (`pathlib.Path`) or from YAML text (`str` or `bytes`).

    Each override is `path=value` with the value in YAML, e.g. `privacy.epsilon=3` or `model.hidden=[64, 32]`,
    and replaces or adds what the text says at that path. Raises SpecErrors with everything that is wrong.
    """
    return validate(TrainingJob, read(source, overrides))


def load_schema(source: Source, overrides: Iterable[str] = ()) -> DatasetSchema:
    """A dataset schema, read as `load_job` reads a job."""
    return validate(DatasetSchema, read(source, overrides))


def job_from_json(data: Mapping[str, object]) -> TrainingJob:
    """A job from decoded JSON, e.g. a request body or `canonical` bytes. Raises SpecErrors without lines."""
    return validate(TrainingJob, from_plain(data, "job"))


def schema_from_json(data: Mapping[str, object]) -> DatasetSchema:
    """A dataset schema from decoded JSON. Raises SpecErrors without lines."""
    return validate(DatasetSchema, from_plain(data, "dataset schema"))


def read(source: Source, overrides: Iterable[str]) -> Document:
    """A file or a text, with overrides, before it is checked."""
    if isinstance(source, os.PathLike):
        name = os.fspath(source)
        document = parse(decode(_file(name), name), name)
    elif isinstance(source, bytes):
        document = parse(decode(source, "text"), "text")
    else:
        document = parse(source, "text")
        if isinstance(document.data, str):
            hint = "to read a file, pass pathlib.Path(…) rather than its name"
            problem = SpecError(path="", message="is a single word or sentence, not a mapping", hint=hint)
            raise SpecErrors([problem], document.source)
    for assignment in overrides:
        override(document, assignment)
    return document


def _file(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problem = SpecError(
            path="", message=f"cannot be read: {reason}", hint="check the path and its permissions"
        )
        raise SpecErrors([problem], name) from error


def validate(model: type[Spec], document: Document) -> Spec:
    """The document as a model. Raises SpecErrors with everything that is wrong."""
    try:
        spec = model.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = document.problems + diagnose(error, model, document)
        raise SpecErrors(sorted(problems, key=_reading_order), document.source) from None
    if document.problems:
        raise SpecErrors(document.problems, document.source)
    return spec


def _reading_order(error: SpecError) -> tuple[bool, float, int]:
    return error.override is not None, error.line or math.inf, error.column or 0
