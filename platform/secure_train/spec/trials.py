"""What a search's trials are: its template with values filled in, and whether all of them would be valid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from secure_train.spec.describe import shown
from secure_train.spec.document import Path, dotted
from secure_train.spec.errors import SpecError, SpecErrors
from secure_train.spec.job import TrainingJob
from secure_train.spec.loading import job_from_json
from secure_train.spec.search import MAX_TRIALS, Parameter, SearchJob

Assignment = Mapping[str, JsonValue]
"""One trial's values, by the key's path in the template."""

COSTLY = (
    "privacy.epsilon",
    "privacy.delta",
    "privacy.evaluation",
    "training.batchSize",
    "training.epochs",
    "training.steps",
)
"""Keys that σ, q, T and so the price of a trial follow from."""
_PARAMETERS: Path = ("search", "parameters")


def trial_of(search: SearchJob, assignment: Assignment) -> TrainingJob:
    """The training job of one trial.

    Raises:
        SpecErrors: these values together make no valid job; paths are those of a job.
        KeyError: a path leads nowhere in the template.
    """
    document = search.template.model_dump(mode="json", by_alias=True)
    for path, value in assignment.items():
        holder, key = _holder(document, path)
        holder[key] = value
    head = {"apiVersion": search.api_version, "kind": "TrainingJob"}
    metadata = search.metadata.model_dump(mode="json", by_alias=True)
    return job_from_json({**head, "metadata": metadata, **document})


def same_cost(one: TrainingJob, other: TrainingJob) -> bool:
    """Whether two jobs agree in all that their price, and the decision on them, follows from."""

    def decisive(job: TrainingJob) -> tuple[object, ...]:
        privacy, training = job.privacy, job.training
        mechanism = (privacy.epsilon, privacy.delta, privacy.evaluation)
        length = (training.batch_size, training.epochs, training.steps)
        return (job.metadata, job.data, job.resources, job.model.kind == "entrypoint", mechanism, length)

    return decisive(one) == decisive(other)


def problems_of(search: SearchJob) -> list[tuple[Path, SpecError]]:
    """Everything wrong with a search whose parts are well-formed, each with the place in the document."""
    found = list(_counting(search))
    if search.template.privacy.evaluation is None:
        found.append(
            _problem(
                ("template", "privacy", "evaluation"),
                "is missing, and trials are compared by released held-out metrics",
                hint="set a part of template.privacy.epsilon aside for it, e.g. evaluation: {epsilon: 0.4}",
            )
        )
    for path, parameter in search.search.parameters.items():
        found += _parameter(search, path, parameter)
    return found


def _counting(search: SearchJob) -> Iterator[tuple[Path, SpecError]]:
    settings, combinations = search.search, search.combinations()
    if settings.sampler == "grid":
        if combinations is None:
            ranges = [path for path, one in settings.parameters.items() if one.choices is None]
            for path in ranges:
                yield _problem(
                    (*_PARAMETERS, path),
                    "is a range, which has no combinations to go through",
                    allowed="choices, for a grid",
                    hint="list choices, or use sampler: random",
                )
        elif combinations > MAX_TRIALS or settings.trials not in (None, combinations):
            yield _problem(
                ("search", "trials"),
                f"does not go with the {combinations:,} combinations of the grid",
                given=shown(settings.trials),
                allowed=f"all combinations, and at most {MAX_TRIALS}",
                hint="leave trials out, or use sampler: random"
                if combinations <= MAX_TRIALS
                else "list fewer choices, or use sampler: random",
            )
    elif settings.trials is None:
        yield _problem(
            ("search", "trials"),
            f"is missing, and sampler {settings.sampler} does not end by itself",
            allowed=f"an integer from 1 to {MAX_TRIALS}",
            hint="say how many trials to pay for",
        )
    elif settings.sampler == "random" and settings.trials > (size := _size(search)):
        yield _problem(
            ("search", "trials"),
            "is more than there are combinations: some would be paid for twice",
            given=str(settings.trials),
            allowed=f"at most {size:g}",
            hint="lower it, or use sampler: grid",
        )


def _size(search: SearchJob) -> float:
    """How many combinations there are; infinite where a range of real numbers is searched."""
    template = search.template.model_dump(mode="json", by_alias=True)
    return math.prod(_values(template, path, one) for path, one in search.search.parameters.items())


def _values(template: dict[str, Any], path: str, parameter: Parameter) -> float:
    if parameter.choices is not None:
        return len(parameter.choices)
    try:
        holder, key = _holder(template, path)
    except KeyError:
        return math.inf  # told as a problem of its own
    if isinstance(holder[key], int) and parameter.low is not None and parameter.high is not None:
        return math.floor(parameter.high) - math.ceil(parameter.low) + 1
    return math.inf


def _parameter(search: SearchJob, path: str, parameter: Parameter) -> Iterator[tuple[Path, SpecError]]:
    place = (*_PARAMETERS, path)
    template = search.template.model_dump(mode="json", by_alias=True)
    try:
        holder, key = _holder(template, path)
    except KeyError as error:
        yield _problem(
            place,
            "is not a key of the template",
            allowed=str(error.args[0]),
            hint="check the spelling; a key that is absent and has no default must be in the template",
        )
        return
    if search.search.sampler == "tpe" and any(_touches(path, costly) for costly in COSTLY):
        yield _problem(
            place,
            "changes what a trial costs, and tpe chooses after the cost of all trials has been reserved",
            allowed="keys that leave ε, δ, batch size and number of steps as they are",
            hint="use sampler: random or grid, which draw all trials at submission",
        )
    if path == "model.workingDir":
        yield _problem(
            place,
            "names the code that is sent, and all trials share it",
            hint="choose by model.entrypoint or model.parameters instead",
        )
        return
    if parameter.choices is None and not _is_number(holder[key]):
        yield _problem(
            place,
            "is searched as a range, and the template has no number there",
            given=shown(holder[key]),
            allowed="a range for numbers only",
            hint="list choices, or put a number into the template",
        )
        return
    for at, value in _extremes(parameter):
        yield from _valid(search, place, at, path, value, whole=isinstance(holder[key], int))


def _extremes(parameter: Parameter) -> Iterator[tuple[Path, JsonValue]]:
    if parameter.choices is None:
        yield ("low",), parameter.low
        yield ("high",), parameter.high
    else:
        for index, choice in enumerate(parameter.choices):
            yield ("choices", index), choice


def _valid(
    search: SearchJob, place: Path, at: Path, path: str, value: JsonValue, *, whole: bool
) -> Iterator[tuple[Path, SpecError]]:
    """Try a value in the template by itself; how values go together is for each trial to say."""
    if len(at) == 1 and whole:
        if not float(value).is_integer():  # type: ignore[arg-type]  # the bounds of a range are numbers
            yield _problem((*place, *at), "is not a whole number", given=shown(value), hint="round it")
            return
        value = int(value)  # type: ignore[arg-type]
    try:
        trial_of(search, {path: value})
    except SpecErrors as errors:
        for error in errors.errors:
            elsewhere = "" if error.path == path else f"makes {error.path} wrong, which "
            yield _problem(
                (*place, *at), f"{elsewhere}{error.message}", error.given, error.allowed, error.hint
            )


def _holder(document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The mapping that has the key, and the key's last part; KeyError says what there is instead."""
    *outer, last = path.split(".")
    here: Any = document
    for part in [*outer, last]:
        if not isinstance(here, dict):
            raise KeyError("a key of a mapping, and not inside a list or a plain value")
        if part not in here:
            raise KeyError(", ".join(here) or "nothing: the mapping is empty")
        holder, here = here, here[part]
    return holder, last


def _touches(path: str, costly: str) -> bool:
    return path == costly or path.startswith(f"{costly}.") or costly.startswith(f"{path}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _problem(
    place: Path, message: str, given: str | None = None, allowed: str | None = None, hint: str | None = None
) -> tuple[Path, SpecError]:
    return place, SpecError(path=dotted(place), message=message, given=given, allowed=allowed, hint=hint)
