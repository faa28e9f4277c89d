"""Machines without a CUDA device do not collect the tests that need one: nothing is skipped."""

from __future__ import annotations

import torch

collect_ignore = [] if torch.cuda.is_available() else ["test_cuda.py"]
