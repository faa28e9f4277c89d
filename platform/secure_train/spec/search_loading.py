"""Searches from files, texts and API bodies; and files of which it is not known what they describe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from secure_train.spec.document import Document
from secure_train.spec.errors import SpecErrors
from secure_train.spec.job import TrainingJob
from secure_train.spec.loading import Source, read, validate
from secure_train.spec.plain import from_plain
from secure_train.spec.search import SearchJob
from secure_train.spec.trials import problems_of


def load_search(source: Source, overrides: Iterable[str] = ()) -> SearchJob:
    """A search, read as `load_job` reads a job."""
    return _checked(read(source, overrides))


def search_from_json(data: Mapping[str, object]) -> SearchJob:
    """A search from decoded JSON. Raises SpecErrors without lines."""
    return _checked(from_plain(data, "search"))


def load_submittable(source: Source, overrides: Iterable[str] = ()) -> TrainingJob | SearchJob:
    """What a file to submit describes, by its `kind`; anything else is read as a job, and refused as one."""
    document = read(source, overrides)
    if isinstance(document.data, dict) and document.data.get("kind") == "SearchJob":
        return _checked(document)
    return validate(TrainingJob, document)


def _checked(document: Document) -> SearchJob:
    search = validate(SearchJob, document)
    located = []
    for place, problem in problems_of(search):
        mark = document.locate(place)
        located.append(replace(problem, line=mark.line, column=mark.column, override=mark.override))
    if located:
        raise SpecErrors(located, document.source)
    return search
