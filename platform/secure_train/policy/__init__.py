"""Who may do what: Cedar policies, decisions that are recorded, and the capabilities of jobs."""

from secure_train.policy import actors, resources
from secure_train.policy.actions import JOB_ACTIONS, Action
from secure_train.policy.actors import Actor
from secure_train.policy.capability import CapabilityClaims, CapabilityIssuer
from secure_train.policy.decision import Decision
from secure_train.policy.engine import Evaluation, PolicyEngine, Request
from secure_train.policy.errors import Denied, InvalidCapability, InvalidPolicies, PolicyError
from secure_train.policy.guard import Guard
from secure_train.policy.resources import Resource

__all__ = [
    "JOB_ACTIONS",
    "Action",
    "Actor",
    "CapabilityClaims",
    "CapabilityIssuer",
    "Decision",
    "Denied",
    "Evaluation",
    "Guard",
    "InvalidCapability",
    "InvalidPolicies",
    "PolicyEngine",
    "PolicyError",
    "Request",
    "Resource",
    "actors",
    "resources",
]
