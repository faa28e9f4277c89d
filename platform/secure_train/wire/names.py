"""Names that people choose, and what their patterns mean in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

SLUG_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
PRINCIPAL_PATTERN = r"^(user|service):[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"

Slug = Annotated[str, Field(pattern=SLUG_PATTERN)]
PrincipalId = Annotated[str, Field(pattern=PRINCIPAL_PATTERN)]

_WORDS = {
    SLUG_PATTERN: (
        "must be 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends"
    ),
    PRINCIPAL_PATTERN: (
        "must be user:NAME or service:NAME, where NAME is 1 to 63 lower-case letters, digits, dots, "
        "underscores and hyphens, with a letter or digit at both ends"
    ),
}


def in_words(entry: Mapping[str, Any]) -> str:
    """Return the message of an entry of ``ValidationError.errors()``; patterns are told in words."""
    pattern = entry.get("ctx", {}).get("pattern")
    return _WORDS.get(pattern) or str(entry["msg"])
