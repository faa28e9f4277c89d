"""What can go wrong when something is authorised."""

from __future__ import annotations

from secure_train.policy.decision import Decision


class PolicyError(Exception):
    """Root of this package's errors."""


class InvalidPolicies(PolicyError):
    """The policies do not parse, do not fit the schema, or lack distinct ids; the message names the file."""


class InvalidCapability(PolicyError):
    """A capability is forged, expired, superseded, or of a job that may not act any more."""


class Denied(PolicyError):
    """A request was denied. The decision is recorded, whatever becomes of the caller's transaction."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(
            f"{decision.principal} may not {decision.action} {decision.asked}: {decision.reason} "
            f"(decision {decision.id})"
        )
