"""The address of a control plane, as a person writes it."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from secure_train.cli.errors import UsageError


def control_plane_url(given: str, source: str) -> str:
    """Return the URL to use. Without a scheme it is taken as ``http://``, if it is this machine.

    For any other machine the scheme must be written: whether a token crosses a network in the clear is not
    for us to guess.

    Args:
        given: a URL, or ``HOST:PORT``.
        source: where it was written, for the error.

    Raises:
        UsageError: it is no URL of a control plane; the message says what to write.
    """
    text = given.strip().rstrip("/")
    if "://" not in text and _is_loopback(_host(f"http://{text}")):
        text = f"http://{text}"
    host = _host(text)
    if "://" not in text:
        guess = text if _host(f"http://{text}") else "HOST:PORT"
        raise UsageError(
            f"{source}: {given!r} does not begin with https:// or http://", f"write https://{guess}"
        )
    if urlsplit(text).scheme not in {"http", "https"} or not host:
        raise UsageError(f"{source}: {given!r} is not the URL of a control plane", "write https://HOST:PORT")
    return text


def _host(url: str) -> str:
    """The host of a URL; empty if there is none, or if its port is no port."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return ""
    return parts.hostname or ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
