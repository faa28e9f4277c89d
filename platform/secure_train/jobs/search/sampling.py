"""Which values the trials get: Optuna's samplers, asked anew each time from what the rows say.

No study outlives a call: the database is the truth about a search, and the same rows, seed and trial number
give the same values, so that a choice that was lost in a crash is made again. Values are chosen from public
settings and released metrics alone; both are post-processing and cost nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from secure_train.spec import Assignment, SearchJob, SpecError, SpecErrors
from secure_train.spec.search import Parameter

if TYPE_CHECKING:
    import optuna

LEAST = frozenset({"loss", "error"})
"""Objectives of which less is better."""
_SEEDS = 2**32
_PATIENCE = 50
"""Draws for each trial: where there are just as many combinations as trials, the last ones are rarely met."""


@dataclass(frozen=True)
class Observed:
    """A trial whose values were chosen before.

    Attributes:
        value: its final released metric; None for one that is under way or ended without.
        ended: whether it is over.
    """

    assignment: Assignment
    value: float | None
    ended: bool


def draw_all(search: SearchJob) -> list[Assignment]:
    """Draw the values of all trials of a grid or a random search. No two trials are the same.

    Raises:
        SpecErrors: there are not so many different ones.
    """
    optuna = _optuna()
    spaces = _spaces(search)
    seed = search.search.seed
    sampler: Any
    if search.search.sampler == "grid":
        positions = {path: list(range(len(_choices(search, path)))) for path in spaces}
        sampler = optuna.samplers.GridSampler(positions, seed=seed)
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    drawn: dict[str, Assignment] = {}
    for _ in range(_PATIENCE * search.trials):
        assignment = _meant(search, study.ask(spaces).params)
        drawn.setdefault(json.dumps(assignment, sort_keys=True), assignment)
        if len(drawn) == search.trials:
            return list(drawn.values())
    problem = SpecError(
        path="search.trials",
        message=f"is more than can be told apart: {len(drawn)} different trials were drawn",
        given=str(search.trials),
        hint="lower it, or widen what is searched",
    )
    raise SpecErrors([problem], "search")


def draw_next(search: SearchJob, number: int, before: Sequence[Observed]) -> Assignment:
    """Draw the values of trial `number` by TPE, in the light of the trials before it.

    Those that are under way count as bad ones, so that trials side by side differ.
    """
    optuna = _optuna()
    spaces = _spaces(search)
    # Another seed for each trial: a sampler that begins anew would otherwise draw the same again.
    sampler = optuna.samplers.TPESampler(seed=(search.search.seed + number) % _SEEDS)
    direction = "minimize" if search.search.objective in LEAST else "maximize"
    study = optuna.create_study(direction=direction, sampler=sampler)
    states = optuna.trial.TrialState
    for one in before:
        known = states.COMPLETE if one.value is not None else states.FAIL if one.ended else states.RUNNING
        study.add_trial(
            optuna.trial.create_trial(
                state=known,
                value=one.value,
                params={path: _position(search, path, one.assignment[path]) for path in spaces},
                distributions=spaces,
            )
        )
    return _meant(search, study.ask(spaces).params)


def _optuna() -> Any:
    """Import Optuna, which takes a second, where it is needed; its own log lines are no use to anybody."""
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    return optuna


def _spaces(search: SearchJob) -> dict[str, optuna.distributions.BaseDistribution]:
    template = search.template.model_dump(mode="json", by_alias=True)
    return {
        path: _space(parameter, _at(template, path)) for path, parameter in search.search.parameters.items()
    }


def _space(parameter: Parameter, in_template: object) -> optuna.distributions.BaseDistribution:
    distributions = _optuna().distributions
    found: optuna.distributions.BaseDistribution
    if parameter.choices is not None:
        # By position: Optuna knows scalars only, and takes 1, 1.0 and true for the same choice.
        found = distributions.CategoricalDistribution(tuple(range(len(parameter.choices))))
    elif isinstance(in_template, int):
        found = distributions.IntDistribution(
            int(parameter.low or 0), int(parameter.high or 0), log=parameter.log
        )
    else:
        found = distributions.FloatDistribution(
            parameter.low or 0.0, parameter.high or 0.0, log=parameter.log
        )
    return found


def _at(document: Any, path: str) -> object:
    for part in path.split("."):
        document = document[part]
    return document


def _choices(search: SearchJob, path: str) -> tuple[JsonValue, ...]:
    return search.search.parameters[path].choices or ()


def _meant(search: SearchJob, drawn: dict[str, Any]) -> Assignment:
    """The values that Optuna's stand for."""
    return {
        path: choices[drawn[path]] if (choices := _choices(search, path)) else drawn[path]
        for path in search.search.parameters
    }


def _position(search: SearchJob, path: str, value: JsonValue) -> Any:
    """What stands for a value in Optuna's terms."""
    choices = [json.dumps(choice, sort_keys=True) for choice in _choices(search, path)]
    return choices.index(json.dumps(value, sort_keys=True)) if choices else value
