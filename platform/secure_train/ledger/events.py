"""Typed DP events as rows hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from secure_train.dp.composition import DpEvent, PoissonGaussian, Pure
from secure_train.ledger.errors import LedgerError

_KINDS: dict[str, type[DpEvent]] = {"poisson_gaussian": PoissonGaussian, "pure": Pure}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def event_to_json(event: DpEvent) -> dict[str, Any]:
    """Return an event as a row holds it: its kind and its parameters."""
    return {"kind": _NAMES[type(event)], **vars(event)}


def event_from_json(data: Mapping[str, Any]) -> DpEvent:
    """Read an event.

    Raises:
        LedgerError: it is of no kind that this version knows. What cannot be counted is never ignored.
        InvalidParameterError: a parameter is out of range.
    """
    parameters = dict(data)
    kind = parameters.pop("kind", None)
    if kind not in _KINDS:
        raise LedgerError(
            f"the ledger holds a DP event of the unknown kind {kind!r}: run the version that wrote it"
        )
    return _KINDS[kind](**parameters)


def events_to_json(events: Iterable[DpEvent]) -> list[dict[str, Any]]:
    """Return events as a row holds them."""
    return [event_to_json(event) for event in events]


def events_from_json(data: Iterable[Mapping[str, Any]]) -> tuple[DpEvent, ...]:
    """Read events; raises what `event_from_json` raises."""
    return tuple(event_from_json(item) for item in data)
