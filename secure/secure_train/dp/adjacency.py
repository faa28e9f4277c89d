"""Neighbouring relations: what 'one record' means in a guarantee."""

from __future__ import annotations

from enum import StrEnum


class Adjacency(StrEnum):
    """Which pairs of datasets must be indistinguishable. The unit of privacy is one record (one row)."""

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    """The datasets differ by the presence of one record."""

    REPLACE_ONE = "replace-one"
    """The datasets have the same size and differ in the content of one record."""
