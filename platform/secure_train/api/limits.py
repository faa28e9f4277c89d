"""A limit on the size of request bodies, enforced while they arrive."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secure_train.wire.base import ErrorBody, ErrorResponse

UNKNOWN_LIMIT = 1 << 20
"""Bytes of a body from somebody whose token is not known. Workers, who use capabilities, send less."""


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than ``limit`` bytes, announced or not.

    Bodies are held in memory, and are read before the caller is asked who they are: so a large one is taken
    only from somebody whose bearer token ``is_known``.
    """

    def __init__(self, app: ASGIApp, limit: int, is_known: Callable[[str], bool]) -> None:
        self._app = app
        self._limit = limit
        self._is_known = is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body's bytes as the application reads them."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        limit = min(self._limit, UNKNOWN_LIMIT)
        if "transfer-encoding" in headers or not announced.isdecimal() or int(announced) > limit:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and await run_in_threadpool(self._is_known, token):
                limit = self._limit
        if not announced.isdecimal() or int(announced) > limit:
            await self._refuse(send, limit)
            return
        received, answered = 0, False

        async def counted() -> Message:
            nonlocal received, answered
            message = await receive()
            received += len(message.get("body", b""))
            if received <= limit:
                return message
            if not answered:
                answered = True
                await self._refuse(send, limit)
            # To the application it looks as if the client had gone; what it still answers is dropped.
            return {"type": "http.disconnect"}

        async def unless_answered(message: Message) -> None:
            if not answered:
                await send(message)

        await self._app(scope, counted, unless_answered)

    async def _refuse(self, send: Send, limit: int) -> None:
        body = ErrorResponse(
            error=ErrorBody(
                code="too_large",
                message=f"the body has more than {limit} bytes",
                hint="max_upload_bytes in config.toml is the limit for who sends a valid token",
            )
        ).model_dump_json()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})
