"""The commands against a control plane, as the people who use them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_shell import EXAMPLES, Shell

from secure_train.spec import TrainingJob, job_from_json, load_job

REGISTER = [
    "--project",
    "census",
    "--purpose",
    "statistics",
    "--budget-epsilon",
    "3",
    "--budget-delta",
    "1e-5",
]


def load_job_text(text: str) -> TrainingJob:
    return job_from_json(yaml.safe_load(text))


def test_login_takes_the_token_from_stdin_and_keeps_it_private(shell: Shell, server: Any) -> None:
    token = server.tokens["user:erin"]
    address = server.url.removeprefix("http://")
    answer = shell("login", "--url", address, "--name", "work", stdin=f"{token}\n")
    assert answer.status == 0
    assert "user:erin" in answer.out
    assert token not in answer.out + answer.err
    contexts = shell.config / "contexts.toml"
    assert contexts.stat().st_mode & 0o777 == 0o600
    listed = shell("context", "list", "-o", "json")
    assert listed.data == [{"name": "work", "user": "user:erin", "url": server.url, "current": True}]
    used = shell("context", "use", "work")
    assert used.err == f"now user:erin at {server.url} (context work)\n"
    assert shell("jobs", "list").status == 0
    unknown = shell("context", "use", "elsewhere")
    assert (unknown.status, unknown.out) == (2, "")
    assert "work" in unknown.err


def test_a_revoked_token_is_4(admin: Shell, server: Any, tmp_path: Path) -> None:
    person = "user:mallory"
    created = admin(
        "people", "create", person, "--role", "engineer", "--project", "census", "-o", "json"
    ).data
    assert created[0]["roles"] == ["engineer"]
    issued = admin("people", "token", person, "--days", "1", "-o", "json").data
    mallory = Shell(tmp_path, SECURE_TRAIN_URL=server.url, SECURE_TRAIN_TOKEN=issued["secret"])
    assert mallory("projects", "list", "-o", "json").data[0]["id"] == "census"
    assert admin("people", "revoke", person, issued["token"]["id"]).status == 0
    answer = mallory("projects", "list", "-o", "json")
    assert answer.status == 4
    assert answer.error["code"] == "not_authenticated"


def test_a_wrong_name_is_refused_before_anything_is_sent(admin: Shell) -> None:
    answer = admin("people", "create", "bob", "-o", "json")
    assert answer.status == 2
    assert "'bob' must be user:NAME or service:NAME" in answer.error["message"]
    assert "pattern" not in answer.error["message"]


def test_an_inferred_schema_must_be_confirmed(olivia: Shell, some_rows: Path) -> None:
    answer = olivia("data", "register", some_rows, "--name", "inferred", "--target", "income", *REGISTER)
    assert (answer.status, answer.out) == (2, "")
    assert "lower and upper of age" in answer.err
    assert "--schema" in answer.err
    assert "--yes" in answer.err
    data = olivia(
        "data",
        "register",
        some_rows,
        "--name",
        "inferred",
        "--target",
        "income",
        "--yes",
        "-o",
        "json",
        *REGISTER,
    ).data
    assert data["versions"][0]["training_rows"] + data["versions"][0]["holdout_rows"] == 3000
    assert data["owner"] == "user:olivia"
    again = olivia(
        "data",
        "register",
        some_rows,
        "--name",
        "inferred",
        "--target",
        "income",
        "--yes",
        "-o",
        "json",
        *REGISTER,
    )
    assert (again.status, again.error["code"]) == (1, "conflict")


def test_a_draft_is_a_schema_that_can_be_given_back(shell: Shell, some_rows: Path, tmp_path: Path) -> None:
    from secure_train.spec import load_schema

    answer = shell("data", "draft", some_rows, "--target", "income")
    assert answer.status == 0
    assert load_schema(answer.out).target.name == "income"
    missing = shell("data", "draft", some_rows, "--target", "salary")
    assert missing.status == 2
    assert "salary" in missing.err


def test_bad_rows_are_reported_with_their_lines(olivia: Shell, tmp_path: Path) -> None:
    lines = (EXAMPLES / "data" / "adult.csv").read_text("utf-8").splitlines()[:200]
    lines[41] = lines[41].replace(lines[41].split(",")[0], "unknown", 1)
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join(lines) + "\n", "utf-8")
    schema = EXAMPLES / "adult" / "adult.schema.yaml"
    answer = olivia("data", "register", bad, "--name", "bad", "--schema", schema, "-o", "json", *REGISTER)
    assert answer.status == 2
    assert [(d["line"], d["path"]) for d in answer.error["details"]] == [(42, "age")]


def test_a_column_that_the_schema_lacks_is_named(olivia: Shell, some_rows: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(some_rows.read_text("utf-8").replace("age,", "aeg,", 1), "utf-8")
    schema = EXAMPLES / "adult" / "adult.schema.yaml"
    answer = olivia("data", "register", renamed, "--name", "renamed", "--schema", schema, *REGISTER)
    assert answer.status == 2
    assert "column 'age' is missing from the file" in answer.err
    assert "has a column that is not in the schema: 'aeg'" in answer.err


def test_a_dry_run_shows_cost_and_decision_and_submits_nothing(erin: Shell, job_file: Path) -> None:
    before = erin("jobs", "list", "-o", "json").data
    plan = erin("submit", job_file, "--dry-run", "-o", "json").data
    assert plan["allowed"] is True
    assert plan["fits_budget"] is True
    assert plan["noise_multiplier"] > 0
    assert plan["epsilon"] == 3.0
    assert plan["training_epsilon"] + plan["evaluation_epsilon"] == pytest.approx(plan["epsilon"])
    people = erin("submit", job_file, "--dry-run")
    assert f"{plan['noise_multiplier']:.4f}" in people.out
    resolved, cost = people.out.split("\n\n")
    assert load_job_text(resolved) == load_job(job_file)
    assert "None" not in people.out
    assert "allowed by engineer-submits-jobs" in cost
    assert erin("jobs", "list", "-o", "json").data == before


def test_a_working_directory_outside_the_job_files_folder_is_not_sent(erin: Shell, tmp_path: Path) -> None:
    before = erin("jobs", "list", "-o", "json").data
    (tmp_path / "job").mkdir()
    (tmp_path / "secret.py").write_text("KEY = 1\n")
    text = (EXAMPLES / "custom-model" / "job.yaml").read_text("utf-8")
    file = tmp_path / "job" / "job.yaml"
    for outside in ("..", "../.", str(tmp_path)):
        file.write_text(re.sub(r"workingDir: .*", f"workingDir: {outside}", text), "utf-8")
        answer = erin("submit", file, "-o", "json")
        assert answer.status == 2
        assert "workingDir" in answer.out
    (tmp_path / "job" / "code").symlink_to(tmp_path)
    file.write_text(re.sub(r"workingDir: .*", "workingDir: code", text), "utf-8")
    error = erin("submit", file, "-o", "json").error
    assert "lies outside" in error["message"]
    assert error["hint"]
    assert erin("jobs", "list", "-o", "json").data == before


def test_a_dry_run_of_what_would_be_denied_is_3_with_plan_and_reason(erin: Shell, job_file: Path) -> None:
    answer = erin("submit", job_file, "--dry-run", "--set", "metadata.purpose=marketing", "-o", "json")
    assert answer.status == 3
    assert answer.json["data"]["allowed"] is False
    assert answer.error["code"] == "denied"
    assert answer.json["data"]["decision_id"] in answer.error["hint"]


def test_a_denied_submission_is_3_and_can_be_explained(erin: Shell, job_file: Path) -> None:
    answer = erin("submit", job_file, "--set", "metadata.purpose=marketing", "-o", "json")
    assert answer.status == 3
    error = answer.error
    assert error["code"] == "denied_by_policy"
    assert error["reason"] == "purpose-not-allowed"
    assert error["decision_id"] in error["hint"]
    explained = erin("policy", "explain", error["decision_id"], "-o", "json").data
    assert explained["result"] == "deny"
    assert explained["request"]["context"]["purpose"] == "marketing"
    people = erin("submit", job_file, "--set", "metadata.purpose=marketing")
    assert (people.status, people.out) == (3, "")
    assert "secure-train policy explain dec_" in people.err
    assert "may not job:submit dataset:census/adult: purpose-not-allowed" in people.err


def test_what_exceeds_the_budget_is_3_with_what_is_left_and_what_would_fit(
    olivia: Shell, erin: Shell, job_file: Path
) -> None:
    large = ("submit", job_file, "--set", "privacy.epsilon=7.5", "-o", "json")
    held = []
    while (refused := erin(*large)).status == 0:
        held.append(refused.data["id"])
        assert len(held) < 5, "a budget of ε 10 holds no five jobs of ε 7.5"
    assert held
    assert (refused.status, refused.error["code"]) == (3, "denied_by_budget")
    said = refused.error["message"]
    assert "the job costs ε 7.5 by itself (δ 1e-05); the budget of dataset 'adult' is ε 10 (δ 0.0001)" in said
    fitting = re.search(r"privacy\.epsilon up to ([0-9.]+) would fit", said)
    assert fitting is not None
    planned = erin(*large, "--dry-run")
    assert planned.status == 3
    assert planned.json["data"]["fitting_epsilon"] == float(fitting[1])
    assert planned.error["message"] in said
    assert f"privacy.epsilon up to {fitting[1]} would fit" in planned.error["hint"]
    shown = erin("data", "budget", "show", "census/adult", "-o", "json").data
    assert shown["fit"]["epsilon"] == float(fitting[1])
    assert 0 < shown["reserved_epsilon"] <= 10
    smaller = erin("submit", job_file, "--set", f"privacy.epsilon={fitting[1]}", "-o", "json")
    assert smaller.status == 0, smaller.out
    people = olivia("data", "budget", "show", "census/adult").out
    assert "0 spent" in people
    assert "▒▒" in people
    assert "no ε would fit" in people or "could have ε ≤" in people
    for job in (*held, smaller.data["id"]):
        assert job in people
        assert erin("jobs", "cancel", job, "-o", "json").data["state"] == "cancelled"


def test_a_budget_is_raised_and_divided_by_its_owner_with_a_reason(
    olivia: Shell, erin: Shell, job_file: Path
) -> None:
    why = ("--reason", "approved by the board")
    denied = erin("data", "budget", "set", "census/adult", "--epsilon", "20", *why, "-o", "json")
    assert (denied.status, denied.error["code"]) == (3, "denied_by_policy")
    raised = olivia("data", "budget", "set", "census/adult", "--epsilon", "12", *why, "-o", "json").data
    assert (raised["epsilon"], raised["changes"][-1]["reason"]) == (12.0, "approved by the board")
    part = ("--project", "census", "--epsilon", "4.6")
    divided = olivia("data", "budget", "allocate", "census/adult", *part, *why, "-o", "json").data
    assert [(one["project"], one["epsilon"]) for one in divided["allocations"]] == [("census", 4.6)]
    refused = erin("submit", job_file, "--set", "privacy.epsilon=6", "-o", "json")
    assert (
        "the part of project 'census' in the budget of dataset 'adult' is ε 4.6" in refused.error["message"]
    )
    assert olivia("data", "budget", "allocate", "census/adult", *part[:3], "12", *why).status == 0
    back = olivia("data", "budget", "set", "census/adult", "--epsilon", "10", *why, "-o", "json")
    assert (back.status, back.error["code"]) == (1, "conflict")
    assert "has a part of ε 12" in back.error["message"]
    people = olivia("data", "budget", "show", "census/adult").out
    for text in ("Parts of projects", "whole budget", "part of census", "approved by the board"):
        assert text in people
    assert olivia("data", "budget", "allocate", "census/adult", *part[:3], "10", *why).status == 0
    assert olivia("data", "budget", "set", "census/adult", "--epsilon", "10", *why).status == 0


def test_the_life_of_a_queued_job(erin: Shell, job_file: Path) -> None:
    submitted = erin("submit", job_file, "--idempotency-key", "life")
    job = submitted.out.strip()
    assert submitted.status == 0
    assert submitted.out == f"{job}\n"
    assert f"secure-train jobs logs -f {job}" in submitted.err
    assert erin("submit", job_file, "--idempotency-key", "life").out.strip() == job
    waited = erin("submit", job_file, "--idempotency-key", "life", "--wait", "--timeout", "1", "-o", "json")
    assert waited.status == 5
    assert waited.error["code"] == "timed_out"
    assert waited.json["data"]["id"] == job
    shown = erin("jobs", "show", job)
    assert "income" in shown.out
    assert erin("jobs", "logs", job, "-o", "json").data[0]["message"].startswith("submitted by user:erin")
    followed = erin.start("jobs", "logs", "-f", job)
    time.sleep(1)
    assert followed.poll() is None
    assert erin("jobs", "cancel", job).out == f"{job} cancelled\n"
    out, err = followed.communicate()
    assert followed.returncode == 1
    assert "submitted by user:erin" in out
    assert "cancelled" in err
    ended = erin("submit", job_file, "--idempotency-key", "life", "--follow", "-o", "json")
    assert ended.status == 1
    assert ended.error["code"] == "job_failed"
    assert ended.json["data"]["state"] == "cancelled"
    report = erin("jobs", "report", job, "--output", "report.html")
    assert report.out == "report.html\n"
    assert job in (erin.folder / "report.html").read_text("utf-8")
    assert erin("jobs", "show", "job_nothing", "-o", "json").status == 3


def test_wait_and_follow_exclude_each_other(erin: Shell, job_file: Path) -> None:
    assert erin("submit", job_file, "--wait", "--follow").status == 2


def test_an_export_verifies_offline_and_a_changed_one_does_not(admin: Shell, shell: Shell) -> None:
    written = admin("audit", "export", "--to", "audit.jsonl")
    assert written.out == "audit.jsonl\n"
    key = admin("audit", "prove", "0", "-o", "json").data["checkpoint"]["verifier_key"]
    offline = Shell(admin.folder)
    verified = offline("audit", "verify", "audit.jsonl", "--key", key, "-o", "json").data
    assert verified["verified"] is True
    assert verified["complete"] is True
    content = (admin.folder / "audit.jsonl").read_text("utf-8")
    (admin.folder / "audit.jsonl").write_text(content.replace("user:erin", "user:eric", 1), "utf-8")
    changed = offline("audit", "verify", "audit.jsonl", "--key", key, "-o", "json")
    assert changed.status == 1
    assert changed.error["code"] == "tampered"


def test_the_trail_is_held_against_the_checkpoint_that_was_kept(admin: Shell) -> None:
    first = admin("audit", "verify", "-o", "json").data
    second = admin("audit", "verify", "-o", "json").data
    assert second["events"] > first["events"]
    (kept,) = (admin.config / "checkpoints").iterdir()
    origin, size, root, *rest = kept.read_text("utf-8").split("\n")
    forged = root[:-2] + ("A=" if root[-2] != "A" else "B=")
    kept.write_text("\n".join([origin, size, forged, *rest]), "utf-8")
    answer = admin("audit", "verify", "-o", "json")
    assert answer.status == 1
    assert answer.error["code"] == "tampered"


def test_events_are_filtered_by_type_and_time(admin: Shell) -> None:
    created = admin("audit", "list", "--type", "principal.created", "-o", "json").data
    assert {event["type"] for event in created} == {"principal.created"}
    since = admin("audit", "list", "--since", "2999-01-01T00:00+01:00", "-o", "json")
    assert since.data == []
    wrong = admin("audit", "list", "--since", "yesterday")
    assert wrong.status == 2
    assert "--since" in wrong.err


def test_a_list_that_is_cut_says_so_and_how_to_go_on(admin: Shell) -> None:
    first = admin("audit", "list", "--limit", "2")
    assert "there are more than these 2: --after 1 goes on from there" in first.err
    rest = admin("audit", "list", "--after", "1", "--limit", "1", "-o", "json")
    assert [event["seq"] for event in rest.data] == [2]
    whole = admin("audit", "list", "--type", "project.created")
    assert whole.err == ""


def test_a_name_that_one_may_not_see_is_told_as_one_that_does_not_exist(
    admin: Shell, erin: Shell, dataset: dict[str, Any], server: Any
) -> None:
    admin("people", "create", "user:nobody")
    secret = admin("people", "token", "user:nobody", "-o", "json").data["secret"]
    nobody = Shell(admin.folder, SECURE_TRAIN_URL=server.url, SECURE_TRAIN_TOKEN=secret)
    there, missing = (
        nobody("data", "show", f"census/{name}", "-o", "json").error for name in ("adult", "adlut")
    )
    assert dataset["id"] not in there["message"]
    assert there["message"].split(" (")[0].replace("adult", "adlut") == missing["message"].split(" (")[0]


def test_an_engineer_may_not_read_the_trail(erin: Shell) -> None:
    assert erin("audit", "list").status == 3


def test_keys_are_listed_without_their_secrets(admin: Shell) -> None:
    keys = admin("keys", "list", "-o", "json").data
    assert {key["kind"] for key in keys} == {"key-encryption", "signing"}
    assert not [key for key in keys if "secret" in json.dumps(key) or "private" in json.dumps(key)]


def test_policies_and_decisions_can_be_read(admin: Shell) -> None:
    assert "purpose-not-allowed" in admin("policy", "show").out
    denied = admin("policy", "decisions", "--result", "deny", "-o", "json").data
    assert {decision["result"] for decision in denied} <= {"deny"}


def test_nothing_to_list_says_what_to_do_on_stderr(erin: Shell) -> None:
    answer = erin("models", "list")
    assert (answer.status, answer.out) == (0, "")
    assert "submit" in answer.err
