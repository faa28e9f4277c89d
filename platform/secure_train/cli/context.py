"""Which control plane the command line talks to, and as whom.

Contexts are kept in ``contexts.toml`` (mode 0600) of ``$SECURE_TRAIN_CONFIG``, else of the user's
configuration directory. ``SECURE_TRAIN_URL`` and ``SECURE_TRAIN_TOKEN`` together win over all of them; one
without the other is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from secure_train.cli.address import control_plane_url
from secure_train.cli.errors import NotConnected, UsageError
from secure_train.client import Client

FILE = "contexts.toml"
URL, TOKEN = "SECURE_TRAIN_URL", "SECURE_TRAIN_TOKEN"


@dataclass(frozen=True, slots=True)
class Context:
    """A control plane and a token for it.

    Attributes:
        user: whose token it is; None for one from the environment, which nobody has asked about.
    """

    name: str
    url: str
    token: str
    user: str | None


def directory() -> Path:
    """Return the directory of the user's configuration."""
    if given := os.environ.get("SECURE_TRAIN_CONFIG"):
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "secure-train"


def load() -> tuple[str | None, dict[str, Context]]:
    """Return the name of the current context and all contexts."""
    path = directory() / FILE
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        found = {
            name: Context(name, entry["url"], entry["token"], entry["user"])
            for name, entry in content.get("contexts", {}).items()
        }
    except FileNotFoundError:
        return None, {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        what = f"an entry lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path} is damaged: {what}", "delete it and log in again") from error
    return content.get("current"), found


def save(context: Context) -> None:
    """Store a context and make it the current one."""
    _, contexts = load()
    _write(context.name, {**contexts, context.name: context})


def use(name: str) -> Context:
    """Make a context the current one."""
    _, contexts = load()
    if name not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise UsageError(f"there is no context {name!r} (known: {known})", "`secure-train login` makes one")
    _write(name, contexts)
    return contexts[name]


def _write(current: str | None, contexts: dict[str, Context]) -> None:
    # JSON strings are TOML basic strings.
    lines = [] if current is None else [f"current = {json.dumps(current)}"]
    for context in contexts.values():
        lines += [
            "",
            f"[contexts.{json.dumps(context.name)}]",
            f"url = {json.dumps(context.url)}",
            f"token = {json.dumps(context.token)}",
            f"user = {json.dumps(context.user)}",
        ]
    _replace(directory() / FILE, "\n".join(lines) + "\n")


def _replace(path: Path, content: str) -> None:
    """Write a file that only the user can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes the file 0600 before the token is in it; the rename replaces the old file at once.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def kept_checkpoint(context: Context) -> str | None:
    """Return the checkpoint of the audit trail that was kept when it was last verified."""
    path = _checkpoint_file(context)
    return path.read_text("utf-8") if path.exists() else None


def keep_checkpoint(context: Context, note: str) -> Path:
    """Keep a checkpoint, where those who run the control plane cannot write."""
    path = _checkpoint_file(context)
    _replace(path, note)
    return path


def forget_checkpoint(context: Context) -> None:
    """Forget the kept checkpoint: a new control plane answers at this address, with a new trail."""
    _checkpoint_file(context).unlink(missing_ok=True)


def _checkpoint_file(context: Context) -> Path:
    name = hashlib.sha256(f"{context.name}\0{context.url}".encode()).hexdigest()[:24]
    return directory() / "checkpoints" / f"{name}.txt"


def current() -> Context:
    """Return the context that commands use.

    Raises:
        NotConnected: there is none; the message says how to get one.
        UsageError: the environment names a URL without a token, or a token without a URL.
    """
    url, token = os.environ.get(URL), os.environ.get(TOKEN)
    if url and token:
        return Context("environment", control_plane_url(url, URL), token, None)
    if url or token:
        there, lacking = (URL, TOKEN) if url else (TOKEN, URL)
        raise UsageError(
            f"{there} is set, but {lacking} is not: which control plane, and as whom?",
            f"set both, or unset {there} to use the contexts of `secure-train login`",
        )
    name, contexts = load()
    if name is None or name not in contexts:
        raise NotConnected(
            "no control plane is configured",
            "start one on this machine with `secure-train up`, or use one that runs: "
            "`secure-train login --url https://…`",
        )
    return contexts[name]


def connect() -> Client:
    """Return a client for the current context."""
    context = current()
    return Client(context.url, context.token)
