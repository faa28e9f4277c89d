"""The tree of commands. A command's module is imported when it is called, so the others cost no time."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is, and what its help says first.

    Attributes:
        module: below ``secure_train.cli.commands``.
        attribute: a function for a command, a ``typer.Typer`` for a group of them.
        summary: as the first line of its help; a test compares them.
    """

    module: str
    attribute: str
    summary: str


ENTRIES = {
    "submit": Entry("submit", "submit", "Submit a training job, or a search."),
    "jobs": Entry("jobs", "app", "Jobs."),
    "search": Entry("search", "app", "Searches for hyperparameters."),
    "data": Entry("data", "app", "Datasets and their privacy budgets."),
    "models": Entry("models", "app", "Published models."),
    "policy": Entry("policy", "app", "Rules and decisions."),
    "audit": Entry("audit", "app", "The audit trail."),
    "encrypt": Entry("encrypt", "app", "Linear layers on encrypted records (CKKS)."),
    "keys": Entry("keys", "app", "Keys of the vault."),
    "people": Entry("people", "app", "People, services and their tokens."),
    "projects": Entry("people", "projects", "Projects."),
    "login": Entry("contexts", "login", "Log in with an API token, read from a hidden prompt or from stdin."),
    "context": Entry("contexts", "app", "The control planes you are logged in to."),
    "privacy": Entry("privacy", "app", "Privacy, tried out on this machine on synthetic or public rows."),
    "spec": Entry("spec", "app", "The job file's format."),
    "up": Entry("stack", "up", "Start the stack on this machine: a control plane and a local Ray cluster."),
    "down": Entry("stack", "down", "Stop the stack on this machine."),
    "status": Entry("stack", "status", "Say what runs on this machine."),
    "doctor": Entry(
        "stack", "doctor", "Check everything the stack needs, and say what to do about what fails."
    ),
    "demo": Entry(
        "demo", "demo", "Show it all on real data: a private job, a crash, a recovery, the evidence."
    ),
    "serve": Entry("stack", "serve", "Run a control plane in the foreground."),
    "db": Entry("stack", "database", "The control plane's database."),
}


def load(name: str) -> Any:
    """Import a command."""
    entry = ENTRIES[name]
    found = getattr(import_module(f"secure_train.cli.commands.{entry.module}"), entry.attribute)
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(name)(found)
    return typer.main.get_command(alone)


class _Commands(MutableMapping[str, Any]):
    """A group's commands by name, imported when asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in ENTRIES

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


class CommandTree(TyperGroup):
    """The root. Its help is printed from the summaries."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()
        self._summarising = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names; the inherited one would import every command."""
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or while help is printed a stand-in with its summary."""
        if cmd_name not in ENTRIES:
            return None
        if self._summarising:
            return TyperCommand(cmd_name, help=ENTRIES[cmd_name].summary)
        return self.commands[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print help without importing any command."""
        with self._summaries():
            super().format_help(ctx, formatter)

    @contextmanager
    def _summaries(self) -> Iterator[None]:
        self._summarising = True
        try:
            yield
        finally:
            self._summarising = False
