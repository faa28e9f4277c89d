"""Damage to what is stored, such as a failing disk does."""

from __future__ import annotations

from dataclasses import dataclass

from rig.stack import Stack
from secure_train.api.control_plane import open_vault
from secure_train.api.settings import Settings
from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.db import Database
from secure_train.db.tables import Job
from secure_train.jobs.keys import job_key
from secure_train.jobs.lineage import good_checkpoints


@dataclass(frozen=True)
class Damage:
    """What was damaged.

    Attributes:
        step: of the checkpoint.
        tensor: whose first block has a flipped bit.
    """

    step: int
    tensor: str


def flip_bit_of_newest_checkpoint(stack: Stack, job: str) -> Damage:
    """Flip one bit in a block that only the newest good checkpoint uses."""
    settings = Settings.load(stack.home.path)
    database = Database(settings.database_url)
    try:
        with database.read() as session:
            row = session.get_one(Job, job)
            key = job_key(open_vault(settings.home), row)
            newest, previous = good_checkpoints(session, row)[:2]
            store = BlockStore(DirectoryBackend(settings.block_store))
            shared = {
                block
                for record in store.open(key, previous.manifest_id).tensors.values()
                for block in record.blocks
            }
            found = store.open(key, newest.manifest_id).tensors
            name, block = next(
                (name, record.blocks[0]) for name, record in found.items() if record.blocks[0] not in shared
            )
            step = newest.step
    finally:
        database.close()
    (file,) = settings.block_store.rglob(block)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return Damage(step, name)
