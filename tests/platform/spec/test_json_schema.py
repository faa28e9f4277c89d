"""The published JSON Schema and the reference generated from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from secure_train.spec import canonical, dataset_json_schema, json_schema, load_job, load_schema
from secure_train.spec.reference import markdown

SCHEMAS = [json_schema, dataset_json_schema]


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for owner, definition in (("top", schema), *schema["$defs"].items()):
        for name, node in definition.get("properties", {}).items():
            yield f"{owner}.{name}", node


@pytest.mark.parametrize("make", SCHEMAS)
def test_every_field_has_a_title_and_a_description(make: Any) -> None:
    schema = make()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    incomplete = [
        path for path, node in fields(schema) if not (node.get("title") and node.get("description"))
    ]
    assert incomplete == []


@pytest.mark.parametrize("make", SCHEMAS)
def test_every_object_is_closed(make: Any) -> None:
    schema = make()
    for name, definition in schema["$defs"].items():
        if definition.get("type") == "object":
            assert definition["additionalProperties"] is False, name
    assert schema["additionalProperties"] is False


def test_the_schema_accepts_the_examples_and_their_canonical_bytes(job_file: Path, schema_file: Path) -> None:
    job, dataset = (
        jsonschema.Draft202012Validator(json_schema()),
        jsonschema.Draft202012Validator(dataset_json_schema()),
    )
    job.validate(yaml.safe_load(job_file.read_bytes()))
    job.validate(json.loads(canonical(load_job(job_file))))
    dataset.validate(yaml.safe_load(schema_file.read_bytes()))
    dataset.validate(json.loads(canonical(load_schema(schema_file))))


@pytest.mark.parametrize(
    "change",
    [
        {"privacy": {"epsilon": 0, "delta": 1e-5}},
        {"model": {"kind": "transformer"}},
        {"model": {"hidden": [3]}},
        {"metadata": {"name": "A", "project": "b", "purpose": "c"}},
        {"metadata": {"name": "a", "project": "b", "purpose": "c", "labels": {"Not Allowed": "x"}}},
        {"extra": 1},
    ],
)
def test_the_schema_refuses_what_the_models_refuse(job_file: Path, change: dict[str, Any]) -> None:
    job = yaml.safe_load(job_file.read_bytes()) | change
    assert list(jsonschema.Draft202012Validator(json_schema()).iter_errors(job))


def test_changing_the_returned_schema_changes_nothing_else() -> None:
    json_schema()["properties"].clear()
    assert json_schema()["properties"]


def test_the_reference_in_docs_is_up_to_date(repository: Path) -> None:
    written = (repository / "docs" / "job-spec.md").read_text("utf-8")
    assert written == markdown(), "run `python -m secure_train.spec.reference > docs/job-spec.md`"


def test_the_reference_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "secure_train.spec.reference"],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert done.stdout == markdown()
    assert done.stderr == ""
