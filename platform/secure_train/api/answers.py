"""Which error of which package becomes which answer. What is not listed is a defect, and answers 500."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secure_train import identity, registry
from secure_train.api.errors import NotFound
from secure_train.audit import NoteError, TamperEvidence
from secure_train.identity import IdentityError, NotAuthenticated
from secure_train.jobs.errors import Diverged, JobConflict, JobNotFound, StaleWorker, Unreadable
from secure_train.ledger import BudgetChangeRefused, BudgetExceeded, LedgerError
from secure_train.policy import Denied, InvalidCapability
from secure_train.registry import RegistryError, RowErrors, TableTooLarge
from secure_train.spec import SpecErrors, WorkdirError
from secure_train.wire.base import ErrorBody


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and the error body that goes with it."""

    status: int
    body: ErrorBody


def _denied(error: Denied) -> Answer:
    hint = f"`secure-train policy explain {error.decision.id}` shows what was evaluated"
    if not error.decision.policies:
        # The same words whether or not the thing exists: who may not see it must not learn that from us.
        hint = f"no policy permits this to you, or there is no such thing: check the name; {hint}"
    body = ErrorBody(
        code="denied_by_policy",
        message=str(error),
        hint=hint,
        decision_id=error.decision.id,
        reason=error.decision.reason,
    )
    return Answer(403, body)


def _spec(error: SpecErrors) -> Answer:
    return Answer(422, ErrorBody(code="invalid", message=str(error), details=error.to_json()["errors"]))


def _rows(error: RowErrors) -> Answer:
    # The offending values go back to the owner who sent them, and nowhere else.
    return Answer(422, ErrorBody(code="invalid", message=error.for_sender(), details=error.to_json()))


def _simple(status: int, code: Any) -> Callable[[Exception], Answer]:
    return lambda error: Answer(status, ErrorBody(code=code, message=str(error)))


ANSWERS: tuple[tuple[type[Exception], Callable[[Any], Answer]], ...] = (
    (Denied, _denied),
    (BudgetChangeRefused, _simple(409, "conflict")),
    (BudgetExceeded, _simple(403, "denied_by_budget")),
    (NotAuthenticated, _simple(401, "not_authenticated")),
    (InvalidCapability, _simple(401, "not_authenticated")),
    (identity.InvalidIdentity, _simple(422, "invalid")),
    (IdentityError, _simple(409, "conflict")),
    (NotFound, _simple(404, "not_found")),
    (JobNotFound, _simple(404, "not_found")),
    (Diverged, _simple(409, "diverged")),
    (Unreadable, _simple(409, "unreadable")),
    (JobConflict, _simple(409, "conflict")),
    (StaleWorker, _simple(409, "stale")),
    (registry.NotFound, _simple(404, "not_found")),
    (RowErrors, _rows),
    (TableTooLarge, _simple(413, "too_large")),
    (RegistryError, _simple(409, "conflict")),
    (LedgerError, _simple(409, "conflict")),
    (SpecErrors, _spec),
    (WorkdirError, _simple(422, "invalid")),
    (NoteError, _simple(422, "invalid")),
    (TamperEvidence, _simple(409, "conflict")),
)
