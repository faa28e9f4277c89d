"""``python -m secure_train.cli`` is ``secure-train``."""

from secure_train.cli.main import main

main()
