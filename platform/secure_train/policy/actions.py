"""Everything that can be authorised."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """The one list of operations; each is an action of the Cedar schema too."""

    DATASET_REGISTER = "dataset:register"
    DATASET_READ = "dataset:read"
    DATASET_ENCRYPT = "dataset:encrypt"
    DATASET_BUDGET = "dataset:budget"
    DATASET_SET_BUDGET = "dataset:set-budget"
    JOB_SUBMIT = "job:submit"
    JOB_READ = "job:read"
    JOB_CANCEL = "job:cancel"
    JOB_RESUME = "job:resume"
    JOB_REPORT = "job:report"
    MODEL_TRAIN = "model:train"
    MODEL_READ = "model:read"
    MODEL_DOWNLOAD = "model:download"
    MODEL_PREDICT = "model:predict"
    MODEL_EVALUATE = "model:evaluate"
    MODEL_PUBLISH = "model:publish"
    MODEL_PROMOTE = "model:promote"
    MODEL_DELETE = "model:delete"
    CHECKPOINT_WRITE = "checkpoint:write"
    CHECKPOINT_READ = "checkpoint:read"
    CHECKPOINT_RESTORE = "checkpoint:restore"
    KEY_READ = "key:read"
    KEY_CREATE = "key:create"
    KEY_ROTATE = "key:rotate"
    KEY_SHRED = "key:shred"
    AUDIT_READ = "audit:read"
    AUDIT_VERIFY = "audit:verify"
    AUDIT_EXPORT = "audit:export"
    POLICY_READ = "policy:read"
    POLICY_EXPLAIN = "policy:explain"
    POLICY_APPLY = "policy:apply"
    PRINCIPAL_CREATE = "principal:create"
    PRINCIPAL_READ = "principal:read"
    PRINCIPAL_UPDATE = "principal:update"
    PRINCIPAL_TOKEN = "principal:token"  # noqa: S105 (an operation's name)
    PRINCIPAL_REVOKE = "principal:revoke"
    PROJECT_CREATE = "project:create"
    PROJECT_READ = "project:read"
    PROJECT_UPDATE = "project:update"
    SYSTEM_READ = "system:read"


# What a running job's own processes need, and all that its capability grants.
JOB_ACTIONS = frozenset(
    {
        Action.DATASET_READ,
        Action.MODEL_TRAIN,
        Action.MODEL_EVALUATE,
        Action.MODEL_PUBLISH,
        Action.CHECKPOINT_WRITE,
        Action.CHECKPOINT_READ,
        Action.CHECKPOINT_RESTORE,
        Action.JOB_REPORT,
    }
)
