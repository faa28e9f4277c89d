"""Who people and services are, and the tokens by which they prove it."""

from secure_train.identity.errors import AlreadyExists, IdentityError, InvalidIdentity, NotAuthenticated
from secure_train.identity.people import bootstrap_admin, create_principal, create_project, update_principal
from secure_train.identity.roles import Role
from secure_train.identity.tokens import authenticate, issue_token, revoke_token

__all__ = [
    "AlreadyExists",
    "IdentityError",
    "InvalidIdentity",
    "NotAuthenticated",
    "Role",
    "authenticate",
    "bootstrap_admin",
    "create_principal",
    "create_project",
    "issue_token",
    "revoke_token",
    "update_principal",
]
