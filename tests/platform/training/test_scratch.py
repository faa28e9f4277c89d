"""Scratch folders go with their process, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from secure_train.training.errors import TrainingError
from secure_train.training.scratch import scratch_folder

HOLDER = """
import sys, time
from secure_train.training.scratch import scratch_folder
with scratch_folder("job_1") as folder:
    (folder / "code.py").write_text("own")
    print(folder, flush=True)
    time.sleep(600)
"""


STARTER = """
from secure_train.training.scratch import scratch_folder
for _ in range(200):
    with scratch_folder("job_1") as folder:
        assert folder.is_dir()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / f"secure-train-{os.geteuid()}"


def test_a_folder_goes_when_its_process_is_done(place: Path) -> None:
    with scratch_folder("job_1") as folder:
        assert list(folder.iterdir()) == []
        assert place.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_behind_goes_when_the_next_one_starts(place: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    with scratch_folder("job_2"):
        assert (left / "code.py").exists(), "its process lives"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (left / "code.py").exists()
    with scratch_folder("job_2") as own:
        assert [folder.name for folder in place.iterdir()] == [own.parent.name]


def test_a_place_that_others_can_enter_is_not_used(place: Path) -> None:
    place.mkdir(mode=0o755)
    with pytest.raises(TrainingError, match="TMPDIR"), scratch_folder("job_1"):
        pass


def test_a_link_in_the_place_of_the_folder_is_not_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match="delete it"), scratch_folder("job_1"):
        pass


def test_processes_that_start_together_do_not_take_each_others_folders(place: Path) -> None:
    starters = [subprocess.Popen([sys.executable, "-c", STARTER]) for _ in range(4)]
    assert [starter.wait() for starter in starters] == [0] * 4
    assert list(place.iterdir()) == []


def test_a_folder_that_its_process_did_not_live_to_lock_goes_too(place: Path) -> None:
    with scratch_folder("job_1"):
        pass
    (place / "job_2-abandoned").mkdir()
    with scratch_folder("job_1"):
        assert not (place / "job_2-abandoned").exists()
