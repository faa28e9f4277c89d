"""What a job is said to be doing."""

from __future__ import annotations

import pytest

from secure_train.db import now
from secure_train.db.tables import Job
from secure_train.jobs.phases import phase


@pytest.mark.parametrize(
    ("state", "driver", "group", "reported", "step", "wanted"),
    [
        ("queued", False, False, False, 0, "waiting for its turn"),
        ("starting", False, False, False, 0, "starting the driver"),
        ("starting", True, False, False, 0, "starting the workers"),
        ("running", True, True, False, 0, "loading the dataset"),
        ("running", True, True, True, 7, "training"),
        ("running", True, True, True, 10, "publishing the model"),
        ("recovering", True, False, False, 7, "starting the workers again"),
        ("recovering", False, False, False, 7, "starting the driver again"),
        ("recovering", True, True, False, 7, "restoring the newest checkpoint"),
        ("recovering", True, True, True, 7, "repeating steps"),
        ("succeeded", True, True, True, 10, "succeeded"),
    ],
)
def test_each_part_of_a_job_has_its_own_name(
    state: str, driver: bool, group: bool, reported: bool, step: int, wanted: str
) -> None:
    job = Job(state=state, heartbeat_at=now() if group else None, step=step, steps=10)
    assert phase(job, driver_lives=driver, group_reported=reported) == wanted
