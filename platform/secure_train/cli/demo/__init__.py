"""``secure-train demo``: the whole product on real data, in one command."""

from secure_train.cli.demo.result import DemoResult
from secure_train.cli.demo.run import run_demo

__all__ = ["DemoResult", "run_demo"]
