"""Which keys exist where: finds the place a validator means and the key an author meant."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache

from secure_train.spec.base import SpecModel
from secure_train.spec.describe import Schema, either, resolve, values_of
from secure_train.spec.document import Path, dotted
from secure_train.spec.json_schema import schema_of


@dataclass(frozen=True)
class Place:
    """A key of the format: its path, and which `key: value` selects the variant that has it, if one does."""

    path: tuple[str, ...]
    variant: str | None = None


class Outline:
    """The format of one model."""

    def __init__(self, model: type[SpecModel]) -> None:
        self.root: Schema = schema_of(model)
        self._places = tuple(self._under(self.root, (), None))

    def walk(self, location: Path) -> tuple[Path, Schema]:
        """The path in the document and the schema there, for the location in a pydantic error.

        Pydantic puts the tag of a chosen variant, and the types of free JSON values, between the keys.
        """
        node = resolve(self.root, self.root)[0]
        path: Path = ()
        remaining = list(location)
        while remaining:
            part = remaining.pop(0)
            if part == "[key]":
                break  # pydantic's way to say that the key before it is meant, not its value
            if "oneOf" in node:
                node = resolve({"$ref": node["discriminator"]["mapping"][part]}, self.root)[0]
                continue
            if part in node.get("properties", {}):
                child = node["properties"][part]
            elif "prefixItems" in node and isinstance(part, int) and part < len(node["prefixItems"]):
                child = node["prefixItems"][part]
            elif "items" in node and isinstance(part, int):
                child = node["items"]
            elif values_of(node) is not None:
                child = values_of(node)
            elif node.get("type") == "object":
                child = {"x-unknown": True}
            elif "type" in node or "const" in node or "enum" in node:
                break  # a scalar: what follows is pydantic's own detail
            else:
                # Free JSON: keys alternate with type names, the first of which is `part`.
                return (*path, *remaining[::2]), node
            path = (*path, part)
            node = resolve(child, self.root)[0]
        return path, node

    def suggest(self, path: Path, siblings: list[str]) -> str | None:
        """What the author of the unknown key at `path` probably meant."""
        key = str(path[-1])
        same = [name for name in siblings if _plain(name) == _plain(key)]
        if same:
            return f"did you mean `{same[0]}`?"
        here = [place for place in self._places if place.path == path and place.variant]
        if here:
            return f"`{key}` goes with {' or '.join(sorted({str(place.variant) for place in here}))}"
        close = difflib.get_close_matches(key, siblings, n=1, cutoff=0.7)
        if close:
            return f"did you mean `{close[0]}`?"
        elsewhere = [place.path for place in self._places if _plain(place.path[-1]) == _plain(key)]
        if elsewhere:
            nearest = min(map(len, elsewhere))
            found = sorted({dotted(place) for place in elsewhere if len(place) == nearest})
            return f"did you mean {either(found)}?" if len(found) <= 3 else None
        close = difflib.get_close_matches(key, siblings, n=1, cutoff=0.5)
        return f"did you mean `{close[0]}`?" if close else None

    def _under(self, node: Schema, path: tuple[str, ...], variant: str | None) -> list[Place]:
        node = resolve(node, self.root)[0]
        found: list[Place] = []
        if "oneOf" in node:
            key = node["discriminator"]["propertyName"]
            for tag, reference in node["discriminator"]["mapping"].items():
                found += self._under({"$ref": reference}, path, f"`{key}: {tag}`")
        for name, child in node.get("properties", {}).items():
            found.append(Place((*path, name), variant))
            found += self._under(child, (*path, name), variant)
        return found


@cache
def outline_of(model: type[SpecModel]) -> Outline:
    """The outline of a model, built once."""
    return Outline(model)


def _plain(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()
