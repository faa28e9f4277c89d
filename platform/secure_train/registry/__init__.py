"""Datasets and models: taken in, sealed, described, opened for those whom policy lets.

Services are imported from their modules: who only drafts a schema from rows needs neither database nor torch.
"""

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

__all__ = [
    "AlreadyExists",
    "InvalidModel",
    "Limits",
    "NotFound",
    "NotServed",
    "Problem",
    "ProblemKind",
    "RegistryError",
    "Retired",
    "RowErrors",
    "TableTooLarge",
]
