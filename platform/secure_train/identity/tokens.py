"""API tokens: 256 random bits, shown once, kept as a SHA-256 hash.

A token has full entropy, so a fast hash suffices: there is nothing to guess. The look-up is by the hash of
what was sent, so its timing tells nothing about the hash that is stored.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db import new_id, now
from secure_train.db.tables import ApiToken, Principal
from secure_train.identity.errors import InvalidIdentity, NotAuthenticated

PREFIX = "st_"
MAX_DAYS = 366
MAX_LABEL = 64

_FORM = re.compile(r"st_[A-Za-z0-9_-]{43}")


def authenticate(session: Session, secret: str) -> Principal:
    """Return the principal that a token belongs to.

    Raises:
        NotAuthenticated: not a token, unknown, expired, revoked, or the principal is inactive.
    """
    if not _FORM.fullmatch(secret):
        raise NotAuthenticated("this is not an API token: one starts with st_ and has 46 characters")
    token = session.scalar(select(ApiToken).where(ApiToken.sha256 == _hash(secret)))
    if token is None:
        raise NotAuthenticated("this token is not known here; ask an administrator for a new one")
    if token.revoked_at is not None:
        raise NotAuthenticated(f"this token was revoked on {token.revoked_at:%Y-%m-%d}; ask for a new one")
    if token.expires_at <= now():
        raise NotAuthenticated(f"this token expired on {token.expires_at:%Y-%m-%d}; ask for a new one")
    principal = session.get_one(Principal, token.principal_id)
    if not principal.active:
        raise NotAuthenticated(f"{principal.id} is deactivated")
    return principal


def issue_token(session: Session, principal_id: str, label: str, days: int) -> tuple[ApiToken, str]:
    """Create a token for `days` days. Returns its row and its secret, which cannot be had again.

    Raises:
        InvalidIdentity: no such principal, or the label or the days are out of range.
    """
    if session.get(Principal, principal_id) is None:
        raise InvalidIdentity(f"principal: there is no {principal_id!r}")
    if not 1 <= days <= MAX_DAYS:
        raise InvalidIdentity(f"days: {days} is not between 1 and {MAX_DAYS}")
    if len(label) > MAX_LABEL:
        raise InvalidIdentity(f"label: {len(label)} characters; at most {MAX_LABEL} are kept")
    secret = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        id=new_id("tok"),
        principal_id=principal_id,
        sha256=_hash(secret),
        label=label,
        expires_at=now() + timedelta(days=days),
    )
    session.add(token)
    session.flush()
    return token, secret


def revoke_token(session: Session, token: ApiToken) -> None:
    """Refuse the token from now on. Revoking it again keeps the first date."""
    if token.revoked_at is None:
        token.revoked_at = now()
        session.flush()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
