"""One worker without Ray, against a control plane that faults can be injected into."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from secure_train.client.errors import ApiError
from secure_train.dp import GaussianNoise
from secure_train.training.failures import Diverged, PermanentFailure, refused
from secure_train.vault import DataKey


class Crash(Exception):
    """The worker dies here."""


def crash_on(plane: Any, path: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die instead of sending the ``count``-th request to ``path``."""
    from secure_train.client import worker_client

    original, seen = worker_client.Transport.call, itertools.count(1)

    def call(self: Any, method: str, target: str, *args: Any, **kwargs: Any) -> Any:
        if target == f"/worker/{path}" and next(seen) == count:
            raise Crash
        return original(self, method, target, *args, **kwargs)

    monkeypatch.setattr(worker_client.Transport, "call", call)


def wait_for_checkpoint(plane: Any, step: int) -> None:
    """The writer of a worker that died in this process goes on."""
    while (0, step) not in plane.checkpoints:
        time.sleep(0.01)


def weights(plane: Any) -> dict[str, torch.Tensor]:
    (published,) = plane.published
    return plane.store.read(plane.job_key, published.manifest_id, expected_digest=published.digest).tensors


def test_a_job_is_trained_checkpointed_evaluated_and_published(control, run) -> None:
    plane = control()
    run(plane)
    assert sorted(plane.checkpoints) == [(0, 4), (0, 6), (0, 8), (0, 12)]
    assert sorted(plane.releases) == [(0, 6), (0, 12)]
    assert plane.state == "succeeded"
    assert plane.steps_charged == 12
    assert plane.restored == [0]
    assert set(weights(plane)) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_steps_are_charged_before_they_run_and_released_after_they_are_recorded(
    control, run, job_spec
) -> None:
    plane = control(job_spec(privacy={"epsilon": 5.0, "evaluation": {"epsilon": 1.0, "every": 4}}))
    run(plane)
    order = [path for path in plane.paths if path in ("charges", "checkpoints", "releases", "models")]
    # Writing goes on beside training: the next charge may come before a checkpoint is recorded or after.
    assert [path for path in order if path != "charges"] == ["checkpoints", "releases"] * 3 + ["models"]
    assert [(c.first_step, c.last_step) for c in plane.charges] == [(0, 4), (4, 8), (8, 12)]
    assert order[0] == "charges"


def test_the_model_learns(control, run, job_spec) -> None:
    plane = control(
        job_spec(
            training={"batchSize": 160, "steps": 60},
            privacy={"epsilon": 90.0, "evaluation": {"epsilon": 50.0}},
        ),
        steps=60,
        rows=2000,
        noise_multiplier=0.5,
    )
    run(plane)
    final = plane.releases[0, 60].metrics
    assert final["accuracy"] > 0.85
    assert final["rows"] == 400
    assert final["exact"] is False


@pytest.mark.parametrize(
    ("path", "count"), [("charges", 3), ("checkpoints", 3), ("releases", 2), ("models", 1)]
)
def test_a_resumed_job_repeats_its_noise_exactly_and_ends_with_the_same_model(
    control, run, tmp_path: Path, path: str, count: int
) -> None:
    plane = control()
    with pytest.MonkeyPatch.context() as patch:
        crash_on(plane, path, count, patch)
        with pytest.raises(Crash):
            run(plane)
    before = dict(plane.checkpoints)
    run(plane)
    assert plane.state == "succeeded"
    assert plane.noise_epoch == 0
    assert plane.steps_charged == 12
    assert plane.restored[-1] > 0
    for position, checkpoint in before.items():
        assert plane.checkpoints[position].state_digest == checkpoint.state_digest
    untouched = control(plane.spec, folder=tmp_path / "other", job_key=plane.job_key, data_key=plane.data_key)
    run(untouched)
    for name, tensor in weights(plane).items():
        assert torch.equal(tensor, weights(untouched)[name])


def test_metrics_that_a_crash_kept_back_are_released_for_the_restored_state(
    control, run, monkeypatch
) -> None:
    plane = control()
    with pytest.MonkeyPatch.context() as patch:
        crash_on(plane, "releases", 1, patch)
        with pytest.raises(Crash):
            run(plane)
    assert not plane.releases
    run(plane)
    assert sorted(plane.releases) == [(0, 6), (0, 12)]
    assert plane.releases[0, 6].state_digest == plane.checkpoints[0, 6].state_digest


