from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from secure_train import identity
from secure_train.db import Database, now
from secure_train.db.tables import ApiToken, Principal
from secure_train.identity import InvalidIdentity, NotAuthenticated


@pytest.fixture
def alice(database: Database, rows: Any) -> Principal:
    with database.write() as session:
        rows.project(session)
        principal: Principal = rows.principal(session)
        return principal


def _issue(database: Database, principal: Principal, days: int = 90) -> tuple[ApiToken, str]:
    with database.write() as session:
        return identity.issue_token(session, principal.id, "laptop", days)


def test_a_token_proves_its_principal(database: Database, alice: Principal) -> None:
    _, secret = _issue(database, alice)
    with database.read() as session:
        assert identity.authenticate(session, secret).id == alice.id


def test_the_secret_is_256_random_bits_and_never_stored(database: Database, alice: Principal) -> None:
    _, first = _issue(database, alice)
    _, second = _issue(database, alice)
    assert first != second
    assert first.startswith("st_")
    assert len(first) == 46
    with database.read() as session:
        for row in session.scalars(select(ApiToken)):
            stored = repr({column.name: getattr(row, column.name) for column in ApiToken.__table__.columns})
            assert first not in stored
            assert second not in stored
        hashes = {row.sha256 for row in session.scalars(select(ApiToken))}
    assert hashes == {hashlib.sha256(text.encode()).digest() for text in (first, second)}


@pytest.mark.parametrize(
    "text", ["", "st_", "st_" + "A" * 42, "st_" + "A" * 44, "xx_" + "A" * 43, "st_" + "é" * 43]
)
def test_what_is_no_token_is_refused(database: Database, text: str) -> None:
    with database.read() as session, pytest.raises(NotAuthenticated, match="not an API token"):
        identity.authenticate(session, text)


def test_an_unknown_token_is_refused(database: Database, alice: Principal) -> None:
    _, secret = _issue(database, alice)
    other = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    with database.read() as session, pytest.raises(NotAuthenticated, match="not known"):
        identity.authenticate(session, other)


def test_an_expired_token_is_refused(database: Database, alice: Principal) -> None:
    token, secret = _issue(database, alice)
    with database.write() as session:
        session.get_one(ApiToken, token.id).expires_at = now() - timedelta(microseconds=1)
    with database.read() as session, pytest.raises(NotAuthenticated, match="expired"):
        identity.authenticate(session, secret)


def test_a_revoked_token_is_refused_and_keeps_its_first_date(database: Database, alice: Principal) -> None:
    token, secret = _issue(database, alice)
    dates = []
    for _ in range(2):
        with database.write() as session:
            row = session.get_one(ApiToken, token.id)
            identity.revoke_token(session, row)
            dates.append(row.revoked_at)
    assert dates[0] == dates[1]
    with database.read() as session, pytest.raises(NotAuthenticated, match="revoked"):
        identity.authenticate(session, secret)


def test_the_token_of_a_deactivated_principal_is_refused_until_it_is_active_again(
    database: Database, alice: Principal
) -> None:
    _, secret = _issue(database, alice)
    with database.write() as session:
        identity.update_principal(session, session.get_one(Principal, alice.id), active=False)
    with database.read() as session, pytest.raises(NotAuthenticated, match="deactivated"):
        identity.authenticate(session, secret)
    with database.write() as session:
        identity.update_principal(session, session.get_one(Principal, alice.id), active=True)
    with database.read() as session:
        assert identity.authenticate(session, secret).id == alice.id


@pytest.mark.parametrize(
    ("principal", "label", "days", "message"),
    [
        ("user:nobody", "", 1, "principal"),
        ("user:alice", "", 0, "days"),
        ("user:alice", "", 367, "days"),
        ("user:alice", "x" * 65, 1, "label"),
    ],
)
def test_a_token_out_of_range_is_not_issued(
    database: Database, alice: Principal, principal: str, label: str, days: int, message: str
) -> None:
    with database.write() as session, pytest.raises(InvalidIdentity, match=message):
        identity.issue_token(session, principal, label, days)
    with database.read() as session:
        assert session.scalars(select(ApiToken)).all() == []
