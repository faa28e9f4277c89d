"""Differentially private training: clipping, noise, sampling, accounting, evaluation, statement.

The unit of privacy is one record; the guarantee is add-or-remove-one, with replace-one reported beside it.
"""

from secure_train.dp.accounting import (
    CrossCheck,
    Mechanism,
    Truncation,
    calibrate,
    cross_check,
    epsilon,
    epsilon_replace_one,
)
from secure_train.dp.adjacency import Adjacency
from secure_train.dp.clipping import (
    Batch,
    ClippedSum,
    Clipper,
    Clipping,
    LossFunction,
    PerformanceFlags,
)
from secure_train.dp.disclosures import AuditMethod, DatasetSpend, EmpiricalAudit, EvaluationRelease, Tuning
from secure_train.dp.errors import (
    AccountingDisagreement,
    DPError,
    InvalidParameterError,
    NoiseReuseError,
    RemovalTestFailed,
    UnsupportedModel,
)
from secure_train.dp.evaluation import (
    EvaluationPlan,
    NoisyMetrics,
    bounded_sum,
    evaluate_private,
    noisy_count,
)
from secure_train.dp.noise import DiscreteGaussianNoise, GaussianNoise, Noise
from secure_train.dp.removal import removal_test
from secure_train.dp.sampling import PoissonSampler
from secure_train.dp.statement import DPStatement, build_statement, with_audit
from secure_train.dp.step import AllReduce, PrivacySpec, PrivateStep, sum_over_workers
from secure_train.dp.validation import check_model

__all__ = [
    "AccountingDisagreement",
    "Adjacency",
    "AllReduce",
    "AuditMethod",
    "Batch",
    "ClippedSum",
    "Clipper",
    "Clipping",
    "CrossCheck",
    "DPError",
    "DPStatement",
    "DatasetSpend",
    "DiscreteGaussianNoise",
    "EmpiricalAudit",
    "EvaluationPlan",
    "EvaluationRelease",
    "GaussianNoise",
    "InvalidParameterError",
    "LossFunction",
    "Mechanism",
    "Noise",
    "NoiseReuseError",
    "NoisyMetrics",
    "PerformanceFlags",
    "PoissonSampler",
    "PrivacySpec",
    "PrivateStep",
    "RemovalTestFailed",
    "Truncation",
    "Tuning",
    "UnsupportedModel",
    "bounded_sum",
    "build_statement",
    "calibrate",
    "check_model",
    "cross_check",
    "epsilon",
    "epsilon_replace_one",
    "evaluate_private",
    "noisy_count",
    "removal_test",
    "sum_over_workers",
    "with_audit",
]