def test_evaluations_never_cost_more_than_their_share(control, run) -> None:
    plane = control()
    with pytest.MonkeyPatch.context() as patch:
        crash_on(plane, "charges", 4, patch)
        with pytest.raises(Crash):
            run(plane)
    run(plane)
    assert sum(release.epsilon for release in plane.releases.values()) <= 1.0
    assert plane.releases[0, 12].epsilon == 0.5


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(control, run, tmp_path: Path) -> None:
    plane = control()
    with pytest.MonkeyPatch.context() as patch:
        crash_on(plane, "charges", 4, patch)
        with pytest.raises(Crash):
            run(plane)
    wait_for_checkpoint(plane, 8)
    newest, previous = plane.good()[:2]
    manifest = tmp_path / "blocks" / "manifests" / newest.manifest_id
    content = bytearray(manifest.read_bytes())
    content[-1] ^= 1
    manifest.chmod(0o600)
    manifest.write_bytes(content)
    run(plane)
    assert [refusal.manifest_id for refusal in plane.refused] == [newest.manifest_id]
    assert newest.manifest_id in plane.refused[0].reason
    assert plane.restored[-1] == previous.step
    assert plane.state == "succeeded"
    assert plane.noise_epoch == 0


def test_a_step_that_is_not_reproduced_gets_fresh_noise_and_no_more_steps_than_planned(control, run) -> None:
    plane = control()
    with pytest.MonkeyPatch.context() as patch:
        crash_on(plane, "charges", 3, patch)
        with pytest.raises(Crash):
            run(plane)
    wait_for_checkpoint(plane, 6)
    # The recorded digest of step 6 is of another value than the re-run will give.
    forged = plane.checkpoints[0, 6].model_copy(update={"state_digest": "ab" * 32})
    plane.checkpoints[0, 6] = forged
    plane.refused.append(_refusal(plane, forged.manifest_id))
    with pytest.raises(ApiError) as refusal:
        run(plane)
    assert isinstance(refused(refusal.value), Diverged)
    assert (plane.noise_epoch, plane.noise_epoch_step) == (1, 4)
    run(plane)
    assert plane.state == "succeeded"
    # Charged twice: what ran under epoch 0 counts in full, and training ends earlier for it.
    assert plane.steps_charged == 12
    assert max(step for _, step in plane.checkpoints) == plane.final_step()
    assert {epoch for epoch, _ in plane.releases} <= {0, 1}
    assert sum(release.epsilon for release in plane.releases.values()) <= 1.0


def test_a_short_outage_of_the_control_plane_is_waited_out(control, run, fault) -> None:
    plane = control()
    plane.faults = {"charges": fault(503, "unavailable", 2), "checkpoints": fault(502, "unavailable", 2)}
    run(plane)
    assert plane.state == "succeeded"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        *((path, 401, "not_authenticated") for path in ("groups", "dataset", "restore", "charges")),
        *((path, 409, "stale") for path in ("restored", "checkpoints", "releases", "models")),
        ("charges", 403, "denied_by_policy"),
    ],
)
def test_a_refusal_ends_the_worker_at_once(control, run, fault, path: str, status: int, code: str) -> None:
    plane = control()
    plane.faults = {path: fault(status, code, 1000)}
    with pytest.raises(ApiError) as refusal:
        run(plane)
    assert refusal.value.status == status
    assert plane.requests[path] == 1
    assert not plane.published


def test_an_evaluation_beyond_its_budget_is_left_out_and_training_goes_on(control, run, fault) -> None:
    plane = control()
    plane.faults = {"releases": fault(403, "denied_by_budget", 1)}
    run(plane)
    assert plane.state == "succeeded"
    assert [line.message for line in plane.logs] == [
        "evaluation at step 6 left out: its share of the budget is spent"
    ]


def test_a_model_that_mixes_records_fails_for_good_before_a_record_is_read(
    control, run, job_spec, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "mixing_model.py").write_text(
        "import torch\n"
        "class Mixing(torch.nn.Module):\n"
        "    def __init__(self, i, o):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(i, o)\n"
        "    def forward(self, x):\n"
        "        return self.layer(x - x.mean(dim=0))\n"
        "def make(in_features, out_features):\n"
        "    return Mixing(in_features, out_features)\n"
    )
    plane = control(job_spec(model={"kind": "entrypoint", "entrypoint": "mixing_model:make"}))
    with pytest.raises(PermanentFailure, match="removing one record"):
        run(plane, code)
    assert not plane.charges
    assert "removing one record" in plane.logs[0].message


