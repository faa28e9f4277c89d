"""One HTTP exchange with the control plane: send, check, parse. Shared by people's and workers' clients."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from secure_train.client.errors import ApiError, ServerUnreachable
from secure_train.wire.base import ErrorBody, ErrorResponse

T = TypeVar("T")
DEFAULT_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class Transport:
    """Sends requests under ``/api/v1`` with the bearer token that ``token`` returns at that moment."""

    def __init__(
        self, url: str, token: Callable[[], str | None], timeout: httpx.Timeout = DEFAULT_TIMEOUT
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=timeout)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, answer: type[T] | TypeAdapter[T], **arguments: Any) -> T:
        """Send a request and return its answer as the given type.

        Raises:
            ApiError: the control plane answered with an error.
            ServerUnreachable: it did not answer, or not in its own language.
        """
        response = self._send(method, path, **arguments)
        adapter = answer if isinstance(answer, TypeAdapter) else TypeAdapter(answer)
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            raise ServerUnreachable(
                f"{self.url} answered {method} {path} with something that this client does not understand; "
                "are client and server of the same version?"
            ) from error

    def content(self, method: str, path: str, **arguments: Any) -> bytes:
        """Send a request and return the answer's bytes."""
        return self._send(method, path, **arguments).content

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """Send a request whose answer is read piece by piece."""
        arguments.setdefault("timeout", httpx.Timeout(None, connect=5.0))
        try:
            with self._http.stream(method, path, headers=self._headers(), **arguments) as response:
                if response.is_error:
                    response.read()
                    raise ApiError(response.status_code, _error_body(response))
                yield response
        except httpx.TransportError as error:
            raise ServerUnreachable(f"lost {self.url}: {_reason(error)}") from error

    def _headers(self) -> dict[str, str]:
        token = self._token()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, headers=self._headers(), **arguments)
        except httpx.TransportError as error:
            raise ServerUnreachable(f"cannot reach {self.url}: {_reason(error)}") from error
        if response.is_error:
            raise ApiError(response.status_code, _error_body(response))
        return response


def _reason(error: httpx.TransportError) -> str:
    """Say in words why there was no answer: the system's own where it gave some."""
    if isinstance(error, httpx.UnsupportedProtocol):
        return "its URL does not begin with http:// or https://"
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection came about in time"
    if isinstance(error, httpx.TimeoutException):
        return "no answer came in time"
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {below.verify_message}"
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return "the connection broke before the whole answer had come"


def _error_body(response: httpx.Response) -> ErrorBody:
    try:
        return ErrorResponse.model_validate_json(response.content).error
    except ValidationError:
        return ErrorBody(
            code="unavailable" if response.status_code >= 500 else "internal",
            message=f"HTTP {response.status_code} without an error in the control plane's own form",
            hint="Is something else answering at this address?",
        )
