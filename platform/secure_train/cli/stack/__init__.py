"""The embedded stack: a control plane and a local Ray cluster as background processes of one home."""

from secure_train.cli.stack.home import Home
from secure_train.cli.stack.lifecycle import Running, StackState, down, look, up

__all__ = ["Home", "Running", "StackState", "down", "look", "up"]
