"""What people install: the wheel, in an environment that has never seen the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Build and install the wheel beside the locked dependencies; call it to run something of it."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}

    def run(*command: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", ROOT, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    # Paths in a .pth file are searched for modules, but not for .pth files: the checkout stays unseen.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return lambda name, *arguments, **how: run(folder / "venv" / "bin" / name, *arguments, **how)


def test_everything_comes_from_the_wheel(installed: Run) -> None:
    code = "import secure_train.dp as a, secure_train.audit as b, secure_train.cli as c; "
    code += "print(*(m.__file__ for m in (a, b, c)))"
    found = installed("python", "-c", code).stdout.split()
    assert len(found) == 3
    assert all("venv" in file and str(ROOT) not in file for file in found)


def test_the_command_helps_checks_and_migrates(installed: Run, tmp_path: Path) -> None:
    assert "Train models on data you must not expose" in installed("secure-train", "--help").stdout
    doctor = installed("secure-train", "doctor", "--home", tmp_path, "-o", "json", status=1)
    found = json.loads(doctor.stdout)["data"]["checks"]
    assert {check["name"] for check in found if check["ok"] is False} == {"ray", "control plane"}, (
        "not started"
    )
    assert "upgrade" in installed("secure-train", "db", "--help").stdout
    installed("secure-train", "db", "upgrade", "--home", tmp_path)
    assert (tmp_path / "control.db").stat().st_size > 0


def test_examples_and_policies_are_inside(installed: Run) -> None:
    code = "from secure_train.cli.examples import example; from secure_train.policy import PolicyEngine; "
    code += "PolicyEngine.load(); print(example('data/adult.csv'), example('adult/job.yaml'))"
    for path in installed("python", "-c", code).stdout.split():
        assert str(ROOT) not in path
        assert Path(path).is_file()