def test_what_an_authors_exception_says_is_not_passed_on(control, run, job_spec, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "raising_model.py").write_text(
        "def make(in_features, out_features):\n    raise ValueError('patient 4711')\n"
    )
    plane = control(job_spec(model={"kind": "entrypoint", "entrypoint": "raising_model:make"}))
    with pytest.raises(PermanentFailure) as failure:
        run(plane, code)
    assert failure.value.cause == "the model could not be built: ValueError at raising_model.py:2"
    assert "4711" not in str(plane.logs)


def test_heartbeats_carry_public_figures_and_begin_with_the_first_step(control, run) -> None:
    plane = control()
    run(plane)
    first = plane.heartbeats[0][1]
    assert first.step >= 1
    assert first.rank == 0
    assert plane.paths.index("heartbeat") > plane.paths.index("charges")


def test_exact_metrics_need_the_owners_release(control, run, job_spec) -> None:
    plane = control(job_spec(privacy={"evaluation": {"epsilon": 0.0}}))
    with pytest.raises(PermanentFailure, match="not released"):
        run(plane)


def _refusal(plane: Any, manifest_id: str) -> Any:
    from secure_train.wire.worker import CheckpointRefused

    return CheckpointRefused(generation=plane.generation, manifest_id=manifest_id, reason="forged")


def author_code(folder: Path, name: str, forward: str) -> Path:
    """A working directory with a model of one layer and one buffer, and this forward pass."""
    code = folder / "code"
    code.mkdir()
    (code / f"{name}.py").write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self, i, o):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(i, o)\n"
        "        self.register_buffer('seen', torch.zeros(i))\n"
        f"    def forward(self, x):\n        {forward}\n        return self.layer(x)\n"
        "def make(in_features, out_features):\n"
        "    return Model(in_features, out_features)\n"
    )
    return code


@pytest.mark.parametrize(
    "forward",
    [
        # Neither is a change that torch's version counter of the buffer tells.
        "self.seen.data.add_(x.sum(0).detach())",
        "if not self.training: self.seen.data.add_(x.sum(0))",
    ],
)
def test_a_buffer_that_absorbs_records_leaves_in_no_checkpoint(
    control, run, job_spec, tmp_path: Path, forward: str
) -> None:
    name = "absorbing_in_training" if forward.startswith("self") else "absorbing_in_evaluation"
    plane = control(job_spec(model={"kind": "entrypoint", "entrypoint": f"{name}:make"}))
    with pytest.raises(PermanentFailure, match="not protected by noise"):
        run(plane, author_code(tmp_path, name, forward))
    held_out_first = 6
    assert all(step <= held_out_first for _, step in plane.checkpoints)
    assert not plane.published


def test_a_model_that_mixes_records_in_evaluation_only_is_refused(
    control, run, job_spec, tmp_path: Path
) -> None:
    code = author_code(tmp_path, "mixing_evaluation", "x = x if self.training else x - x.mean(dim=0)")
    plane = control(job_spec(model={"kind": "entrypoint", "entrypoint": "mixing_evaluation:make"}))
    with pytest.raises(PermanentFailure, match="in evaluation mode"):
        run(plane, code)
    assert not plane.charges


def test_noise_does_not_repeat_where_rows_or_specification_were_exchanged(
    control, run, job_spec, tmp_path: Path
) -> None:
    """As whoever edits the database could do between two runs of a job."""
    noises = []
    original = GaussianNoise.add_to

    def add_to(self: GaussianNoise, total: torch.Tensor, *position: Any) -> None:
        noises.append(torch.zeros_like(total))
        original(self, noises[-1], *position)
        total += noises[-1]

    def first_noise(folder: str, **changes: Any) -> torch.Tensor:
        noises.clear()
        spec = changes.pop("spec", job_spec())
        run(control(spec, folder=tmp_path / folder, job_key=key, data_key=data, **changes))
        return noises[0]

    key, data = DataKey.generate(), DataKey.generate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GaussianNoise, "add_to", add_to)
        reference = first_noise("reference")
        assert torch.equal(first_noise("again"), reference)
        assert not torch.equal(first_noise("rows", rows=399), reference)
        seed = job_spec(training={"batchSize": 64, "seed": 1})
        assert not torch.equal(first_noise("specification", spec=seed), reference)
