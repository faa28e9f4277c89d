"""Data keys and wrapped keys as values."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_train.vault import Corrupted, DataKey, KeyContext, WrappedKey

TEXT = st.text(min_size=1, max_size=8)


def test_a_data_key_shows_nothing_of_itself() -> None:
    key = DataKey(b"\x41" * 32)
    assert "41" not in f"{key!r} {key}"
    assert "A" not in f"{key!r} {key}"


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_data_key_can_not_be_pickled_or_copied_by_accident(leak: object) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        leak(DataKey.generate())  # type: ignore[operator]


def test_a_data_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(b"short")


def test_derived_keys_differ_by_purpose_and_by_salt() -> None:
    key = DataKey(bytes(32))
    derived = {key.derive(b"a"), key.derive(b"b"), key.derive(b"a", salt=b"s" * 32), key.reveal()}
    assert len(derived) == 4


@given(st.tuples(TEXT, TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT))
def test_two_contexts_have_the_same_encoding_only_if_they_are_equal(
    first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    assert (KeyContext(*first).to_bytes() == KeyContext(*second).to_bytes()) == (first == second)


@pytest.mark.parametrize("fields", [("", "a", "b"), ("a", "", "b"), ("a", "b", "")])
def test_a_context_with_an_empty_field_is_refused(fields: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="is empty"):
        KeyContext(*fields)


@given(st.integers(0, 2**32 - 1), st.binary(min_size=60, max_size=60))
def test_wrapped_keys_round_trip_through_bytes(version: int, secret: bytes) -> None:
    assert WrappedKey.from_bytes(WrappedKey(version, secret).to_bytes()) == WrappedKey(version, secret)


def test_the_wrapped_format_is_fixed() -> None:
    assert WrappedKey(7, b"\xaa" * 60).to_bytes() == b"STWK\x01\x00\x00\x00\x07" + b"\xaa" * 60


@pytest.mark.parametrize(
    "data", [b"", b"STWK\x01", bytes(69), b"STWK\x02" + bytes(64), b"STWK\x01" + bytes(65)]
)
def test_anything_else_is_not_a_wrapped_key(data: bytes) -> None:
    with pytest.raises(Corrupted):
        WrappedKey.from_bytes(data)
