"""Where every operation is authorised: a transaction, in it one decision, and the record of that decision.

An allowed operation's decision record commits with what it allowed. If the operation is denied, or fails
after it was allowed, its transaction is rolled back, and the decision is then recorded by itself: every
decision that was made is on record, whatever became of the request.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import Session

from secure_train.audit import Event
from secure_train.db import Database, new_id, now
from secure_train.db.tables import DecisionRecord
from secure_train.db.trail import Trail
from secure_train.policy.actions import Action
from secure_train.policy.actors import Actor
from secure_train.policy.decision import Decision
from secure_train.policy.engine import PolicyEngine, Request, shown_context
from secure_train.policy.errors import Denied, PolicyError
from secure_train.policy.resources import Resource

_DECISIONS = "secure_train_decisions"
_DENIAL = "secure_train_denial"


class Guard:
    """Authorises operations on behalf of all services."""

    def __init__(self, database: Database, engine: PolicyEngine, trail: Trail) -> None:
        self.database = database
        self.engine = engine
        self.trail = trail

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction for one operation: decision, changes and audit events commit together.

        If the block raises, all of that is rolled back; the decisions that were made, allowing or denying,
        are then recorded by themselves.

        Raises:
            Denied: `authorize` denied; also if the block caught that error itself.
            PolicyError: the block ended without a decision. Nothing was committed.
        """
        decisions: list[Decision] = []
        try:
            with self.database.write() as session:
                session.info[_DECISIONS] = decisions
                yield session
                if _DENIAL in session.info:
                    raise Denied(session.info[_DENIAL])
                if not decisions:
                    raise PolicyError("nothing was authorised in this transaction: it was rolled back")
        except Exception:
            if decisions:
                with self.database.write() as session:
                    for decision in decisions:
                        self._record(session, decision)
            raise

    def authorize(
        self,
        session: Session,
        actor: Actor,
        action: Action,
        resource: Resource,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Decide, and record the decision in the caller's transaction, which `transaction` has opened.

        `context` is empty except for `job:submit` (purpose, project, epsilon, delta, workers, own_code) and
        `dataset:set-budget` (raises, submitters).

        Raises:
            Denied: not allowed.
        """
        decision = self.consider(session, actor, action, resource, context)
        if not decision.allowed:
            session.info[_DENIAL] = decision
            raise Denied(decision)
        return decision

    def consider(
        self,
        session: Session,
        actor: Actor,
        action: Action,
        resource: Resource,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Decide and record like `authorize`, but return a denial instead of raising it: for plans."""
        made = _made(session)
        decision = self._decide(actor, action, resource, context or {})
        made.append(decision)
        self._record(session, decision)
        return decision

    def visible(
        self, session: Session, actor: Actor, action: Action, resources: Sequence[Resource]
    ) -> list[bool]:
        """Say for each resource whether the action on it is allowed; nothing is recorded.

        For filtering a list.

        Raises:
            PolicyError: no decision about the list itself has been recorded in this transaction.
        """
        if not _made(session):
            raise PolicyError("authorise the list itself before filtering it")
        if not resources:
            return []
        evaluations = self.engine.evaluate_all([Request(actor, action, resource) for resource in resources])
        return [evaluation.allowed for evaluation in evaluations]

    def still_allowed(
        self, actor: Actor, action: Action, resource: Resource, context: Mapping[str, Any] | None = None
    ) -> bool:
        """Look at what a recorded decision has allowed, or is about to be made on; nothing is recorded."""
        return self.engine.evaluate(Request(actor, action, resource, context or {})).allowed

    def _decide(
        self, actor: Actor, action: Action, resource: Resource, context: Mapping[str, Any]
    ) -> Decision:
        request = Request(actor, action, resource, context)
        started = time.perf_counter_ns()
        evaluation = self.engine.evaluate(request)
        return Decision(
            id=new_id("dec"),
            principal=actor.id,
            action=action,
            resource=resource.ref,
            asked=resource.asked or resource.ref,
            project=resource.project,
            allowed=evaluation.allowed,
            reason=evaluation.reason,
            policies=evaluation.policies,
            errors=evaluation.errors,
            request={
                "principal": actor.entity.shown,
                "resource": resource.entity.shown,
                "related": [entity.shown for entity in resource.related],
                "context": shown_context(request),
            },
            latency_us=(time.perf_counter_ns() - started) // 1000,
        )

    def _record(self, session: Session, decision: Decision) -> None:
        result = "allow" if decision.allowed else "deny"
        session.add(
            DecisionRecord(
                id=decision.id,
                at=now(),
                principal=decision.principal,
                action=decision.action,
                resource=decision.resource,
                project=decision.project,
                result=result,
                reason=decision.reason,
                policies=list(decision.policies),
                errors=list(decision.errors),
                request=dict(decision.request),
                policy_hash=self.engine.policy_hash,
                schema_hash=self.engine.schema_hash,
                latency_us=decision.latency_us,
            )
        )
        data = {
            "decision": decision.id,
            "action": decision.action,
            "result": result,
            "reason": decision.reason,
            "policies": decision.policies,
            "policy_hash": self.engine.policy_hash,
        }
        event = Event(
            "policy.decision",
            decision.principal,
            decision.resource,
            data,
            decision.id,
            project=decision.project,
        )
        self.trail.append(session, event)


def _made(session: Session) -> list[Decision]:
    made: list[Decision] | None = session.info.get(_DECISIONS)
    if made is None:
        raise PolicyError("this session was not opened by Guard.transaction()")
    return made
