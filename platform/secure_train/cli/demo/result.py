"""What the demo has shown, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_train.wire.evidence import AuditVerification, DecisionView
from secure_train.wire.jobs import JobDetail


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The job, the denial, the evidence, and where they are written down.

    Attributes:
        job: as it ended.
        denied: the decision that refused a submission, and
        denial: its message.
        verification: of the audit trail by the control plane.
        exported_events: events of the export, verified offline.
        seconds: that the demo took, from nothing to this.
    """

    job: JobDetail
    denied: DecisionView
    denial: str
    verification: AuditVerification
    exported_events: int
    export: Path
    report: Path
    seconds: float

    @property
    def recovery_seconds(self) -> list[float]:
        """From each death to the first step after it."""
        return [found.seconds for found in self.job.recoveries if found.seconds is not None]

    def to_json(self) -> dict[str, Any]:
        """Return the stable form of ``-o json``."""
        job = self.job.job
        return {
            "jobs": [
                {
                    "id": job.id,
                    "name": job.name,
                    "state": job.state,
                    "epsilon": job.spent_epsilon,
                    "epsilon_declared": job.epsilon,
                    "delta": job.delta,
                    "accuracy": job.metrics.get("accuracy"),
                    "steps": job.steps,
                    "recoveries": job.recoveries,
                    "recovery_seconds": self.recovery_seconds,
                    "checkpoints": job.checkpoints,
                    "model": job.model,
                }
            ],
            "denied": {
                "message": self.denial,
                "decision_id": self.denied.id,
                "reason": self.denied.reason,
                "policies": self.denied.policies,
            },
            "audit": {
                "events": self.verification.events,
                "verified": self.verification.verified,
                "root": self.verification.root,
            },
            "export": str(self.export),
            "report": str(self.report),
            "seconds": round(self.seconds, 1),
        }

    def lines(self) -> list[tuple[str, str]]:
        """Return a short table for people."""
        job, rows = self.job.job, self.job.job.metrics.get("rows")
        table = [
            ("job", f"{job.name} ({job.id}): {job.state} after {job.step} steps"),
            ("privacy", f"ε {job.spent_epsilon:.3f} of {job.epsilon:g} spent, δ {job.delta:g}"),
        ]
        if "accuracy" in job.metrics:
            scale = job.metrics.get("accuracy_scale", 0.0)
            noise = f" (noise of scale {scale:.4f} included)" if scale else ""
            table.append(("accuracy", f"{job.metrics['accuracy']:.4f} on {rows} held-out rows{noise}"))
        table += [
            (
                "recovery",
                f"{found.cause}; from step {found.last_step} back to {found.restored_step}"
                + (f", training again after {found.seconds:.1f} s" if found.seconds is not None else ""),
            )
            for found in self.job.recoveries
        ]
        return [
            *table,
            ("denied", f"{self.denied.action} by {self.denied.principal}: {', '.join(self.denied.policies)}"),
            ("audit", f"{self.verification.events} events verified, root {self.verification.root[:16]}…"),
            ("export", f"{self.export} ({self.exported_events} events, verified offline)"),
            ("report", str(self.report)),
            ("took", f"{self.seconds:.0f} s"),
        ]
