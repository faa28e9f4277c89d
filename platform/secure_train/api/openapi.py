"""Prints the OpenAPI document of the REST API: ``python -m secure_train.api.openapi > docs/openapi.json``.

The document is the same for every control plane of a version. No route serves it: none is open but health.
"""

from __future__ import annotations

import json
import sys

from fastapi import FastAPI

from secure_train.api.app import routed


def document() -> str:
    """Return the document as indented JSON."""
    app: FastAPI = routed()
    return json.dumps(app.openapi(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
