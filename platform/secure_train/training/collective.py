"""What the workers of a group tell each other. Bytes and tensors only: nothing is pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from secure_train.dp import AllReduce, sum_over_workers
from secure_train.training.failures import PeerLost, WorkerFailure

P = ParamSpec("P")
R = TypeVar("R")


def _or_peer_lost(operation: Callable[P, R]) -> Callable[P, R]:
    """Torch reports a dead peer as a bare RuntimeError, whose text names hosts and ports."""

    @wraps(operation)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return operation(*args, **kwargs)
        except RuntimeError:
            raise PeerLost("lost another worker during a collective operation") from None

    return guarded


class Collective:
    """The group that this process belongs to. A group of one needs no process group.

    Args:
        rank: this worker's number.
        world_size: how many there are.
        device: where exchanged tensors must live: CPU for gloo, the worker's GPU for NCCL.
    """

    def __init__(self, rank: int, world_size: int, device: torch.device) -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = device

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which speaks for the group."""
        return self.rank == 0

    @property
    def all_reduce(self) -> AllReduce | None:
        """Sums over workers; None in a group of one."""
        return None if self.world_size == 1 else _or_peer_lost(sum_over_workers())

    def share(self, message: bytes | None) -> bytes:
        """Return rank 0's message on every rank; the others pass None."""
        if self.world_size == 1:
            return message or b""
        return self._broadcast(message or b"")

    def wait_for_leader(self) -> None:
        """Return once rank 0 has come here too."""
        self.share(b"")

    def require_same(self, tensors: Mapping[str, Tensor], what: str) -> None:
        """Compare tensors with rank 0's, by digest; raises WorkerFailure where they differ."""
        digest = fingerprint(tensors)
        if self.share(digest if self.leads else None) != digest:
            raise WorkerFailure(f"rank {self.rank} has other {what} than rank 0")

    @_or_peer_lost
    def _broadcast(self, message: bytes) -> bytes:
        length = torch.tensor([len(message)], dtype=torch.int64, device=self.device)
        dist.broadcast(length, src=0)
        # Never empty: a broadcast of no elements need not wait for anybody.
        content = torch.zeros(int(length.item()) + 1, dtype=torch.uint8, device=self.device)
        if self.leads and message:
            content[:-1] = torch.frombuffer(bytearray(message), dtype=torch.uint8)
        dist.broadcast(content, src=0)
        return content[:-1].cpu().numpy().tobytes()


def fingerprint(tensors: Mapping[str, Tensor]) -> bytes:
    """SHA-256 over names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()
