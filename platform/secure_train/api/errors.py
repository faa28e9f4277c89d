"""Errors of the API process itself."""


class ApiProcessError(Exception):
    """Root of this package's errors."""


class ConfigurationError(ApiProcessError):
    """A setting is wrong; the message names file or variable, field and remedy."""


class NotFound(ApiProcessError):
    """A thing does not exist, and the caller may know that."""
