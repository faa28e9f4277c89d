"""JSON Schema (draft 2020-12) of the file formats, for editors, the API and our own error messages."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from secure_train.spec.base import SpecModel
from secure_train.spec.job import TrainingJob
from secure_train.spec.schema import DatasetSchema
from secure_train.spec.search import SearchJob

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema of a job file, `apiVersion: secure-train/v1`, `kind: TrainingJob`."""
    return deepcopy(schema_of(TrainingJob))


def search_json_schema() -> Schema:
    """The schema of a search file, `kind: SearchJob`."""
    return deepcopy(schema_of(SearchJob))


def dataset_json_schema() -> Schema:
    """The schema of a dataset schema file, `kind: DatasetSchema`."""
    return deepcopy(schema_of(DatasetSchema))


@cache
def schema_of(model: type[SpecModel]) -> Schema:
    """The schema of a model; shared, so not to be changed by the caller."""
    schema = model.model_json_schema(by_alias=True)
    for definition in (schema, *schema["$defs"].values()):
        _require_discriminator(definition, schema)
        for node in definition.get("properties", {}).values():
            _complete(node, schema)
    return {"$schema": DIALECT, **schema}


def _require_discriminator(definition: Schema, root: Schema) -> None:
    """Say what validation does: in a file, the key that selects a variant cannot be left to its default."""
    for node in definition.get("properties", {}).values():
        for union in (node, node.get("items", {})):
            key = union.get("discriminator", {}).get("propertyName")
            for variant in union.get("oneOf", ()) if key else ():
                target = root["$defs"][variant["$ref"].rpartition("/")[2]]
                target["properties"][key].pop("default", None)
                if key not in target.setdefault("required", []):
                    target["required"].insert(0, key)


def _complete(node: Schema, root: Schema) -> None:
    """Write out what pydantic leaves to references and to patterns, for readers that resolve neither."""
    if "$ref" in node:
        target = root["$defs"][node["$ref"].rpartition("/")[2]]
        node.setdefault("title", target["title"])
        node.setdefault("description", target["description"])
    if "patternProperties" in node:
        node["additionalProperties"] = False
