"""How much of the claimed ε audits of the real engine can show, and what they cost.

    python benchmarks/privacy_audit.py [--quick] [--seed N] [-o json]

Each row is one audit: `shown` is the lower bound at 95 % confidence and δ = 1e-5, `claimed` the accountant's
ε, `share` their ratio. The last line of stdout is JSON; status 1 if any audit refutes its claim.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time

from secure_train.dp import Mechanism, epsilon
from secure_train.dp.audit import Subject, Trial, gradient_canary_audit, neighbour_audit

DELTA = 1e-5
# name: mechanism, workers, experiments. More steps cost in proportion; neighbours twice per 250 experiments.
NEIGHBOURS = {
    "neighbour.gaussian": (Mechanism(1.5, 1.0, 1), 1, 40_000),
    "neighbour.four_workers": (Mechanism(1.5, 1.0, 1), 4, 40_000),
    "neighbour.ten_steps": (Mechanism(5.0, 1.0, 10), 1, 20_000),
    "neighbour.sampled": (Mechanism(1.0, 0.2, 10), 1, 40_000),
}
CANARIES = {
    "canary.gaussian": (Mechanism(0.7, 1.0, 1), 2, 3000),
    "canary.adult_job": (Mechanism(1.36, 0.0393, 306), 2, 2000),
    "canary.little_noise": (Mechanism(0.6, 0.1, 100), 1, 2000),
}
_PARALLEL = 250


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the experiments")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    key = hashlib.sha256(f"privacy_audit {arguments.seed}".encode()).digest()
    part = 4 if arguments.quick else 1
    results: dict[str, float] = {}
    refuted = False
    for name, (mechanism, workers, experiments) in (NEIGHBOURS | CANARIES).items():
        subject, claimed = Subject(mechanism, workers=workers), epsilon(mechanism, DELTA)
        start = time.perf_counter()
        if name in NEIGHBOURS:
            runs = experiments // part // _PARALLEL
            found = neighbour_audit(subject, DELTA, runs, key, parallel=_PARALLEL)
            shown, wrong = found.epsilon, found.refuted
        else:
            shown = gradient_canary_audit(subject, experiments // part, Trial(DELTA, key)).epsilon
            wrong = shown > claimed
        seconds = time.perf_counter() - start
        refuted = refuted or wrong
        results |= {
            f"{name}.claimed": round(claimed, 4),
            f"{name}.shown": round(shown, 4),
            f"{name}.share": round(shown / claimed, 3),
            f"{name}.seconds": round(seconds, 1),
        }
        if arguments.output == "table":
            print(f"{name:26} ε claimed {claimed:6.3f}  shown {shown:6.3f}  {seconds:6.1f} s")
    print(json.dumps(results))
    return 1 if refuted else 0


if __name__ == "__main__":
    sys.exit(main())
