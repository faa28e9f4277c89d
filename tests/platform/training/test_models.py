"""Models: shapes, the public seed, and the author's own code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from secure_train.dp import check_model, removal_test
from secure_train.spec import ModelSpec, load_job, load_schema
from secure_train.training.errors import ModelError
from secure_train.training.models import build_model
from secure_train.training.tasks import Multiclass, task_of

torch.set_num_threads(1)

EXAMPLES = Path(__file__).parents[3] / "examples"
MLP = {"kind": "mlp", "hidden": [8, 4]}
CNN = {"kind": "cnn", "inputShape": [1, 8, 8], "channels": [4, 8], "kernelSize": 3, "pool": 2, "hidden": [16]}
KINDS: list[dict[str, Any]] = [
    {"kind": "linear"},
    MLP,
    *({**MLP, "activation": activation} for activation in ("relu", "gelu", "silu", "sigmoid")),
    CNN,
    {**CNN, "pool": 1, "hidden": [], "kernelSize": 5},
]


def spec(**section: Any) -> ModelSpec:
    parsed: ModelSpec = TypeAdapter(ModelSpec).validate_python(section, by_alias=True)
    return parsed


@pytest.mark.parametrize("section", KINDS)
def test_every_kind_maps_rows_to_outputs_and_admits_private_training(section: dict[str, Any]) -> None:
    model = build_model(spec(**section), 64, 3, seed=1)
    assert model(torch.zeros(5, 64)).shape == (5, 3)
    check_model(model)
    inputs, targets = torch.rand(6, 64), torch.tensor([0, 1, 2, 0, 1, 2])
    removal_test(model, Multiclass(3).batch_losses, (inputs, targets), 1.0)


@pytest.mark.parametrize("section", [MLP, CNN])
def test_the_seed_alone_decides_the_initial_weights(section: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first = build_model(spec(**section), 64, 3, seed=7).state_dict()
    torch.manual_seed(2)
    again = build_model(spec(**section), 64, 3, seed=7).state_dict()
    other = build_model(spec(**section), 64, 3, seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_building_a_model_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_model(spec(**MLP), 64, 3, seed=7)
    assert torch.equal(torch.rand(4), expected)


def test_an_image_shape_that_is_not_the_datasets_is_refused() -> None:
    with pytest.raises(ModelError, match=r"inputShape \[1, 8, 8\] has 64 values.*60"):
        build_model(spec(**CNN), 60, 3, seed=1)


@pytest.mark.parametrize("example", ["adult", "digits"])
def test_the_example_jobs_fit_their_datasets(example: str) -> None:
    job = load_job(EXAMPLES / example / "job.yaml")
    schema = load_schema(EXAMPLES / example / f"{example}.schema.yaml")
    width, outputs = schema.encoded_width(), task_of(schema).outputs
    model = build_model(job.model, width, outputs, job.training.seed)
    assert model(torch.zeros(1, width)).shape == (1, outputs)


@pytest.fixture
def import_state() -> Iterator[None]:
    """Forget what the author's code brought in, so that tests do not see each other's."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def entrypoint(name: str, **parameters: Any) -> ModelSpec:
    return spec(kind="entrypoint", entrypoint=name, parameters=parameters)


@pytest.mark.usefixtures("import_state")
def test_the_custom_model_of_the_examples_builds_and_admits_private_training() -> None:
    job = load_job(EXAMPLES / "custom-model" / "job.yaml")
    model = build_model(job.model, 65, 1, seed=7, code=EXAMPLES / "custom-model")
    check_model(model)
    again = build_model(job.model, 65, 1, seed=7, code=EXAMPLES / "custom-model")
    weights = model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.state_dict().items())


@pytest.mark.usefixtures("import_state")
def test_parameters_of_the_job_reach_the_factory(tmp_path: Path) -> None:
    (tmp_path / "own_a.py").write_text(
        "import torch\n"
        "def make(in_features, out_features, bias):\n"
        "    return torch.nn.Linear(in_features, out_features, bias=bias)\n"
    )
    model = build_model(entrypoint("own_a:make", bias=False), 4, 2, seed=0, code=tmp_path)
    assert set(model.state_dict()) == {"weight"}


@pytest.mark.usefixtures("import_state")
@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("own_missing:make", None, "no module 'own_missing'"),
        ("own_b:absent", "x = 1\n", "no callable 'absent'"),
        ("own_c:make", "make = 3\n", "no callable 'make'"),
        ("own_d:make", "def make(in_features, out_features):\n    return 3\n", "returned int"),
        (
            "own_e:make",
            "from torch import nn\n"
            "def make(in_features, out_features):\n    return nn.Linear(in_features, 9)\n",
            r"needs \(2, 2\)",
        ),
        ("json:loads", None, "installed module"),
    ],
)
def test_an_entrypoint_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, source: str | None, message: str
) -> None:
    if source is not None:
        (tmp_path / f"{name.partition(':')[0]}.py").write_text(source)
    with pytest.raises(ModelError, match=message):
        build_model(entrypoint(name), 4, 2, seed=0, code=tmp_path)


@pytest.mark.usefixtures("import_state")
def test_what_the_authors_code_lacks_itself_is_not_blamed_on_the_entrypoint(tmp_path: Path) -> None:
    (tmp_path / "own_f.py").write_text("import a_module_that_nobody_has\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        build_model(entrypoint("own_f:make"), 4, 2, seed=0, code=tmp_path)


def test_an_entrypoint_without_its_code_is_refused() -> None:
    with pytest.raises(ModelError, match="working directory"):
        build_model(entrypoint("own:make"), 4, 2, seed=0)
