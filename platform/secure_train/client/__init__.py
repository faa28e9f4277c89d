"""The typed HTTP client of the control plane."""

from secure_train.client.client import Client
from secure_train.client.errors import ApiError, ClientError, ServerUnreachable

__all__ = ["ApiError", "Client", "ClientError", "ServerUnreachable"]
