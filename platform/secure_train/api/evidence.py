"""What proves the platform's conduct: policy, decisions, the audit trail and its signatures, keys, state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train.api.errors import NotFound
from secure_train.audit import (
    AuditLog,
    Event,
    EventFilter,
    NoteSigner,
    ProofError,
    Record,
    SignedCheckpoint,
    export_lines,
    verify_log,
)
from secure_train.db import Database, new_id
from secure_train.db.migrate import current
from secure_train.db.tables import DecisionRecord, Job, Principal
from secure_train.db.trail import Trail
from secure_train.policy import Action, Actor, Guard, PolicyEngine, Resource, resources
from secure_train.vault import SealedFileVault
from secure_train.wire.evidence import (
    AuditCheckpointView,
    AuditEventView,
    AuditVerification,
    DecisionView,
    InclusionProofView,
    KeyView,
    PolicyView,
    SystemStatus,
)


def decision_view(row: DecisionRecord) -> DecisionView:
    """Show a recorded decision."""
    return DecisionView(
        id=row.id,
        at=row.at,
        principal=row.principal,
        action=row.action,
        resource=row.resource,
        project=row.project,
        result=row.result,
        reason=row.reason,
        policies=row.policies,
        errors=row.errors,
        request=row.request,
        policy_hash=row.policy_hash,
        schema_hash=row.schema_hash,
    )


class EvidenceService:
    """Reads and proves; every method authorises first."""

    def __init__(
        self,
        guard: Guard,
        trail: Trail,
        database: Database,
        engine: PolicyEngine,
        vault: SealedFileVault,
        signer: NoteSigner,
    ) -> None:
        self._guard = guard
        self._trail = trail
        self._database = database
        self._engine = engine
        self._vault = vault
        self._signer = signer

    @property
    def _log(self) -> AuditLog:
        return self._trail.log

    def _allow(
        self, actor: Actor, action: Action, catalog: str, *, note: tuple[str, dict[str, str]] | None = None
    ) -> None:
        """Authorise in a transaction of its own, so that reading long does not hold the writer's lock."""
        with self._guard.transaction() as session:
            self._guard.authorize(session, actor, action, resources.catalog(catalog))
            if note is not None:
                kind, data = note
                event = Event(
                    type=kind, actor=actor.id, subject="audit", data=data, idempotency_key=new_id("evt")
                )
                self._trail.append(session, event)

    def policy(self, actor: Actor) -> PolicyView:
        """Return the active policies."""
        self._allow(actor, Action.POLICY_READ, "policy")
        return PolicyView(
            policy_hash=self._engine.policy_hash,
            schema_hash=self._engine.schema_hash,
            cedar_schema=self._engine.schema,
            policies=dict(self._engine.policies),
        )

    def decisions(
        self, actor: Actor, *, result: str | None, principal: str | None, resource: str | None, limit: int
    ) -> list[DecisionView]:
        """List decisions, newest first."""
        self._allow(actor, Action.POLICY_EXPLAIN, "policy")
        query = (
            select(DecisionRecord).order_by(DecisionRecord.at.desc(), DecisionRecord.id.desc()).limit(limit)
        )
        for column, value in (
            (DecisionRecord.result, result),
            (DecisionRecord.principal, principal),
            (DecisionRecord.resource, resource),
        ):
            if value is not None:
                query = query.where(column == value)
        with self._database.read() as session:
            return [decision_view(row) for row in session.scalars(query)]

    def decision(self, actor: Actor, decision: str) -> DecisionView:
        """Return one decision; the principal whom it concerned may always ask why."""
        with self._guard.transaction() as session:
            row = session.get(DecisionRecord, decision)
            self._guard.authorize(session, actor, Action.POLICY_EXPLAIN, _subject(session, decision, row))
            if row is None:
                raise NotFound(f"there is no decision {decision!r}")
            return decision_view(row).model_copy(update={"sources": self._sources(row)})

    def _sources(self, row: DecisionRecord) -> list[str]:
        """The text of the policies that determined a decision: whom they bind may read them."""
        if row.policy_hash != self._engine.policy_hash:
            return []
        blocks = [block.strip() for text in self._engine.policies.values() for block in text.split("\n\n")]
        return [block for block in blocks if any(f'@id("{name}")' in block for name in row.policies)]

    def events(
        self, actor: Actor, wanted: EventFilter, *, after: int | None, limit: int
    ) -> list[AuditEventView]:
        """List events in order."""
        self._allow(actor, Action.AUDIT_READ, "audit")
        with self._database.read() as session:
            found = self._log.events(
                session,
                type=wanted.type,
                actor=wanted.actor,
                subject=wanted.subject,
                project=wanted.project,
                since=wanted.since,
                until=wanted.until,
                after=after,
                limit=limit,
            )
            return [_event_view(record) for record in found]

    def checkpoint(self, actor: Actor) -> AuditCheckpointView:
        """Sign the trail as it is now."""
        self._allow(actor, Action.AUDIT_VERIFY, "audit")
        return self._checkpoint_view(self.sign())

    def sign(self) -> SignedCheckpoint:
        """Sign and store the trail's current head."""
        with self._database.write() as session:
            return self._log.checkpoint(session, self._signer)

    def verify(self, actor: Actor, kept_note: str | None) -> AuditVerification:
        """Re-hash the whole trail; tampering raises ``TamperEvidence`` with the first bad index."""
        self._allow(actor, Action.AUDIT_VERIFY, "audit")
        kept = None if kept_note is None else SignedCheckpoint.parse(kept_note)
        self.sign()
        with self._database.read() as session:
            report = verify_log(session, self._signer.verifier, kept=kept)
        return AuditVerification(
            events=report.events,
            root=report.root.hex(),
            checkpoint_size=report.checkpoint_size,
            unsigned_tail=report.unsigned_tail,
            verified=True,
        )

    def prove(self, actor: Actor, seq: int) -> InclusionProofView:
        """Prove that an event is in the signed tree."""
        self._allow(actor, Action.AUDIT_VERIFY, "audit")
        signed = self.sign()
        with self._database.read() as session:
            found = list(self._log.events(session, after=seq - 1, limit=1))
            if not found or found[0].seq != seq or seq >= signed.size:
                raise NotFound(f"there is no event {seq}: the trail has {signed.size} events")
            try:
                hashes = self._log.prove_inclusion(session, seq, signed.size)
            except ProofError as error:
                raise NotFound(str(error)) from error
        return InclusionProofView(
            seq=seq,
            leaf=found[0].body.decode(),
            hashes=[value.hex() for value in hashes],
            checkpoint=self._checkpoint_view(signed),
        )

    def export(self, actor: Actor, wanted: EventFilter) -> Iterator[bytes]:
        """Authorise now, then return the export's lines as a stream."""
        filters = {name: str(value) for name, value in wanted.to_json().items()}
        self._allow(actor, Action.AUDIT_EXPORT, "audit", note=("audit.exported", filters))

        def lines() -> Iterator[bytes]:
            with self._database.read() as session:
                yield from export_lines(session, self._signer, where=wanted)

        return lines()

    def keys(self, actor: Actor) -> list[KeyView]:
        """List the vault's keys, without secrets."""
        self._allow(actor, Action.KEY_READ, "keys")
        return [
            KeyView(name=key.name, kind=key.kind, active=key.active, public_key=key.public_key)
            for key in self._vault.inventory()
        ]

    def system(self, actor: Actor, ray: Callable[[], str]) -> SystemStatus:
        """Return what runs and whether it is well."""
        self._allow(actor, Action.SYSTEM_READ, "system")
        with self._database.read() as session:
            latest = self._log.latest_checkpoint(session)
            return SystemStatus(
                version=version("secure-train"),
                database=self._database.url.render_as_string(hide_password=True),
                migration=current(self._database) or "none",
                policy_hash=self._engine.policy_hash,
                audit_size=self._log.size(session),
                audit_checkpoint_size=0 if latest is None else latest.size,
                jobs=_jobs_by_state(session),
                ray=ray(),
            )

    def _checkpoint_view(self, signed: SignedCheckpoint) -> AuditCheckpointView:
        return AuditCheckpointView(
            size=signed.size,
            root=signed.root.hex(),
            note=signed.note,
            verifier_key=str(self._signer.verifier),
        )


def _subject(session: Session, decision: str, row: DecisionRecord | None) -> Resource:
    """Whose decision it is: people may see their own; those of jobs and of nobody are the platform's."""
    if row is None:
        return resources.missing("decision", decision)
    principal = session.get(Principal, row.principal)
    return resources.catalog("policy") if principal is None else resources.principal(session, principal)


def _event_view(record: Record) -> AuditEventView:
    return AuditEventView(
        seq=record.seq,
        time=datetime.fromisoformat(record.time),
        type=record.type,
        actor=record.actor,
        subject=record.subject,
        project=record.project,
        data=dict(record.data),
    )


def _jobs_by_state(session: Session) -> dict[str, int]:
    counted = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return {row[0]: row[1] for row in counted}
