"""Workers of one process, in threads: as many shares of noise as a job has, without starting processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from secure_train.dp.step import AllReduce

Result = TypeVar("Result")


def run_workers(workers: int, work: Callable[[int, AllReduce | None], Result]) -> Result:
    """Call `work(rank, all_reduce)` for every rank at once, and return rank 0's result.

    A single worker runs in the calling thread and gets no all-reduce. Sums are formed in the order of ranks,
    so that they are the same bits every time.
    """
    if workers == 1:
        return work(0, None)
    barrier = threading.Barrier(workers)
    sent: dict[int, list[Tensor]] = {}

    def all_reduce_of(rank: int) -> AllReduce:
        def all_reduce(tensors: list[Tensor]) -> None:
            sent[rank] = tensors
            barrier.wait()
            sums = [
                sum(parts[1:], parts[0]) for parts in zip(*(sent[r] for r in range(workers)), strict=True)
            ]
            barrier.wait()
            for tensor, total in zip(tensors, sums, strict=True):
                tensor.copy_(total)

        return all_reduce

    def worker(rank: int) -> Result:
        try:
            return work(rank, all_reduce_of(rank))
        except BaseException:
            # The others would wait for this one for ever.
            barrier.abort()
            raise

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(worker, rank) for rank in range(workers)]
        errors = [error for error in (future.exception() for future in futures) if error is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return futures[0].result()
