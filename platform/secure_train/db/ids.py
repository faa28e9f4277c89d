"""Identifiers: a prefix that says what a thing is, then 128 bits that sort by creation time."""

from __future__ import annotations

import base64
import os
import time


def new_id(prefix: str) -> str:
    """Return e.g. ``job_06fz3k…``: 48 bits of milliseconds, then 80 random bits, in lower-case base32hex.

    The order of creation is the lexical order (to the millisecond), which keeps B-tree inserts local.
    """
    stamp = int(time.time() * 1000).to_bytes(6, "big")
    text = base64.b32hexencode(stamp + os.urandom(10)).decode().rstrip("=").lower()
    return f"{prefix}_{text}"
