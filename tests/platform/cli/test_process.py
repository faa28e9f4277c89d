"""Background processes: recognised beyond doubt, and stopped only if they are ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from secure_train.api.errors import ConfigurationError
from secure_train.api.serve import listen
from secure_train.api.settings import Settings
from secure_train.cli.errors import StackError
from secure_train.cli.stack.control_plane import choose_port, is_free
from secure_train.cli.stack.home import Home
from secure_train.cli.stack.process import ProcessId, Record, start, tail


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = start([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log", os.environ)
    yield process
    process.kill()
    process.wait()


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found is not None
    return found


def test_a_process_is_alive_until_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity(sleeper)
    assert process.alive
    assert process.stop(grace=60) is False
    assert not process.alive
    assert process.stop(grace=60) is False


def test_a_process_that_got_the_same_number_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity(sleeper)
    for other in (replace(process, started=process.started - 1), replace(process, boot="another")):
        assert not other.alive
        other.stop(grace=60)
    assert process.alive


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    child = start([sys.executable, "-c", code], log, os.environ)
    while "deaf" not in tail(log):
        assert child.poll() is None
    assert identity(child).stop(grace=0.2) is True
    assert child.wait() == -9


def test_logs_are_private(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_record_survives_writing_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record = Record(ProcessId(1, 2, "boot"), "http://127.0.0.1:1")
    assert Record.load(path) is None
    record.save(path)
    assert Record.load(path) == record
    path.write_text("{", "utf-8")
    with pytest.raises(StackError, match="damaged"):
        Record.load(path)


def test_a_home_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    home.create()
    assert home.path.stat().st_mode & 0o777 == 0o700
    home.path.chmod(0o750)
    with pytest.raises(StackError, match="entered by others"):
        home.create()


def test_a_taken_port_is_refused_before_anything_else_is_done(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        assert not is_free("127.0.0.1", port)
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
            listen(settings.model_copy(update={"port": port}))
    with listen(settings.model_copy(update={"port": port})):
        assert not is_free("127.0.0.1", port)


def test_a_stack_keeps_its_port_and_gives_way_to_whoever_has_taken_it(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    home.create()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        last = int(probe.getsockname()[1])
    Record(ProcessId(1, 2, "boot"), f"http://127.0.0.1:{last}").save(home.control_plane_record)
    settings = Settings.load(home.path)
    assert choose_port(home, settings) == last
    with listen(settings.model_copy(update={"port": last})):
        assert choose_port(home, settings) != last
