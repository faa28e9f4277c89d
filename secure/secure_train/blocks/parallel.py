"""Work on many blocks at once, with a bounded number of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

WORKERS = min(8, os.cpu_count() or 1)
WINDOW = 4 * WORKERS

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in the order of the items, at most ``WINDOW`` of them under way.

    Threads serve: hashing, zstd, byte shuffle and file operations release the interpreter's lock; AES-GCM
    holds it but is three times as fast as zstd. The first error ends the work.
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="blocks") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= WINDOW:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
