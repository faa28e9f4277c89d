"""Cedar, so that it fails closed.

Cedar itself skips a policy whose evaluation errs. For an erring `forbid` that would fail open, so here any
evaluation error denies.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import cedarpy

from secure_train.policy.actions import Action
from secure_train.policy.actors import Actor
from secure_train.policy.entities import Entity, Uid, principal_uid, project_uid
from secure_train.policy.errors import InvalidPolicies
from secure_train.policy.resources import Resource

HERE = Path(__file__).parent
DEFAULT_POLICIES = HERE / "policies"
SCHEMA = HERE / "schema.cedarschema"

NO_PERMIT = "no_policy_permits"
POLICY_ERROR = "policy_error"
INVALID_REQUEST = "invalid_request"

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Request:
    """Who wants to do what to what."""

    actor: Actor
    action: Action
    resource: Resource
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        reason: code: id of a determining policy, "no_policy_permits", "policy_error" or "invalid_request".
        policies: ids of the policies that determined the outcome.
        errors: evaluation errors; if there is any, `allowed` is False.
    """

    allowed: bool
    reason: str
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class PolicyEngine:
    """Parsed policies and their schema.

    Args:
        policies: text of each policy file, by file name.
        schema: text of the Cedar schema.

    Raises:
        InvalidPolicies: a file does not parse, or a policy does not validate against the schema, is a
            template, or has no @id of its own.
    """

    def __init__(self, policies: Mapping[str, str], schema: str) -> None:
        self.policies = dict(policies)
        self.schema = schema
        try:
            self._schema = cedarpy.Schema.from_str(schema)
        except ValueError as error:
            raise InvalidPolicies(f"the schema does not parse: {error}") from error
        _check_each(self.policies, self._schema)
        self._policies = cedarpy.PolicySet.from_str("\n".join(self.policies.values()))
        self.policy_hash = hashlib.sha256(
            json.dumps(self.policies, sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()
        self.schema_hash = hashlib.sha256(schema.encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path | None = None) -> PolicyEngine:
        """Read all `*.cedar` files of a folder; None: the policies that ship with us.

        Raises:
            InvalidPolicies: see the class; or the folder holds none.
        """
        folder = DEFAULT_POLICIES if folder is None else folder
        files = sorted(folder.glob("*.cedar"))
        if not files:
            raise InvalidPolicies(
                f"{folder}: no *.cedar file in this folder; without policies nothing is permitted"
            )
        try:
            texts = {path.name: path.read_text("utf-8") for path in files}
        except UnicodeDecodeError as error:
            raise InvalidPolicies(f"{folder}: a policy file is not UTF-8: {error}") from error
        return cls(texts, SCHEMA.read_text("utf-8"))

    def evaluate(self, request: Request) -> Evaluation:
        """Decide one request. Never raises on what is in it: a request that cannot be evaluated is denied."""
        return self.evaluate_all([request])[0]

    def evaluate_all(self, requests: Sequence[Request]) -> list[Evaluation]:
        """Decide requests of one actor together, over entities parsed once; answers in their order."""
        try:
            entities = cedarpy.Entities.from_json_str(_entities(requests), self._schema)
            questions = [_question(request) for request in requests]
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            return [Evaluation(False, INVALID_REQUEST, errors=(str(error),)) for _ in requests]
        results = cedarpy.is_authorized_batch(questions, self._policies, entities, self._schema)
        return [_evaluation(result) for result in results]


def shown_context(request: Request) -> dict[str, Any]:
    """Return the context for people and records: scalars as they are, everything else as text."""
    return {name: _shown(value) for name, value in request.context.items()}


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def _check_each(policies: Mapping[str, str], schema: cedarpy.Schema) -> None:
    seen: dict[str, str] = {}
    for name, text in policies.items():
        result = cedarpy.validate_policies(text, schema)
        if not result.validation_passed:
            raise InvalidPolicies(f"{name}: " + "; ".join(str(error) for error in result.errors))
        parsed = json.loads(cedarpy.policies_to_json_str(text))
        if parsed["templates"]:
            raise InvalidPolicies(f"{name}: policy templates are not supported; write each policy out")
        for policy in parsed["staticPolicies"].values():
            identity = policy.get("annotations", {}).get("id") or ""
            if not _ID.fullmatch(identity):
                raise InvalidPolicies(
                    f"{name}: a policy's @id is {identity!r}: give each one of at most 64 of a-z, 0-9 and '-'"
                )
            if identity in seen:
                raise InvalidPolicies(
                    f"{name}: the @id {identity!r} is taken by a policy in {seen[identity]}"
                )
            seen[identity] = name


def _entities(requests: Iterable[Request]) -> str:
    entities: dict[Uid, Entity] = {}
    for request in requests:
        for entity in (request.resource.entity, *request.resource.related, *request.actor.related):
            entities.setdefault(entity.uid, entity)
    # Last, so that it wins: only the actor's own entity carries what its capability grants.
    for request in requests:
        entities[request.actor.entity.uid] = request.actor.entity
    return json.dumps([entity.json for entity in entities.values()])


def _question(request: Request) -> dict[str, Any]:
    return {
        "principal": request.actor.entity.uid.json,
        "action": Uid("Action", request.action).json,
        "resource": request.resource.entity.uid.json,
        "context": _context(request.action, request.context),
    }


def _context(action: Action, context: Mapping[str, Any]) -> dict[str, Any]:
    """Encode a context for Cedar. Privacy parameters are rounded up: never less than what is asked."""
    encoded = dict(context)
    if action is Action.DATASET_SET_BUDGET:
        encoded["submitters"] = [principal_uid(name).reference for name in sorted(encoded["submitters"])]
    if action is not Action.JOB_SUBMIT:
        return encoded
    epsilon = _decimal(encoded["epsilon"]).quantize(Decimal("0.0001"), ROUND_CEILING)
    encoded["epsilon"] = {"__extn": {"fn": "decimal", "arg": f"{epsilon:f}"}}
    encoded["delta_nano"] = math.ceil(_decimal(encoded.pop("delta")) * 10**9)
    encoded["project"] = project_uid(encoded["project"]).reference
    return encoded


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return Decimal(repr(value))


def _evaluation(result: cedarpy.AuthzResult) -> Evaluation:
    names = result.diagnostics.id_annotations_by_reason
    policies = tuple(sorted(names[reason] for reason in result.diagnostics.reasons))
    errors = tuple(result.diagnostics.errors)
    if result.decision is cedarpy.Decision.NoDecision:
        return Evaluation(False, INVALID_REQUEST, policies, errors)
    if errors:
        return Evaluation(False, POLICY_ERROR, policies, errors)
    return Evaluation(result.allowed, policies[0] if policies else NO_PERMIT, policies)
