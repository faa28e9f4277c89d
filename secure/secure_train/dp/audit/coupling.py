"""The coupling test: with the noise held fixed, one record moves what is released by at most C.

The engine's noise is a function of key and position alone, not of the batch. Two runs under one key at one
position, with and without a record, therefore differ by that record's clipped gradient and nothing else, in
floating point as in theory: no statistics, and no false alarm but by rounding. It tells a clipping bound that
is off, norms that leave parameters out, records that influence each other, a normaliser that depends on the
batch, and records that are not finite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from secure_train.dp.audit.subject import Subject, Trained
from secure_train.dp.errors import InvalidParameterError

TOLERATED = 1 + 1e-3
"""Largest right answer in units of C: float32 sums of many records, noise included."""


def largest_move(subject: Subject, trained: Trained, records: tuple[Tensor, ...], key: bytes) -> float:
    """The most, in L2 norm and units of C, by which leaving one record out moves a released sum.

    Takes one step for each record and one for all of them, with every record sampled.

    Args:
        subject: the claim and the engine; q must be 1 and T 1.
        trained: the model and its per-record losses.
        records: tensors with one record per row, at least two; synthetic or public.
        key: 32 bytes.

    Returns:
        At most 1 if the guarantee holds, up to rounding; infinity if something released is not finite.
    """
    if subject.mechanism.sampling_rate != 1 or subject.mechanism.steps != 1:
        raise InvalidParameterError("subject: the coupling test needs q = 1 and one step")

    def released(chosen: Tensor) -> Tensor:
        seen: list[Tensor] = []
        shards = subject.shards([tensor[chosen] for tensor in records])
        subject.run(trained, shards, key, lambda epoch, step, value: seen.append(value))
        return seen[0]

    everyone = torch.arange(len(records[0]))
    full = released(everyone)
    moves = [float((full - released(everyone[everyone != left_out])).norm()) for left_out in everyone]
    return max((move if move == move else float("inf") for move in moves), default=0.0)
