"""RFC 8785 canonical JSON: one byte string per value, so that a hash of the bytes is a hash of the value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import rfc8785

from secure_train.audit.errors import InvalidEventError

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 32


def canonical_json(value: JsonValue, name: str = "value") -> bytes:
    """Encode `value` as RFC 8785 canonical JSON.

    Args:
        value: JSON value: finite floats, integers of at most 53 bits, string keys, at most 32 levels deep.
        name: what to call the value in errors, e.g. "data".

    Raises:
        InvalidEventError: the value has no canonical form; names the path of the offending part.
    """
    return encode_plain(plain(value, name), name)


def encode_plain(value: Any, name: str) -> bytes:
    """Encode a value that `plain` or `parse_canonical` returned."""
    try:
        return rfc8785.dumps(value)
    except ValueError as error:  # rfc8785's own errors, and UnicodeEncodeError for a lone surrogate in a key
        raise InvalidEventError(f"{name}: no canonical JSON form: {error}") from error


def plain(value: JsonValue, path: str, depth: int = 0) -> Any:
    """Copy `value` into plain dicts, lists and scalars, refusing what JSON cannot carry exactly.

    Raises:
        InvalidEventError: NaN or infinity, an integer beyond 53 bits, a non-string key, an unsupported type,
            or more than 32 levels.
    """
    if depth > MAX_DEPTH:
        raise InvalidEventError(f"{path}: nested more than {MAX_DEPTH} levels deep; flatten it")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidEventError(
                f"{path}: the integer {value} is beyond 2^53 - 1 and would lose digits; pass it as a string"
            )
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidEventError(f"{path}: {value} is not a finite number; JSON has no such value")
        return value
    if isinstance(value, Mapping):
        return {_key(key, path): plain(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    raise InvalidEventError(f"{path}: {type(value).__name__} is not a JSON type; convert it first")


def parse_canonical(raw: bytes) -> Any:
    """Decode canonical JSON, refusing every other spelling of the same value.

    The standard library's encoder is several times faster than that of RFC 8785, and writes the same bytes
    but for the order of non-ASCII keys and the spelling of some numbers. Numbers are checked one by one; if
    all is ASCII and it gives back `raw`, then `raw` is canonical. Otherwise the RFC 8785 encoder decides.

    Raises:
        ValueError: not JSON, or JSON that RFC 8785 writes differently (spaces, key order, duplicate keys).
    """
    try:
        value = _DECODER.decode(raw.decode())
        if not (raw.isascii() and _ENCODER.encode(value).encode() == raw) and rfc8785.dumps(value) != raw:
            raise ValueError("valid JSON, but not in RFC 8785 canonical form")
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def _number(digits: str) -> int | float:
    """Read digits as ECMAScript does: a float such as 1e20 is canonically written without an exponent."""
    value = int(digits) if len(digits) < 32 else float(digits)
    return value if isinstance(value, float) or abs(value) <= MAX_SAFE_INTEGER else float(value)


def _fraction(token: str) -> float:
    value = float(token)
    if rfc8785.dumps(value) != token.encode():
        raise ValueError(f"the number {token} is not in RFC 8785 canonical form")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise InvalidEventError(f"{path}: the key {key!r} is not a string")
    return _text(key, f"{path}: a key")


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidEventError(
            f"{path}: a lone surrogate is not Unicode text; decode the bytes first"
        ) from error
    return value


_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_fraction, parse_constant=_refuse_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
