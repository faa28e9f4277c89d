"""What was decided, as it is recorded and as a denial carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_train.policy.actions import Action


@dataclass(frozen=True)
class Decision:
    """A decision that was made.

    Attributes:
        asked: how the caller named the resource; a denial says this.
        reason: code as in `Evaluation`.
        request: the attributes and the context that were evaluated.
        latency_us: microseconds that the evaluation took.
    """

    id: str
    principal: str
    action: Action
    resource: str
    asked: str
    project: str | None
    allowed: bool
    reason: str
    policies: tuple[str, ...]
    errors: tuple[str, ...]
    request: Mapping[str, Any]
    latency_us: int
