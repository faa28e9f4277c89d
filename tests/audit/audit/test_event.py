"""What can be recorded, and that each record has one form only."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from secure_train.audit import Event, InvalidEventError, Record, canonical_json
from secure_train.audit.canonical import parse_canonical

Make = Callable[..., Event]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


@given(values)
def test_canonical_json_round_trips_to_the_same_bytes(value: object) -> None:
    raw = canonical_json(value)  # type: ignore[arg-type]
    assert raw == rfc8785.dumps(value)  # type: ignore[arg-type]
    assert canonical_json(parse_canonical(raw)) == raw


@given(values)
def test_json_of_any_other_spelling_is_refused(value: object) -> None:
    canonical = canonical_json(value)  # type: ignore[arg-type]
    for raw in (
        json.dumps(value).encode(),
        json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode(),
        canonical + b" ",
        b'{"a":1,"a":' + canonical + b"}",
    ):
        if raw != canonical:
            with pytest.raises(ValueError, match=r"canonical|Extra data"):
                parse_canonical(raw)


def test_the_example_of_rfc_8785_holds() -> None:
    # RFC 8785 section 3.2.2 and 3.2.3: numbers, strings and the order of keys.
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert canonical_json(value).decode() == (  # type: ignore[arg-type]
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize(
    "raw", [b"NaN", b"-0", b"1.0", b"1e1", b"9007199254740993", b'"\\u0041"', b"{", b"\xff"]
)
def test_raw_bytes_that_are_not_canonical_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds; that none is accepted is the claim
        parse_canonical(raw)


def test_hostile_nesting_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        parse_canonical(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"a": float("nan")}, r"data\.a: nan"),
        ({"a": [1, {"b": float("inf")}]}, r"data\.a\[1\]\.b: inf"),
        ({"a": 2**53}, r"data\.a: the integer 9007199254740992"),
        ({"a": -(2**53)}, r"data\.a: the integer"),
        ({1: "a"}, "data: the key 1"),
        ({"a": datetime(2025, 1, 1, tzinfo=UTC)}, r"data\.a: datetime"),
        ({"a": b"bytes"}, r"data\.a: bytes"),
        ({"a": "\ud800"}, r"data\.a: a lone surrogate"),
        ({"\ud800": 1}, "a lone surrogate"),
        ([], "data: a JSON object"),
    ],
)
def test_data_without_an_exact_json_form_is_refused_and_named(event: Make, data: object, named: str) -> None:
    with pytest.raises(InvalidEventError, match=named):
        event(0, data=data)


def test_data_nested_too_deep_is_refused(event: Make) -> None:
    data: dict[str, object] = {}
    for _ in range(40):
        data = {"a": data}
    with pytest.raises(InvalidEventError, match="32 levels"):
        event(0, data=data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "submitted"),
        ("type", "Job.Submitted"),
        ("type", "job."),
        ("type", "job.a\n"),
        ("actor", ""),
        ("actor", None),
        ("subject", "line\nbreak"),
        ("subject", "x" * 513),
        ("project", ""),
        ("idempotency_key", "nul\x00"),
        ("occurred_at", datetime(2025, 1, 1)),
    ],
)
def test_a_field_that_cannot_be_recorded_is_refused_and_named(event: Make, field: str, value: object) -> None:
    with pytest.raises(InvalidEventError, match=f"^{field}: "):
        event(0, **{field: value})


def test_an_event_keeps_its_data_when_the_caller_goes_on_changing_theirs(event: Make) -> None:
    data = {"list": [1]}
    made = event(0, data=data)
    data["list"].append(2)
    assert made.data == {"list": [1]}


def test_a_record_has_the_documented_bytes(event: Make) -> None:
    at = datetime(2025, 3, 1, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    record = Record.of(event(1, occurred_at=at, data={"ε": 1.0}), 4, "2025-03-01T10:00:00.000005Z")
    assert record.body.decode() == (
        '{"actor":"user:alice","data":{"ε":1},"idempotency_key":"key-1","project":"fraud","seq":4,'
        '"subject":"job:job_0001","time":"2025-03-01T10:00:00.000005Z","type":"job.submitted","v":1}'
    )
    assert Record.parse(record.body) == record
    assert record.occurred_at == at


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"seq": -1},
        {"seq": True},
        {"seq": "0"},
        {"time": "2025-03-01"},
        {"actor": 1},
        {"project": 0},
        {"data": []},
        {"extra": 1},
    ],
)
def test_a_body_that_is_no_record_is_refused(event: Make, change: dict[str, object]) -> None:
    value = json.loads(Record.of(event(1), 0, "2025-03-01T10:00:00.000005Z").body)
    with pytest.raises(ValueError, match=r"record|field|time"):
        Record.parse(rfc8785.dumps(value | change))
