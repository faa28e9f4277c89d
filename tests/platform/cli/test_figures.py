"""What people read: figures with their meaning, and lists that fit their terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from secure_train.cli.commands.models import _write_csv
from secure_train.cli.figures import metric_facts, recovery_text
from secure_train.cli.output import facts, note_more, rows
from secure_train.cli.plans import plan_yaml
from secure_train.wire.jobs import RecoveryView
from secure_train.wire.models import Prediction

JOB = "job_06h0lf3dfhi7l8n0kn5839k04k"
NOISY = {
    "accuracy": 0.8501228501228502,
    "accuracy_scale": 0.0015356265356265355,
    "loss": 0.3184459508197606,
    "loss_scale": 0.0061426935969172295,
    "rows": 6512,
    "bound": 4.0,
    "exact": False,
}


def printed(width: int, lines: list[tuple[object, ...]]) -> list[str]:
    screen = io.StringIO()
    to = Console(file=screen, width=width)
    rows("Events", ("seq", "type", "actor", "subject"), lines, "none", lead=2)(to)
    return screen.getvalue().splitlines()


def test_metrics_are_told_with_their_noise_and_meaning() -> None:
    assert metric_facts(NOISY) == [
        ("accuracy", "85.0 % ± 0.5 points (95 % of its noise) over 6512 held-out rows"),
        (
            "loss",
            "0.3184 ± 0.018 (95 % of its noise) over 6512 held-out rows (mean log loss, 4 at most)",
        ),
    ]
    exact = {"error": 1.25, "rows": 10, "bound": 3.0, "exact": True}
    assert metric_facts(exact) == [
        ("error", "1.25 (exact) over 10 held-out rows (mean absolute error, 3 at most)")
    ]
    assert metric_facts({}) == []


@pytest.mark.parametrize(
    ("last", "restored", "wanted"),
    [(162, 150, "repeating 12 steps or a few more"), (200, 200, "repeating at most a few steps")],
)
def test_a_recovery_does_not_claim_to_know_where_a_worker_died(last: int, restored: int, wanted: str) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    told = recovery_text(
        RecoveryView(
            cause="worker 1: its process died",
            last_step=last,
            restored_step=restored,
            steps_repeated=last - restored,
            seconds=13.1,
            detected_at=moment,
            resumed_at=moment,
        )
    )
    assert f"at step {last} or a little later" in told
    assert wanted in told


def test_an_id_is_never_broken_over_lines() -> None:
    lines: list[tuple[object, ...]] = [
        (seq, "policy.decision", f"job:{JOB}", f"checkpoint:{JOB}") for seq in (7, 8)
    ]
    wide, narrow = printed(120, lines), printed(60, lines)
    assert len(wide) == 4
    assert narrow[:4] == [
        "Events",
        "7  policy.decision",
        f"  actor job:{JOB}",
        f"  subject checkpoint:{JOB}",
    ]
    assert printed(20, lines)[2] == f"  actor job:{JOB}"


def test_a_long_value_goes_on_below_itself() -> None:
    screen = io.StringIO()
    facts(
        [("job", "income"), ("state", "failed: one two three four five six")], Console(file=screen, width=28)
    )
    assert screen.getvalue().splitlines() == [
        "job    income",
        "state  failed: one two three",
        "       four five six",
    ]


def test_a_list_that_is_whole_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    note_more([1, 2], 2, "--limit lists more")
    assert capsys.readouterr().err == ""
    note_more([1, 2, 3], 2, "--limit lists more")
    assert capsys.readouterr().err == "there are more than these 2: --limit lists more\n"


def test_predictions_are_csv_that_any_program_reads() -> None:
    target = io.StringIO()
    _write_csv(
        Prediction(model="m", version=1, columns=["a,b", "c"], rows=[[0.25, 0.75]], labels=["c"]), target
    )
    assert target.getvalue() == 'row,"a,b",c,label\n1,0.2500,0.7500,c\n'


def test_a_resolved_specification_has_nothing_empty_in_it() -> None:
    spec = {"metadata": {"name": "income", "labels": {}}, "training": {"steps": None, "lr": 1e-5}}
    assert plan_yaml(spec) == "metadata: {name: income}\ntraining: {lr: 1.0e-05}\n"
