"""The control plane's process: the HTTP server and, beside it, the controller that moves jobs along."""

from __future__ import annotations

import logging
import socket
import threading

import uvicorn

from secure_train.api.app import create_app, quiet
from secure_train.api.control_plane import ControlPlane
from secure_train.api.errors import ConfigurationError
from secure_train.api.settings import Settings
from secure_train.db.migrate import current, head, upgrade

log = logging.getLogger(__name__)
GRACE_SECONDS = 3
BACKLOG = 2048


def listen(settings: Settings) -> socket.socket:
    """Take the port of the settings; connections wait until `serve` accepts them.

    Raises:
        ConfigurationError: the port is taken, or may not be taken.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    # As servers do: a port whose last connections are still fading is free.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; set another `port`"
        ) from error
    return listening


def serve(settings: Settings, listening: socket.socket, *, migrate: bool) -> None:
    """Run until SIGTERM or SIGINT, on a port that `listen` has taken.

    Raises:
        ConfigurationError: the database's schema is not the one this version needs and ``migrate`` is off.
    """
    # force: a library that is imported above has set up logging of its own.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    plane = ControlPlane(settings)
    try:
        if migrate:
            upgrade(plane.database)
        elif current(plane.database) != head():
            raise ConfigurationError(
                f"the database is at migration {current(plane.database) or 'none'} and this version needs "
                f"{head()}: run `secure-train serve --migrate` once, or `secure-train db upgrade`"
            )
        stop = threading.Event()
        controller = threading.Thread(target=plane.controller().run, args=(stop,), name="controller")
        controller.start()
        try:
            config = uvicorn.Config(
                quiet(create_app(plane)),
                log_config=None,
                access_log=False,
                # Streams of followed jobs stay open until the job ends: they are cut, and clients come again.
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            stop.set()
            controller.join()
            plane.evidence.sign()
    finally:
        plane.close()
