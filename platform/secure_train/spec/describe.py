"""What a part of a JSON Schema allows, and what a value is, in words."""

from __future__ import annotations

import json
from typing import Any

Schema = dict[str, Any]
MAX_SHOWN = 80


def allowed(node: Schema, root: Schema) -> str:
    """E.g. "a number above 0, at most 100"; for the reference and for error messages alike."""
    node, nullable = resolve(node, root)
    text = _allowed(node, root)
    return f"{text}, or nothing" if nullable else text


def resolve(node: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema behind `$ref` and `anyOf [X, null]`, and whether null is allowed.

    What stands beside a reference (description, x-allowed, …) takes precedence over what it refers to.
    """
    nullable = False
    while "$ref" in node or "anyOf" in node:
        here = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        if "$ref" in node:
            inner = root["$defs"][node["$ref"].rpartition("/")[2]]
        else:
            inner = next(choice for choice in node["anyOf"] if choice.get("type") != "null")
            nullable = True
        node = {**inner, **here}
    return node, nullable


def _allowed(node: Schema, root: Schema) -> str:
    if "x-allowed" in node:
        return str(node["x-allowed"])
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return either(node["enum"])
    if "oneOf" in node:
        key = node["discriminator"]["propertyName"]
        return f"a mapping with `{key}`: {either(node['discriminator']['mapping'])}"
    match node.get("type"):
        case "integer":
            return "an integer" + _range(node)
        case "number":
            return "a number" + _range(node)
        case "array":
            return _list(node, root)
        case "object" if (values := values_of(node)) is not None:
            most = f"at most {node['maxProperties']} " if "maxProperties" in node else ""
            return f"a mapping of {most}keys to {allowed(values, root)}"
        case "object":
            return f"a mapping with the keys {', '.join(f'`{key}`' for key in node['properties'])}"
        case "string":
            return "text"
        case "boolean":
            return "`true` or `false`"
    return "any JSON value"


def values_of(node: Schema) -> Schema | None:
    """The schema of every value of a mapping whose keys are the author's, None for any other schema."""
    if "patternProperties" in node:
        values = next(iter(node["patternProperties"].values()))  # pydantic gives one pattern, of all keys
    else:
        values = node.get("additionalProperties")
    return values if isinstance(values, dict) else None


def _range(node: Schema) -> str:
    bounds = [
        f"{word} {number(node[key])}"
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in node
    ]
    return f" {', '.join(bounds)}" if bounds else ""


def _list(node: Schema, root: Schema) -> str:
    if "prefixItems" in node:
        items = "; ".join(allowed(item, root) for item in node["prefixItems"])
        return f"a list of {len(node['prefixItems'])}: {items}"
    least, most = node.get("minItems", 0), node.get("maxItems")
    size = f"{least} to {most:,}" if most is not None else f"at least {least}"
    return f"a list of {size}, each {allowed(node['items'], root)}"


def either(choices: Any) -> str:
    """`a`, `b` or `c`."""
    shown = [f"`{choice}`" for choice in choices]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def number(value: float) -> str:
    """The number as a person writes it: 16777216 as 16,777,216, and 1e15 as 1e15."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e9):
        return f"{int(value):,}"
    return f"{value:g}".replace("e+", "e")


def shown(value: object) -> str:
    """The value that was given, on one line and of bounded length."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a mapping of {len(value)} key{'' if len(value) == 1 else 's'}"
    if isinstance(value, list) and len(value) > 100:
        return f"a list of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**MAX_SHOWN:
        return f"an integer of {value.bit_length()} bits"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else _compact(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _compact(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(shown(item) for item in value)}]"
    return json.dumps(value)
