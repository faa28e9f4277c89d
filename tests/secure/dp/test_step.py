"""One private step: what is released, by how many workers, and what a re-run releases."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from secure_train.dp import (
    Clipping,
    GaussianNoise,
    InvalidParameterError,
    NoiseReuseError,
    PerformanceFlags,
    PoissonSampler,
    PrivacySpec,
    PrivateStep,
)

CLIP, SIGMA, EXPECTED = 0.5, 1.5, 6.0


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def private_step(model, tools, *, noise=None, optimizer=None, **changes):
    spec = {"max_grad_norm": CLIP, "noise_multiplier": SIGMA, "expected_batch_size": EXPECTED}
    spec |= {name: changes.pop(name) for name in PrivacySpec.__annotations__ if name in changes}
    return PrivateStep(
        model,
        optimizer or torch.optim.SGD(model.parameters(), lr=1.0),
        tools.losses,
        PrivacySpec(**spec),
        noise or GaussianNoise(tools.KEY, 0, 1),
        PerformanceFlags(physical_batch_size=4),
        **changes,
    )


def noise_of(noise, model, epoch, step):
    """The share that is added at a position."""
    share = torch.zeros(sum(p.numel() for p in model.parameters()))
    noise.add_to(share, SIGMA * CLIP, epoch, step)
    return share


def digest(model):
    """Tells whether two models are bit-identical."""
    return hashlib.sha256(flat(p.detach() for p in model.parameters()).numpy().tobytes()).hexdigest()


def released_by(model, before):
    """What a step of SGD with learning rate 1 subtracted, times the public normaliser."""
    return (before - flat(p.detach() for p in model.parameters())) * EXPECTED


def test_what_is_released_is_the_clipped_sum_plus_the_keyed_noise(tools, flat_data):
    model = tools.mlp()
    before = flat(p.detach().clone() for p in model.parameters())
    clipped = tools.clipped_sum(model, tools.losses, flat_data, CLIP)
    noise = noise_of(GaussianNoise(tools.KEY, 0, 1), model, 2, 3)
    private_step(model, tools).step(flat_data, epoch=2, step=3)
    expected = flat(clipped.values()) + noise
    assert torch.allclose(released_by(model, before), expected, atol=1e-4)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_an_empty_batch_over_all_workers_releases_noise_of_the_accounted_deviation(tools, workers):
    # What catches missing noise, noise scaled by the wrong clipping norm and noise split twice.
    contributions = []
    for rank in range(workers):
        model = nn.Linear(400, 100)
        options = {} if workers == 1 else {"all_reduce": lambda ts: contributions.append(ts[0].clone())}
        before = flat(p.detach().clone() for p in model.parameters())
        private_step(model, tools, noise=GaussianNoise(tools.KEY, rank, workers), **options).step(
            (torch.empty(0, 400), torch.empty(0, dtype=torch.int64)), 0, 0
        )
        if workers == 1:
            contributions.append(released_by(model, before))
    total = sum(contributions)
    assert float(total.std()) == pytest.approx(SIGMA * CLIP, rel=0.02)  # 5.7 standard errors
    assert abs(float(total.mean())) < 5 * SIGMA * CLIP / math.sqrt(total.numel())


def test_every_worker_adds_its_noise_before_anything_leaves_it(tools, flat_data):
    model = tools.mlp()
    clipped = tools.clipped_sum(model, tools.losses, flat_data, CLIP)
    seen = []
    noise = GaussianNoise(tools.KEY, 1, 4)
    private_step(model, tools, noise=noise, all_reduce=lambda ts: seen.append(ts[0].clone())).step(
        flat_data, 0, 0
    )
    share = noise_of(noise, tools.mlp(), 0, 0)
    assert torch.allclose(seen[0], flat(clipped.values()) + share, atol=1e-6)


def test_the_update_is_divided_by_the_expected_batch_size_whatever_came(tools, flat_data):
    inputs, targets = flat_data
    for size in (0, 1, 12):
        model = tools.mlp()
        gradients = []
        batch = inputs[:size], targets[:size]
        clipped = tools.clipped_sum(model, tools.losses, batch, CLIP)
        noise = noise_of(GaussianNoise(tools.KEY, 0, 1), model, 0, 0)
        private_step(model, tools, optimizer=Recorder(model, gradients)).step(batch, 0, 0)
        expected = (flat(clipped.values()) + noise) / EXPECTED
        assert torch.allclose(gradients[0], expected, atol=1e-6)


class Recorder(torch.optim.SGD):
    """Keeps the gradients that it is given."""

    def __init__(self, model, seen):
        super().__init__(model.parameters(), lr=0.1)
        self.seen = seen

    def step(self, closure=None):
        self.seen.append(flat(p.grad.clone() for g in self.param_groups for p in g["params"]))
        return super().step(closure)


def train(model, step, sampler, inputs, targets, positions):
    digests = []
    for position in positions:
        chosen = sampler.sample(0, position)
        step.step((inputs[chosen], targets[chosen]), 0, position)
        digests.append(digest(model))
    return digests


def with_dropout():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def test_a_resumed_job_releases_bit_identical_values(tools, flat_data):
    sampler = PoissonSampler(12, 0.5, tools.KEY, rank=0)
    model = with_dropout()
    optimizer = torch.optim.Adam(model.parameters())
    step = private_step(model, tools, optimizer=optimizer)
    train(model, step, sampler, *flat_data, range(3))
    saved = json.loads(json.dumps(step.state_dict()))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    first = train(model, step, sampler, *flat_data, range(3, 6))

    torch.manual_seed(999)
    resumed = with_dropout()
    resumed.load_state_dict(weights)
    new_optimizer = torch.optim.Adam(resumed.parameters())
    new_optimizer.load_state_dict(state)
    again = private_step(resumed, tools, optimizer=new_optimizer)
    again.load_state_dict(saved)
    torch.manual_seed(1)
    sampler = PoissonSampler(12, 0.5, tools.KEY, rank=0)
    assert train(resumed, again, sampler, *flat_data, range(3, 6)) == first
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_dropout_masks_change_from_step_to_step(tools):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(50, 3))
    masks = []
    model[0].register_forward_hook(lambda m, i, out: masks.append((out != 0).clone()))
    step = private_step(model, tools)
    for position in range(2):
        step.step((torch.ones(4, 50), torch.zeros(4, dtype=torch.int64)), 0, position)
    assert not torch.equal(masks[0], masks[1])


def test_a_step_leaves_the_callers_randomness_alone(tools, flat_data):
    step = private_step(with_dropout(), tools)
    before = torch.random.get_rng_state()
    step.step(flat_data, 0, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("second", [(0, 3), (0, 2)])
def test_a_position_is_never_released_twice_by_one_process(tools, flat_data, second):
    step = private_step(tools.mlp(), tools)
    step.step(flat_data, 0, 3)
    with pytest.raises(NoiseReuseError, match="epoch 0, step 3"):
        step.step(flat_data, *second)
    step.step(flat_data, 1, 0)


def test_a_step_that_failed_half_way_is_not_tried_again_on_the_same_noise(tools, flat_data):
    def fail(tensors):
        raise ConnectionError("planted")

    step = private_step(tools.mlp(), tools, noise=GaussianNoise(tools.KEY, 0, 2), all_reduce=fail)
    with pytest.raises(ConnectionError):
        step.step(flat_data, 0, 0)
    with pytest.raises(NoiseReuseError):
        step.step(flat_data, 0, 0)


def test_the_sum_is_never_seen_in_gradients_before_it_is_noised(tools, flat_data):
    model = tools.mlp()
    seen = []

    class Watching(GaussianNoise):
        def add_to(self, total, *position):
            seen.extend(p.grad for p in model.parameters())
            super().add_to(total, *position)

    step = private_step(model, tools, noise=Watching(tools.KEY, 0, 1))
    for position in range(2):
        step.step(flat_data, 0, position)
    assert seen == [None] * 8
    assert all(p.grad is None for p in model.parameters())


def test_the_state_is_the_last_position(tools, flat_data):
    step = private_step(tools.mlp(), tools)
    assert step.state_dict() == {"last": None}
    step.step(flat_data, 2, 4)
    assert step.state_dict() == {"last": [2, 4]}


@pytest.mark.parametrize("clipping", list(Clipping))
def test_every_rule_of_clipping_gets_the_same_noise(tools, clipping):
    gradients = []
    model = nn.Linear(300, 100)
    step = private_step(model, tools, optimizer=Recorder(model, gradients), clipping=clipping)
    step.step((torch.empty(0, 300), torch.empty(0, dtype=torch.int64)), 0, 0)
    assert torch.equal(gradients[0], noise_of(GaussianNoise(tools.KEY, 0, 1), model, 0, 0) / EXPECTED)


def test_different_steps_never_share_noise(tools):
    model = nn.Linear(300, 100)
    gradients = []
    step = private_step(model, tools, optimizer=Recorder(model, gradients))
    for epoch, position in ((0, 0), (0, 1), (1, 0), (1, 1)):
        step.step((torch.empty(0, 300), torch.empty(0, dtype=torch.int64)), epoch, position)
    correlation = torch.corrcoef(torch.stack(gradients)).fill_diagonal_(0).abs().max()
    assert float(correlation) < 5.5 / math.sqrt(gradients[0].numel())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"noise_multiplier": 0.0}, "noise_multiplier"),
        ({"noise_multiplier": math.nan}, "noise_multiplier"),
        ({"expected_batch_size": 0.0}, "expected_batch_size"),
        ({"max_grad_norm": math.inf}, "max_grad_norm"),
        ({"all_reduce": lambda tensors: None}, "all_reduce"),
        ({"noise": GaussianNoise(bytes(32), 0, 2)}, "all_reduce"),
    ],
)
def test_parameters_that_break_the_guarantee_are_refused_by_name(tools, changes, field):
    with pytest.raises(InvalidParameterError, match=field):
        private_step(tools.mlp(), tools, **changes)


def test_an_optimizer_of_other_parameters_is_refused(tools):
    model, other = tools.mlp(), tools.mlp()
    with pytest.raises(InvalidParameterError, match=r"optimizer.*0\.weight"):
        private_step(model, tools, optimizer=torch.optim.SGD(other.parameters(), lr=1.0))


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"last": [1]},
        {"last": [0, -1]},
        {"last": "04"},
        {"last": 4},
    ],
)
def test_a_malformed_state_is_refused(tools, state):
    with pytest.raises(InvalidParameterError):
        private_step(tools.mlp(), tools).load_state_dict(state)


def test_closing_takes_the_hooks_off(tools, flat_data):
    model = tools.mlp()
    step = private_step(model, tools)
    step.step(flat_data, 0, 0)
    step.close()
    assert all(not m._forward_hooks and not m._backward_hooks for m in model.modules())


WORKER = """
import sys
import torch
from torch import nn
from secure_train.dp import (
    Clipping,
    GaussianNoise, PerformanceFlags, PoissonSampler, PrivacySpec, PrivateStep, sum_over_workers
)

