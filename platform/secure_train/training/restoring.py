"""Going on from the newest checkpoint that reads well."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from secure_train.blocks import BlockStore, Stored
from secure_train.blocks.errors import BlockError, CorruptManifest, MissingManifest, WrongKey
from secure_train.client.worker_client import WorkerClient
from secure_train.training.collective import Collective
from secure_train.training.failures import WorkerFailure
from secure_train.training.state import KIND, TrainingState
from secure_train.vault import DataKey
from secure_train.wire.worker import CheckpointRefused, Restored, RestoreGrant, StoredCheckpoint

_UNREADABLE = (BlockError, CorruptManifest, MissingManifest, WrongKey)
_REASON_LENGTH = 500


@dataclass(frozen=True)
class Restorer:
    """Restores one worker of a group; all ranks must call it, and end at the same step."""

    store: BlockStore
    key: DataKey
    client: WorkerClient
    collective: Collective
    generation: int

    def restore(self, grant: RestoreGrant, state: TrainingState) -> int:
        """Load the newest good checkpoint into ``state`` and return its step; 0 if there is none.

        Rank 0 chooses, reporting those that it cannot read, and the others follow.

        Raises:
            WorkerFailure: rank 0 read a checkpoint that this rank cannot read.
            ApiError: without a checkpoint that was refused, training has to go on with fresh noise (409).
        """
        if self.collective.leads:
            chosen, stored = self._choose(grant.checkpoints)
            self.collective.share(b"" if chosen is None else chosen.manifest_id.encode())
        else:
            named = self.collective.share(None).decode()
            chosen = next((one for one in grant.checkpoints if one.manifest_id == named), None)
            if named and chosen is None:
                raise WorkerFailure(f"rank {self.collective.rank} was not granted rank 0's checkpoint")
            stored = None if chosen is None else self._follow(chosen)
        if chosen is not None and stored is not None:
            state.load(stored)
        step = 0 if chosen is None else chosen.step
        if self.collective.leads:
            self.client.restored(Restored(generation=self.generation, step=step))
        return step

    def _choose(self, checkpoints: list[StoredCheckpoint]) -> tuple[StoredCheckpoint | None, Stored | None]:
        for checkpoint in checkpoints:
            try:
                return checkpoint, self._read(checkpoint)
            except _UNREADABLE as error:
                self.client.refuse_checkpoint(
                    CheckpointRefused(
                        generation=self.generation,
                        manifest_id=checkpoint.manifest_id,
                        reason=str(error)[:_REASON_LENGTH],
                    )
                )
        return None, None

    def _follow(self, checkpoint: StoredCheckpoint) -> Stored:
        try:
            return self._read(checkpoint)
        except _UNREADABLE as error:
            raise WorkerFailure(
                f"rank {self.collective.rank} cannot read the checkpoint that rank 0 read: "
                f"{type(error).__name__}"
            ) from None

    def _read(self, checkpoint: StoredCheckpoint) -> Stored:
        stored = self.store.read(self.key, checkpoint.manifest_id, expected_digest=checkpoint.digest)
        recorded = {
            "step": checkpoint.step,
            "noise_epoch": checkpoint.noise_epoch,
            "state_digest": checkpoint.state_digest,
        }
        found = {name: stored.meta.get(name) for name in recorded}
        if stored.kind != KIND or found != recorded:
            raise CorruptManifest(
                f"manifest {checkpoint.manifest_id} is not the checkpoint that was recorded under its name"
            )
        return stored


def data_key(text: str) -> DataKey:
    """A data key as it travels: base64."""
    return DataKey(base64.b64decode(text))
