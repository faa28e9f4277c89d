"""Empirical audits: what an attacker can show about the engine, against what is claimed for it.

Every audit runs the product's own step, sampler and noise (`Subject`), on synthetic or public records only.
A bound from below never proves a guarantee; one above the claim refutes it. docs/how-to-audit-privacy.md
tells which audit to take.
"""

from secure_train.dp.audit.canary import (
    Trial,
    gradient_canary_audit,
    input_canary_audit,
    model_canary_audit,
)
from secure_train.dp.audit.coupling import TOLERATED, largest_move
from secure_train.dp.audit.independence import (
    Finding,
    noise_independence,
    noise_level,
    sampling_independence,
    sampling_rate,
)
from secure_train.dp.audit.linear import directions, linear_model
from secure_train.dp.audit.neighbour import NeighbourAudit, neighbour_audit
from secure_train.dp.audit.one_run import Guesses, OneRunBound, audit_scores, epsilon_lower_bound, p_value
from secure_train.dp.audit.subject import Parts, Subject, Trained

__all__ = [
    "TOLERATED",
    "Finding",
    "Guesses",
    "NeighbourAudit",
    "OneRunBound",
    "Parts",
    "Subject",
    "Trained",
    "Trial",
    "audit_scores",
    "directions",
    "epsilon_lower_bound",
    "gradient_canary_audit",
    "input_canary_audit",
    "largest_move",
    "linear_model",
    "model_canary_audit",
    "neighbour_audit",
    "noise_independence",
    "noise_level",
    "p_value",
    "sampling_independence",
    "sampling_rate",
]
