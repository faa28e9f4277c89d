"""Loading a model factory from the author's own code. This runs it: in the compute zone, never elsewhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secure_train.training.errors import ModelError


def load_factory(entrypoint: str, code: Path) -> Callable[..., Any]:
    """Import ``module:factory`` from an unpacked working directory.

    The directory goes to the front of `sys.path` and stays there: the code may import its neighbours later.
    What the code itself raises passes through unchanged.

    Raises:
        ModelError: the module is not in the directory, or has no such callable.
    """
    module_name, _, attribute = entrypoint.partition(":")
    root = code.resolve()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            f"model.entrypoint {entrypoint!r}: the working directory has no module {error.name!r}; check "
            "model.workingDir and .secure-train-ignore"
        ) from error
    if not _is_under(root, module.__file__):
        raise ModelError(
            f"model.entrypoint {entrypoint!r}: {module_name!r} is an installed module, not one of the "
            "working directory; rename the author's file"
        )
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ModelError(f"model.entrypoint {entrypoint!r}: {module_name} has no callable {attribute!r}")
    return factory  # type: ignore[no-any-return]  # checked to be callable; the author's types are unknown


def _is_under(root: Path, file: str | None) -> bool:
    return file is not None and Path(file).resolve().is_relative_to(root)