rank, key = int(sys.argv[1]), bytes(range(32))
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
model, inputs = nn.Linear(6, 3), torch.randn(40, 6)
targets = torch.randint(0, 3, (40,))
inputs, targets = inputs[rank::2], targets[rank::2]
sampler = PoissonSampler(20, 0.1, key, rank)
wrapped = nn.parallel.DistributedDataParallel(model) if sys.argv[3] == "ddp" else model
step = PrivateStep(
    wrapped, torch.optim.SGD(model.parameters(), lr=0.1),
    lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none"),
    PrivacySpec(noise_multiplier=1.0, max_grad_norm=0.5, expected_batch_size=4.0),
    GaussianNoise(key, rank, 2), PerformanceFlags(physical_batch_size=8),
    all_reduce=None if sys.argv[3] == "ddp" else sum_over_workers(),
)
sizes = []
for position in range(12):
    chosen = sampler.sample(0, position)
    sizes.append(len(chosen))
    step.step((inputs[chosen], targets[chosen]), 0, position)
sys.stdout.write(f"{model.weight.detach().numpy().tobytes().hex()} {min(sizes)}")
torch.distributed.destroy_process_group()
"""


def run_two_processes(folder: Path, kind: str) -> list[list[str]]:
    script = folder / "worker.py"
    script.write_text(textwrap.dedent(WORKER))
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(folder / kind), kind],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [worker.communicate()[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    return outputs


def test_two_processes_release_the_same_values_even_when_a_batch_is_empty(tmp_path: Path):
    outputs = run_two_processes(tmp_path, "plain")
    assert outputs[0][0] == outputs[1][0]
    assert min(int(smallest) for _, smallest in outputs) == 0
    # A model wrapped for data parallelism is unwrapped, and brings its group.
    assert run_two_processes(tmp_path, "ddp") == outputs


def test_the_noise_is_proportional_to_both_sigma_and_the_clipping_norm(tools, flat_data):
    model = tools.mlp()
    seen = {}
    for sigma, clip in ((SIGMA, CLIP), (2 * SIGMA, CLIP), (SIGMA, 2 * CLIP)):
        gradients = []
        twin = copy.deepcopy(model)
        private_step(
            twin,
            tools,
            optimizer=Recorder(twin, gradients),
            noise_multiplier=sigma,
            max_grad_norm=clip,
            expected_batch_size=1.0,
        ).step((flat_data[0][:0], flat_data[1][:0]), 0, 0)
        seen[sigma, clip] = float(gradients[0].std())
    values = np.array(list(seen.values()))
    assert values[1] == pytest.approx(2 * values[0], rel=0.25)
    assert values[2] == pytest.approx(2 * values[0], rel=0.25)
