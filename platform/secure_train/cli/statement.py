"""A model's DP statement as it reads now: with what the dataset has spent since, and with an audit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from secure_train.cli.errors import UsageError
from secure_train.cli.output import note
from secure_train.client import ApiError, Client
from secure_train.dp import DatasetSpend, DPStatement, EmpiricalAudit, InvalidParameterError, with_audit
from secure_train.wire.data import BudgetView
from secure_train.wire.models import ModelVersionView

_UNREADABLE = {"denied_by_policy", "not_found"}


def current_statement(client: Client, version: ModelVersionView, audit: Path | None) -> DPStatement:
    """The statement as published, with the dataset's spending as of now where the reader may see it.

    Raises:
        UsageError: the audit cannot be read, or is of another mechanism.
        ApiError: the control plane refused for another reason than policy.
    """
    statement = DPStatement.model_validate(version.statement)
    try:
        budget = client.budget(version.lineage["dataset"]["id"])
    except ApiError as error:
        if error.body.code not in _UNREADABLE:
            raise
        note("you may not read the dataset's budget: what was spent on it in all is left out")
    else:
        statement = statement.model_copy(update={"dataset_spend": spend_of(budget)})
    return statement if audit is None else _with_audit_file(statement, audit)


def spend_of(budget: BudgetView) -> DatasetSpend:
    """What all jobs on a dataset have spent together, as of now."""
    return DatasetSpend(
        dataset=f"{budget.project}/{budget.name}",
        composition=budget.composition,
        epsilon=budget.spent_epsilon,
        epsilon_replace_one=budget.spent_epsilon_replace_one,
        delta=budget.delta,
        budget_epsilon=budget.epsilon,
        jobs=len(budget.lines) + budget.hidden_lines,
        at=datetime.now(UTC),
    )


def _with_audit_file(statement: DPStatement, file: Path) -> DPStatement:
    hint = (
        f"secure-train privacy audit --sigma {statement.noise_multiplier!r} --q {statement.sampling_rate!r} "
        f"--steps {statement.steps} --delta {statement.guarantee.delta!r} --clip {statement.max_grad_norm!r} "
        f"--workers {statement.workers} -o json > {file}"
    )
    try:
        audit = EmpiricalAudit.model_validate(json.loads(file.read_text(encoding="utf-8"))["data"])
        return with_audit(statement, audit)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidParameterError):
            raise UsageError(f"{file}: {error}", hint) from error
        raise UsageError(f"{file}: is not what `privacy audit -o json` prints", hint) from error
