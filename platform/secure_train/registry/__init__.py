"""Datasets and models: taken in, sealed, described, opened for those whom policy lets."""

from secure_train.registry.budgets import BudgetService
from secure_train.registry.datasets import DatasetService, RowsGrant
from secure_train.registry.errors import (
    AlreadyExists,
    InvalidModel,
    NotFound,
    NotServed,
    Problem,
    ProblemKind,
    RegistryError,
    Retired,
    RowErrors,
    TableTooLarge,
)
from secure_train.registry.limits import Limits
from secure_train.registry.models import ModelService
from secure_train.registry.sealing import SealedWeights, live_manifests

__all__ = [
    "AlreadyExists",
    "BudgetService",
    "DatasetService",
    "InvalidModel",
    "Limits",
    "ModelService",
    "NotFound",
    "NotServed",
    "Problem",
    "ProblemKind",
    "RegistryError",
    "Retired",
    "RowErrors",
    "RowsGrant",
    "SealedWeights",
    "TableTooLarge",
    "live_manifests",
]
