"""Modular matrix products on residues: the whole of what the compute side does, without any key.

Every kernel gives the same integers, bit by bit; they differ in speed and in where they run.
"""

from secure_train.ckks.kernels.base import Kernel, best_kernel, kernel
from secure_train.ckks.kernels.gemm import TorchKernel

__all__ = ["Kernel", "TorchKernel", "best_kernel", "kernel"]
