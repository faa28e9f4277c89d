"""Encrypted linear layers, side by side in one run: our kernels, TenSEAL, SEAL's evaluator, and float32.

Each row is a layer d_in × d_out over B records, the forward product of the compute side only, on the same
cores. Rounds take turns, medians are compared. TenSEAL and the SEAL loop compute at most 10 outputs and are
scaled to d_out: their time is proportional to it.

`tenseal_tensor` is `CKKSTensor.mm`, all records at once (N = 8192, 60-40-60 bits, which it needs for one
product); `tenseal_vector` is `CKKSVector.mm`, one record, times B; `seal_loop` is one `multiply_plain` and
one `add_inplace` at a time on ready objects of our parameters. On CUDA only ours and float32 run.

Run ``python benchmarks/ckks.py [--quick] [-o json]``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from secure_train.ckks import EncryptedBy, Kernel, Parameters, kernel
from secure_train.ckks.plan import Limits, plan

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(34, 64, 4096), (784, 10, 1), (784, 10, 256), (784, 10, 4096), (2048, 100, 4096), (768, 768, 256)]
QUICK = [(34, 64, 1024), (784, 10, 4096)]
ON_GPU = [(784, 10, 4096), (2048, 100, 4096), (768, 768, 4096), (2048, 512, 4096)]
COLUMNS = 10
Work = Callable[[], object]


def timed(work: Work) -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ours(
    parameters: Parameters, samples: int, shape: tuple[int, int, int], names: list[str]
) -> dict[str, Work]:
    """Forward and gradient by each kernel, on random residues: they cost the same as real ones."""
    d_in, d_out, batch = shape
    q, degree = parameters.modulus, parameters.ring_degree
    blocks, width = -(-batch // samples), -(-d_in // (degree // samples))
    records = torch.randint(0, q, (blocks, width, 2, degree), device=DEVICE)
    weights = torch.randint(0, q, (width, d_out, 1 if samples == degree else degree), device=DEVICE)
    errors = torch.randint(0, q, (blocks, d_out, 2, degree), device=DEVICE)

    def products(chosen: Kernel) -> dict[str, Work]:
        return {
            f"{chosen.name}_forward": lambda: chosen.forward(records, weights, q),
            f"{chosen.name}_gradient": lambda: chosen.gradient(records, errors, q),
        }

    return {name: work for chosen in names for name, work in products(kernel(chosen)).items()}


def seal_loop(parameters: Parameters, samples: int, shape: tuple[int, int, int]) -> tuple[Work, float]:
    """The forward product by SEAL's evaluator, and what to multiply its time by."""
    import tenseal.sealapi as seal

    from secure_train.ckks.seal_ring import ring

    d_in, d_out, batch = shape
    here, degree = ring(parameters), parameters.ring_degree
    blocks, width, columns = -(-batch // samples), -(-d_in // (degree // samples)), min(d_out, COLUMNS)
    rng = np.random.default_rng(0)

    def words(*shape: int) -> Any:
        return rng.integers(1, parameters.modulus, shape)

    records = [[here.ciphertext(words(2, degree)) for _ in range(width)] for _ in range(blocks)]
    weights = [[here.plaintext(words(degree)) for _ in range(columns)] for _ in range(width)]

    def loop() -> None:
        total, term = seal.Ciphertext(), seal.Ciphertext()
        for row in records:
            for j in range(columns):
                here.evaluator.multiply_plain(row[0], weights[0][j], total)
                for f in range(1, width):
                    here.evaluator.multiply_plain(row[f], weights[f][j], term)
                    here.evaluator.add_inplace(total, term)

    return loop, d_out / columns


def tenseal(shape: tuple[int, int, int]) -> dict[str, tuple[Work, float]]:
    """TenSEAL's two products, and what to multiply their times by."""
    import tenseal as ts

    d_in, d_out, batch = shape
    context = ts.context(
        ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60], n_threads=torch.get_num_threads()
    )
    context.global_scale = 2**40
    context.generate_galois_keys()
    rng = np.random.default_rng(0)
    columns = min(d_out, COLUMNS)
    weights = rng.normal(size=(d_in, columns))
    # A ciphertext holds a feature of up to 4096 records: fewer take as long.
    records = ts.plain_tensor(rng.normal(size=(min(batch, 4096), 1, d_in)))
    tensor = ts.ckks_tensor(context, records, batch=True)
    vector = ts.ckks_vector(context, rng.normal(size=d_in))
    plain = ts.plain_tensor(weights)
    times = -(-batch // 4096)
    return {
        "tenseal_tensor": (lambda: tensor.mm(plain), times * d_out / columns),
        "tenseal_vector": (lambda: vector.mm(weights), batch),
    }


def measure(shape: tuple[int, int, int], quick: bool) -> dict[str, float]:
    d_in, d_out, batch = shape
    made = plan(
        d_in, d_out, batch, 1.0, EncryptedBy.SECRET_KEY, limits=Limits(tolerance=1.0), modulus_bits=51
    )
    samples = made.packing.samples
    on_cpu = DEVICE.type == "cpu"
    # On a CPU the torch kernel takes minutes.
    names = ["torch"] if not on_cpu else ["fused"] if quick else ["fused", "torch"]
    works: dict[str, tuple[Work, float]] = {
        name: (work, 1.0) for name, work in ours(made.parameters, samples, shape, names).items()
    }
    left, right = torch.randn(batch, d_in, device=DEVICE), torch.randn(d_in, d_out, device=DEVICE)
    works["float32_forward"] = (lambda: left @ right, 1.0)
    if on_cpu:
        works["seal_loop"] = seal_loop(made.parameters, samples, shape)
        works |= tenseal(shape)
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(2 if quick else 6):
        for name, (work, factor) in works.items():
            elapsed = timed(work) * factor
            if turn:
                times[name].append(elapsed)
    median = {name: statistics.median(values) for name, values in times.items()}
    best = "fused_forward" if on_cpu else "torch_forward"
    figures = {f"{name}_ms": 1e3 * value for name, value in median.items()}
    figures["samples_per_block"] = samples
    figures["giga_multiply_adds_per_second"] = d_in * d_out * batch / median[best] / 1e9
    figures["ours_over_float32"] = median[best] / median["float32_forward"]
    for peer in ("tenseal_tensor", "tenseal_vector", "seal_loop", "torch_forward"):
        if peer in median and peer != best:
            figures[f"{peer}_over_ours"] = median[peer] / median[best]
    return {f"{d_in}x{d_out}.B{batch}.{key}": round(value, 4) for key, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two shapes, one round")
    parser.add_argument("-o", choices=["text", "json"], default="text", help="json: only the last line")
    arguments = parser.parse_args()
    shapes = ON_GPU if DEVICE.type == "cuda" else QUICK if arguments.quick else SHAPES
    figures: dict[str, float] = {}
    for shape in shapes:
        found = measure(shape, arguments.quick)
        figures |= found
        # The largest B of a layer stands for it.
        prefix = f"{shape[0]}x{shape[1]}."
        figures |= {prefix + key.split(".", 2)[2]: value for key, value in found.items()}
        if arguments.o == "text":
            for key, value in found.items():
                print(f"{key:52} {value:14.4f}", flush=True)
    result = {
        "benchmark": "ckks",
        "quick": arguments.quick,
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "figures": figures,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
