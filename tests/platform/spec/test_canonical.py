"""Canonical bytes: one per meaning, readable again, and stable between releases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secure_train.spec import canonical, digest, job_from_json, load_job, load_schema, schema_from_json

Json = dict[str, Any]
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)
SIZES = st.integers(1, 256)


def numbers(lower: float, upper: float, **options: bool) -> st.SearchStrategy[float]:
    return st.floats(lower, upper, **options)  # type: ignore[arg-type]


def mappings(required: Json, optional: Json | None = None) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(required, optional=optional or {})


PARAMETERS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers().filter(lambda n: abs(n) < 2**53)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MODELS = st.one_of(
    mappings({"kind": st.just("linear")}),
    mappings(
        {"kind": st.just("mlp"), "hidden": st.lists(SIZES, min_size=1, max_size=4)},
        {"activation": st.sampled_from(["tanh", "relu", "gelu"])},
    ),
    mappings(
        {
            "kind": st.just("cnn"),
            "inputShape": st.tuples(SIZES, st.integers(8, 64), st.integers(8, 64)).map(list),
            "channels": st.lists(SIZES, min_size=1, max_size=3),
        },
        {"kernelSize": st.sampled_from([1, 3, 5]), "pool": st.integers(1, 2)},
    ),
    mappings(
        {"kind": st.just("entrypoint"), "entrypoint": st.just("a.b:c")},
        {
            "workingDir": st.just("../src"),
            "parameters": st.dictionaries(st.text(max_size=5), PARAMETERS, max_size=3),
        },
    ),
)
OPTIMIZERS = mappings(
    {"kind": st.sampled_from(["sgd", "adam"]), "learningRate": numbers(0, 1000, exclude_min=True)},
    {"weightDecay": numbers(0, 10)},
)
LENGTHS = mappings({"epochs": st.integers(1, 100)}) | mappings({"steps": st.integers(1, 100)})


@st.composite
def jobs(draw: st.DrawFn) -> Json:
    epsilon = draw(numbers(1e-3, 100))
    evaluation = {"epsilon": draw(numbers(0, epsilon, exclude_max=True))}
    privacy = {"epsilon": epsilon, "delta": draw(numbers(0, 1, exclude_min=True, exclude_max=True))}
    return {
        "apiVersion": "secure-train/v1",
        "kind": "TrainingJob",
        "metadata": {"name": draw(NAMES), "project": draw(NAMES), "purpose": draw(NAMES)},
        "data": {"dataset": draw(NAMES) + draw(st.sampled_from(["", "@1", "@20"]))},
        "model": draw(MODELS),
        "privacy": privacy | draw(st.sampled_from([{}, {"evaluation": evaluation}])),
        "training": {"batchSize": draw(SIZES), "optimizer": draw(OPTIMIZERS)} | draw(LENGTHS),
    }


@st.composite
def schemas(draw: st.DrawFn) -> Json:
    names = draw(st.lists(TEXTS, min_size=2, max_size=5, unique=True))
    lower = draw(numbers(-1e9, 1e9))
    bounds = {"lower": lower, "upper": lower + 1}
    values = draw(st.lists(TEXTS, min_size=2, max_size=4, unique=True))
    kinds: list[Json] = [
        {"kind": "numeric", "scale": "unit"} | bounds,
        {"kind": "categorical", "categories": values, "unknown": "other"},
        {"kind": "ignored"},
    ]
    columns = [{"name": name} | draw(st.sampled_from(kinds)) for name in names[1:]]
    tasks: list[Json] = [
        {"task": "binary", "classes": values[:2], "positive": values[1]},
        {"task": "multiclass", "classes": values},
        {"task": "regression"} | bounds,
    ]
    return {
        "columns": [
            *columns,
            {"name": "last " + "".join(names)[:200], "kind": "numeric", "lower": 0, "upper": 1},
        ],
        "target": {"name": names[0]} | draw(st.sampled_from(tasks)),
        "holdout": {"fraction": draw(numbers(0, 0.5)), "release": draw(st.sampled_from(["noised", "exact"]))},
    }


@given(jobs())
def test_a_job_comes_back_from_its_canonical_bytes(data: Json) -> None:
    job = job_from_json(data)
    again = job_from_json(json.loads(canonical(job)))
    assert again == job
    assert canonical(again) == canonical(job)


@given(schemas())
def test_a_schema_comes_back_from_its_canonical_bytes(data: Json) -> None:
    schema = schema_from_json(data)
    again = schema_from_json(json.loads(canonical(schema)))
    assert again == schema
    assert canonical(again) == canonical(schema)


@given(jobs())
def test_json_is_yaml_too(data: Json) -> None:
    # ASCII escapes of characters beyond U+FFFF are surrogate pairs in JSON, and two code points in YAML.
    text = json.dumps(data, ensure_ascii=False)
    if text.isprintable():
        assert load_job(text) == job_from_json(data)


def test_large_whole_floats_in_parameters_come_back(job_text: str) -> None:
    model = "model={kind: entrypoint, entrypoint: 'a:b', parameters: {x: 1e20, y: -1e300, z: 3.0}}"
    job = load_job(job_text, [model])
    assert job_from_json(json.loads(canonical(job))) == job


def test_a_default_written_out_changes_nothing(job_text: str) -> None:
    assert digest(load_job(job_text, ["resources.priority=50"])) == digest(load_job(job_text))


def test_spelling_changes_nothing_and_meaning_does(job_text: str) -> None:
    digests = [
        digest(load_job(job_text, [f"privacy.epsilon={value}"])) for value in ("3", "3.0", "30e-1", "3.1")
    ]
    assert len(set(digests[:3])) == 1
    assert digests[3] != digests[0]


def test_the_examples_have_the_digests_they_always_had(job_file: Path, schema_file: Path) -> None:
    assert (
        digest(load_job(job_file))
        == "sha256:100e23f2b37faea8abcca63b41b0a797a2343907c7d8b5f5b3f8980d5f0b04fc"
    )
    assert (
        digest(load_schema(schema_file))
        == "sha256:8e24783585b320aefed4f604fd9c19041344d7bea1682c80a7d9d1247a2f4486"
    )


def test_canonical_bytes_are_sorted_and_without_spaces(job_file: Path) -> None:
    raw = canonical(load_job(job_file))
    assert raw.startswith(b'{"apiVersion":"secure-train/v1","data":{"dataset":"adult"},"kind":"TrainingJob"')
    assert (
        b'"privacy":{"delta":0.00001,"epsilon":3,"evaluation":{"epsilon":0.4,"every":100},"maxGradNorm":3}'
        in raw
    )
