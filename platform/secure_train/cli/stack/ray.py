"""The embedded stack's Ray cluster."""

from __future__ import annotations

from secure_train.api.settings import Settings
from secure_train.cli.errors import StackError
from secure_train.cli.stack.home import Home
from secure_train.jobs.embedded_ray import EmbeddedRay
from secure_train.jobs.errors import LauncherError


def _cluster(home: Home) -> EmbeddedRay:
    return EmbeddedRay(home.path / "ray")


def ray_address(home: Home) -> str | None:
    """Return the address of the Jobs API of the cluster that runs in this home; None if none runs."""
    cluster = _cluster(home)
    return cluster.address if cluster.running() else None


def start_ray(home: Home) -> str:
    """Start a cluster in this home, or adopt the one that runs, and return the address of its Jobs API."""
    cluster = _cluster(home)
    try:
        cluster.start()
    except LauncherError as error:
        raise StackError(str(error), "`secure-train doctor` checks what it needs") from error
    return cluster.address


def stop_ray(home: Home) -> bool:
    """Stop the cluster of this home. Returns whether one ran."""
    cluster = _cluster(home)
    ran = cluster.running()
    cluster.stop()
    return ran


def with_embedded_ray(home: Home, settings: Settings) -> Settings:
    """Return the settings with this home's cluster filled in, unless another is configured."""
    address = ray_address(home)
    if settings.ray_address or address is None:
        return settings
    return settings.model_copy(update={"ray_address": address, "ray_token_file": _cluster(home).token_file})
