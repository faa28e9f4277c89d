"""All tables of the control plane, one module per domain."""

from secure_train.db.tables.budgets import BudgetAllocation, BudgetChange, BudgetCharge, BudgetReservation
from secure_train.db.tables.datasets import Dataset, DatasetVersion
from secure_train.db.tables.decisions import DecisionRecord
from secure_train.db.tables.jobs import (
    Job,
    JobCheckpoint,
    JobLog,
    JobProgress,
    JobRecovery,
    JobRelease,
    JobTicket,
    JobTransition,
    JobWorker,
)
from secure_train.db.tables.models import Model, ModelVersion
from secure_train.db.tables.people import ApiToken, Principal, Project, ProjectMember
from secure_train.db.tables.searches import Search, SearchTrial

__all__ = [
    "ApiToken",
    "BudgetAllocation",
    "BudgetChange",
    "BudgetCharge",
    "BudgetReservation",
    "Dataset",
    "DatasetVersion",
    "DecisionRecord",
    "Job",
    "JobCheckpoint",
    "JobLog",
    "JobProgress",
    "JobRecovery",
    "JobRelease",
    "JobTicket",
    "JobTransition",
    "JobWorker",
    "Model",
    "ModelVersion",
    "Principal",
    "Project",
    "ProjectMember",
    "Search",
    "SearchTrial",
]
