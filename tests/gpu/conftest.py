"""What runs on CUDA devices only. Machines without one do not collect these tests: nothing is skipped."""

from __future__ import annotations

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
