"""The actor that holds a job's capability for all its processes, and renews it.

It lives and dies with the driver: workers that outlive their driver cannot obtain a capability any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ray

from secure_train.client.errors import ApiError, ServerUnreachable
from secure_train.client.worker_client import WorkerClient
from secure_train.wire.worker import Capability

_SHORTEST_WAIT_SECONDS = 1.0


class Keeper:
    """Renews a capability when half of its life is over.

    A renewal that is refused ends renewing: whoever uses the capability is then told why by the control
    plane. One that finds nobody is tried again as long as the capability lives.
    """

    def __init__(self, url: str, capability: dict[str, Any]) -> None:
        self._current = Capability.model_validate(capability)
        self._client = WorkerClient(url, self.token, patience=0)
        self._stopped = threading.Event()
        threading.Thread(target=self._renew, name="renewal", daemon=True).start()

    def token(self) -> str:
        """The current capability."""
        return self._current.token

    def stop(self) -> None:
        """Stop renewing."""
        self._stopped.set()

    def _renew(self) -> None:
        while not self._stopped.wait(self._seconds_until_renewal()):
            try:
                self._current = self._client.renew()
            except ServerUnreachable:
                continue
            except ApiError as error:
                if error.status < 500:
                    return

    def _seconds_until_renewal(self) -> float:
        left = (self._current.expires_at - datetime.now(UTC)).total_seconds()
        return max(_SHORTEST_WAIT_SECONDS, left / 2)


def start_keeper(url: str, capability: Capability) -> Any:
    """Start the actor; it takes no CPU of the cluster's. Its handle may be sent to other processes."""
    return ray.remote(num_cpus=0)(Keeper).remote(url, capability.model_dump(mode="json"))


def token_source(keeper: Any) -> Callable[[], str]:
    """Ask the actor for the current capability, each time anew."""

    def current() -> str:
        token: str = ray.get(keeper.token.remote())
        return token

    return current
