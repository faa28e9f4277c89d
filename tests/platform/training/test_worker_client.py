"""The workers' client: patient with silence, obedient to refusals."""

from __future__ import annotations

import threading
import time

import pytest

from secure_train.client.errors import ApiError, ServerUnreachable
from secure_train.client.worker_client import WorkerClient
from secure_train.wire.worker import Capability, Redeem, StartGroup


def test_silence_is_waited_out_and_the_token_of_the_moment_is_used(control, fault) -> None:
    plane = control()
    tokens = iter(["capability-0"] * 9)
    plane.faults = {"groups": fault(503, "unavailable", 2)}
    client = WorkerClient(plane.url, lambda: next(tokens), patience=30)
    assert client.start_group(StartGroup(world_size=1)).generation == 1
    assert plane.requests["groups"] == 3
    assert len(list(tokens)) == 6


def test_patience_ends(control, fault) -> None:
    plane = control()
    plane.faults = {"groups": fault(503, "unavailable", 10**6)}
    with pytest.raises(ApiError):
        WorkerClient(plane.url, lambda: plane.token, patience=0.3).start_group(StartGroup(world_size=1))
    assert plane.requests["groups"] >= 2
    with pytest.raises(ServerUnreachable):
        WorkerClient("http://127.0.0.1:9", lambda: None, patience=0.3).renew()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_a_refusal_is_final(control, fault, status: int) -> None:
    plane = control()
    plane.faults = {"groups": fault(status, "invalid", 10**6)}
    with pytest.raises(ApiError):
        WorkerClient(plane.url, lambda: plane.token, patience=30).start_group(StartGroup(world_size=1))
    assert plane.requests["groups"] == 1


def test_a_ticket_is_sent_once(control, fault) -> None:
    plane = control()
    plane.faults = {"redeem": fault(503, "unavailable", 10**6)}
    with pytest.raises(ApiError):
        WorkerClient(plane.url, lambda: None, patience=30).redeem(Redeem(ticket="stt_once"))
    assert plane.requests["redeem"] == 1


def test_a_capability_is_renewed_at_half_its_life_until_that_is_refused(control) -> None:
    from secure_train.training.credential import Keeper

    plane = control(token_seconds=2)
    first: Capability = plane.capability()
    keeper = Keeper(plane.url, first.model_dump(mode="json"))
    renewing = threading.active_count()
    while keeper.token() == first.token:
        time.sleep(0.02)
    plane.state = "cancelled"
    while threading.active_count() >= renewing:
        time.sleep(0.02)
    last = keeper.token()
    assert last in plane.tokens
    keeper.stop()
