"""Bringing the embedded stack up and down. What runs already is adopted; only what we started is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secure_train.api.settings import Settings
from secure_train.cli.stack import control_plane
from secure_train.cli.stack.bootstrap import first_admin
from secure_train.cli.stack.home import Home
from secure_train.cli.stack.process import Record
from secure_train.cli.stack.ray import ray_address, start_ray, stop_ray

PORT_ATTEMPTS = 3
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that runs.

    Attributes:
        url: of the control plane.
        pid: of the control plane.
        ray: address of Ray's Jobs API.
        admin_token: of the first administrator; None unless it was created just now.
    """

    url: str
    pid: int
    ray: str
    admin_token: str | None


@dataclass(frozen=True, slots=True)
class StackState:
    """What runs of a stack."""

    url: str | None
    pid: int | None
    answers: bool
    ray: str | None

    @property
    def runs(self) -> bool:
        """Whether all of it runs."""
        return self.answers and self.ray is not None


def up(home: Home, keep: Callable[[str, str], None], say: Say) -> Running:
    """Start what does not run yet.

    Args:
        home: the stack's home.
        keep: called with URL and token when the first administrator is created, before that is committed.
        say: told what is going on.

    Raises:
        StackError: a process did not start.
        ConfigurationError: a setting is wrong.
    """
    home.create()
    with home.lock():
        settings = Settings.load(home.path)
        address = settings.ray_address or ray_address(home)
        if address is None:
            # A control plane whose Ray is gone would go on with the address of the old one.
            control_plane.stop_control_plane(home)
            say("starting Ray")
            address = start_ray(home)
        record = control_plane.running(home)
        if record is None or not control_plane.answers(record.url):
            control_plane.stop_control_plane(home)
            say("starting the control plane")
            record = _serve(home, settings)
        url = record.url
        token = first_admin(settings, lambda secret: keep(url, secret))
        return Running(url, record.process.pid, address, token)


def _serve(home: Home, settings: Settings) -> Record:
    """Start the control plane; if its port is taken between choosing and using it, choose again."""
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return control_plane.start_control_plane(
                home, settings, control_plane.choose_port(home, settings)
            )
        except control_plane.PortTaken:
            continue
    return control_plane.start_control_plane(home, settings, control_plane.choose_port(home, settings))


def down(home: Home, say: Say) -> bool:
    """Stop the stack. Jobs that run are taken up again at the next start. Returns whether anything ran."""
    if not home.run.is_dir():
        return False
    with home.lock():
        say("stopping the control plane")
        served = control_plane.stop_control_plane(home)
        say("stopping Ray")
        return stop_ray(home) or served


def look(home: Home) -> StackState:
    """Say what runs."""
    if not home.path.is_dir():
        return StackState(None, None, False, None)
    settings = Settings.load(home.path)
    record = control_plane.running(home)
    return StackState(
        url=None if record is None else record.url,
        pid=None if record is None else record.process.pid,
        answers=record is not None and control_plane.answers(record.url),
        ray=settings.ray_address or ray_address(home),
    )
