"""Ray Train's trainer, without what only Ray Data needs."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback


class SealedRowsTrainer(TorchTrainer):
    """A TorchTrainer whose workers read their own rows from sealed blocks.

    Ray Train (2.60) starts an actor that hands out Ray Data shards before each worker group, and imports Ray
    Data in every worker, though there is no dataset. Measured on two cores, that is 3 of the 13 seconds from
    the death of a worker to the next step. There is no public way to leave it out.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # typed as of Ray Train V1
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]
