"""What the demo has shown, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_train.audit import ExportReport
from secure_train.cli.figures import metric_facts, recovery_text, spent
from secure_train.wire.evidence import DecisionView
from secure_train.wire.jobs import JobDetail


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The job, the denial, the evidence, and where they are written down.

    Attributes:
        job: as it ended.
        denied: the decision that refused a submission, and
        denial: its message.
        trail: the export of the audit trail, as verified offline. It is written last, and so has everything.
        seconds: that the demo took, from nothing to this.
    """

    job: JobDetail
    denied: DecisionView
    denial: str
    trail: ExportReport
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
                "events": self.trail.events,
                "verified": self.trail.complete,
                "root": self.trail.checkpoint.root.hex(),
            },
            "export": str(self.export),
            "report": str(self.report),
            "seconds": round(self.seconds, 1),
        }

    def lines(self) -> list[tuple[str, str]]:
        """Return a short table for people."""
        job = self.job.job
        table = [
            ("job", f"{job.name} ({job.id}): {job.state} after {job.step} steps"),
            ("privacy", f"ε {spent(job.spent_epsilon)} of {job.epsilon:g} spent, δ {job.delta:g}"),
            *metric_facts(job.metrics),
        ]
        table += [("recovery", recovery_text(found)) for found in self.job.recoveries]
        root = self.trail.checkpoint.root.hex()
        return [
            *table,
            ("denied", f"{self.denied.action} by {self.denied.principal}: {', '.join(self.denied.policies)}"),
            (
                "audit",
                f"{self.trail.events} events, verified offline, root {root[:16]}…",
            ),
            ("export", str(self.export)),
            ("report", str(self.report)),
            ("took", f"{self.seconds:.0f} s"),
        ]
