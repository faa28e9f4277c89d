"""The installed command, run as a subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).parent / "secure-train"
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Answer:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        envelope: dict[str, Any] = json.loads(self.out)
        return envelope

    @property
    def data(self) -> Any:
        assert self.status == 0, self.err + self.out
        assert self.json["schema_version"] == 1
        assert self.json["status"] == "ok"
        return self.json["data"]

    @property
    def error(self) -> dict[str, Any]:
        assert self.status != 0
        assert self.json["schema_version"] == 1
        assert self.json["status"] == "error"
        error: dict[str, Any] = self.json["error"]
        return error


class Shell:
    """A person at a terminal that is none: nothing of the tester's own environment is seen."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.home = folder / "home"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "SECURE_TRAIN_CONFIG": str(self.config),
            "SECURE_TRAIN_HOME": str(self.home),
            "COLUMNS": "200",
            **environment,
        }

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Answer:
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )
        return Answer(done.returncode, done.stdout, done.stderr)
