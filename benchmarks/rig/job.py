"""The job that is hurt: a linear model on the Adult census."""

from __future__ import annotations

from typing import Any

from rig.stack import DATASET, PURPOSE
from secure_train.cli.demo.cast import PROJECT


def small_job(name: str, steps: int, **sections: dict[str, Any]) -> dict[str, Any]:
    """Return a job.yaml as JSON; ``sections`` are merged into its sections, or stand for absent ones."""
    spec: dict[str, Any] = {
        "apiVersion": "secure-train/v1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "project": PROJECT, "purpose": PURPOSE},
        "data": {"dataset": DATASET},
        "model": {"kind": "linear"},
        "privacy": {"epsilon": 2.0, "delta": 1e-5, "maxGradNorm": 1.0},
        "training": {
            "batchSize": 128,
            # Many small pieces make a step slow enough to be interrupted.
            "physicalBatchSize": 4,
            "steps": steps,
            "optimizer": {"kind": "adam", "learningRate": 0.05},
        },
        "resources": {"workers": 1},
        "recovery": {"maxFailures": 5, "checkpointEvery": 10, "keepCheckpoints": 3},
    }
    for section, values in sections.items():
        spec[section] = {**spec[section], **values}
    return spec
