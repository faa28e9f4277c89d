"""Exit codes, what goes to stdout and what to stderr, and the envelope, without any control plane."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_shell import EXAMPLES, Shell

from secure_train.cli.address import control_plane_url
from secure_train.cli.errors import UsageError
from secure_train.cli.groups import ENTRIES, load
from secure_train.cli.output import Format, requested_format


def test_submit_without_a_context_says_so_and_how_to_get_one(shell: Shell) -> None:
    job = EXAMPLES / "adult" / "job.yaml"
    answer = shell("submit", job)
    assert answer.status == 4
    assert answer.out == ""
    assert "no control plane is configured" in answer.err
    assert "secure-train up" in answer.err
    assert "secure-train login --url" in answer.err


def test_errors_keep_to_the_form_that_was_asked_for(shell: Shell) -> None:
    error = shell("jobs", "list", "-o", "json").error
    assert error["code"] == "not_connected"
    assert error["hint"]
    as_yaml = shell("jobs", "list", "--output=yaml")
    assert yaml.safe_load(as_yaml.out)["error"] == error
    assert as_yaml.err == ""


def test_wrong_usage_is_2_and_names_the_nearest_command(shell: Shell) -> None:
    answer = shell("jobs", "lst")
    assert (answer.status, answer.out) == (2, "")
    assert "Did you mean 'list'?" in answer.err
    error = shell("jobs", "list", "--limit", "many", "-o", "json").error
    assert error["code"] == "usage"
    assert "--limit" in error["message"]


def test_an_unreachable_control_plane_is_4(tmp_path: Path) -> None:
    shell = Shell(tmp_path, SECURE_TRAIN_URL="http://127.0.0.1:9", SECURE_TRAIN_TOKEN="st_" + "a" * 43)
    answer = shell("jobs", "list", "-o", "json")
    assert answer.status == 4
    assert answer.error["code"] == "not_connected"
    assert answer.error["message"] == "cannot reach http://127.0.0.1:9: Connection refused"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("localhost:8642", "http://localhost:8642"),
        ("127.0.0.1:8642/", "http://127.0.0.1:8642"),
        ("[::1]:8642", "http://[::1]:8642"),
        ("https://train.example", "https://train.example"),
    ],
)
def test_http_is_assumed_for_this_machine_only(url: str, wanted: str) -> None:
    assert control_plane_url(url, "--url") == wanted


@pytest.mark.parametrize("url", ["train.example:8642", "train.example", "ftp://localhost", "http://", ""])
def test_what_is_no_url_says_what_to_write(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        control_plane_url(url, "--url")
    assert raised.value.hint.startswith("write https://")


def test_half_of_an_environment_is_an_error(tmp_path: Path) -> None:
    lonely = Shell(tmp_path, SECURE_TRAIN_TOKEN="st_" + "a" * 43)("jobs", "list", "-o", "json")
    assert lonely.status == 2
    assert "SECURE_TRAIN_URL is not" in lonely.error["message"]


def test_a_wrong_job_file_is_2_with_every_error_and_its_line(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("apiVersion: secure-train/v1\nkind: TrainingJob\nmetadata: {name: UPPER}\nprivcy: {}\n")
    answer = shell("submit", file, "-o", "json")
    assert answer.status == 2
    assert answer.error["code"] == "invalid"
    paths = {detail["path"] for detail in answer.error["details"]}
    assert {"metadata.name", "privcy", "data"} <= paths
    assert any(detail["line"] == 3 for detail in answer.error["details"])


def test_spec_validate_accepts_overrides(shell: Shell) -> None:
    job = EXAMPLES / "adult" / "job.yaml"
    assert shell("spec", "validate", job, "--set", "privacy.epsilon=2").status == 0
    wrong = shell("spec", "validate", job, "--set", "privacy.epsilon=-2")
    assert wrong.status == 2
    assert "privacy.epsilon" in wrong.err


def test_a_reader_that_has_enough_causes_no_complaint(shell: Shell) -> None:
    process = shell.start("spec", "schema")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()


def test_a_file_that_cannot_be_written_is_an_error_and_no_traceback(shell: Shell) -> None:
    shell.config.write_text("a file where the folder should be")
    answer = shell("login", "--url", "http://127.0.0.1:9", stdin="\n")
    assert answer.status == 2
    assert "Traceback" not in answer.err
    again = shell("context", "list")
    assert again.status == 1
    assert str(shell.config) in again.err
    assert "Traceback" not in again.err


def test_help_imports_no_command_and_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\nfrom secure_train.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'ray', 'sqlalchemy', 'fastapi', 'httpx', 'numpy'} & set(sys.modules)\n"
        "heavy |= {name for name in sys.modules if name.startswith('secure_train.cli.commands')}\n"
        "sys.stderr.write(repr(sorted(heavy)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


def test_commands_on_a_control_plane_import_neither_torch_nor_ray_nor_sql() -> None:
    code = (
        "import sys\nfrom secure_train.cli.groups import load\n"
        "for name in 'submit jobs data models policy audit people login'.split():\n    load(name)\n"
        "heavy = {'torch', 'ray', 'sqlalchemy', 'fastapi', 'numpy'} & set(sys.modules)\n"
        "sys.stderr.write(repr(sorted(heavy)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


@pytest.mark.parametrize("name", ENTRIES)
def test_summaries_in_the_help_are_those_of_the_commands(name: str) -> None:
    assert load(name).help.splitlines()[0] == ENTRIES[name].summary


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["jobs", "list", "-o", "json"], Format.JSON),
        (["jobs", "list", "-ojson"], Format.JSON),
        (["jobs", "list", "--output", "yaml"], Format.YAML),
        (["jobs", "list", "--output=json"], Format.JSON),
        (["jobs", "list", "-o", "xml"], Format.TABLE),
        (["jobs", "list", "-o"], Format.TABLE),
        (["jobs", "list"], Format.TABLE),
    ],
)
def test_the_form_is_read_even_from_a_command_line_that_is_wrong(
    arguments: list[str], wanted: Format
) -> None:
    assert requested_format(arguments) is wanted


def test_a_stack_that_does_not_run_is_status_1_and_says_how_to_start_it(shell: Shell) -> None:
    answer = shell("status", "-o", "json")
    assert answer.status == 1
    assert answer.json["data"]["control_plane"] == {"url": None, "pid": None, "answers": False}
    assert answer.error["hint"].startswith("secure-train up")
    assert not shell.home.exists()


def test_doctor_names_what_fails_and_what_to_do(shell: Shell) -> None:
    shell.home.mkdir(mode=0o755)
    answer = shell("doctor", "-o", "json")
    assert answer.status == 1
    checks = {check["name"]: check for check in answer.json["data"]["checks"]}
    assert checks["python"]["ok"] is True
    assert checks["torch and ray"]["ok"] is True
    assert checks["home"]["ok"] is False
    assert "chmod 700" in checks["home"]["remedy"]
    assert checks["vault"]["ok"] is None
    assert checks["control plane"]["ok"] is False
    assert "control plane" in answer.error["message"]


def test_a_wrong_setting_is_named_with_its_source(shell: Shell) -> None:
    shell.environment["SECURE_TRAIN_PORT"] = "many"
    answer = shell("status", "-o", "json")
    assert answer.status == 1
    assert "SECURE_TRAIN_PORT" in answer.error["message"]


def test_serve_refuses_a_database_that_is_not_migrated(shell: Shell) -> None:
    answer = shell("serve", "--port", "1")
    assert answer.status == 1
    assert "secure-train db upgrade" in answer.err


def test_the_first_administrator_is_created_once(shell: Shell) -> None:
    assert shell("db", "upgrade").status == 0
    first = shell("db", "first-admin")
    assert first.out.strip().startswith("st_")
    second = shell("db", "first-admin", "-o", "json")
    assert second.status == 1
    assert "token" in second.error["hint"]
    assert first.out.strip() not in json.dumps(second.json)
    assert stat.S_IMODE(shell.home.stat().st_mode) == 0o700
