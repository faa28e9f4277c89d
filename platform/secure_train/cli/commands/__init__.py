"""The commands, one module per group. None imports torch or Ray before it needs them."""
