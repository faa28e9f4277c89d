"""The roles that the default policies know."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody is responsible for. Names as in `secure_train.wire.people.RoleName`."""

    ADMIN = "admin"
    ENGINEER = "engineer"
    DATA_OWNER = "data-owner"
    AUDITOR = "auditor"
    OPERATOR = "operator"
