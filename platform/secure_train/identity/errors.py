"""What can go wrong with identities."""


class IdentityError(Exception):
    """Root of this package's errors."""


class NotAuthenticated(IdentityError):
    """The credential is missing, unknown, expired or revoked, or its principal is inactive."""


class InvalidIdentity(IdentityError):
    """A principal, project or token cannot be created or changed as asked; the message names the field."""


class AlreadyExists(IdentityError):
    """A principal or project of this id exists."""
