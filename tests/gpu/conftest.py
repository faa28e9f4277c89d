"""What runs on CUDA devices only. Machines without enough do not collect these tests: nothing is skipped."""

from __future__ import annotations

import torch

_DEVICES = torch.cuda.device_count()
collect_ignore_glob = (["test_*.py"], ["test_nccl.py"], [])[min(_DEVICES, 2)]
