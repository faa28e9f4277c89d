"""``privacy``: on one's own machine, without a control plane."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from cli_shell import EXAMPLES


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """Three features and a yes-or-no target."""
    file = tmp_path_factory.mktemp("schema") / "small.schema.yaml"
    columns = ", ".join(f"{{name: x{i}, kind: numeric, lower: 0, upper: 1}}" for i in range(3))
    file.write_text(
        f"columns: [{columns}]\ntarget: {{name: y, task: binary, classes: ['no', 'yes'], positive: 'yes'}}\n"
    )
    return file


def test_an_audit_tells_the_claim_what_was_shown_and_that_they_are_consistent(shell):
    found = shell("privacy", "audit", "--sigma", "1.2", "--workers", "2", "--seed", "1", "-o", "json").data
    assert 0.2 * found["epsilon_claimed"] < found["epsilon_lower_bound"] <= found["epsilon_claimed"]
    assert found["refuted"] is False
    assert found["experiments"] == 1000


@pytest.mark.slow
def test_an_audit_takes_the_mechanism_of_a_job(shell):
    small = ("--set", "training.epochs=1", "--rows", "5000", "--runs", "200", "-o", "json")
    found = shell("privacy", "audit", "--spec", EXAMPLES / "adult/job.yaml", *small).data
    assert found["sampling_rate"] == 1024 / 5000
    assert found["steps"] == 5
    assert (found["max_grad_norm"], found["workers"]) == (3.0, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --spec"),
        (("--sigma", "-1"), "noise_multiplier"),
        (("--sigma", "1", "--method", "magic"), "canary"),
    ],
)
def test_what_cannot_be_audited_is_said(shell, arguments, said):
    answer = shell("privacy", "audit", *arguments)
    assert answer.status == 2
    assert said in answer.err


def test_a_curve_on_made_up_rows_says_that_its_values_mean_nothing(shell, schema):
    job = ("--spec", EXAMPLES / "adult/job.yaml", "--schema", schema)
    small = ("--rows", "2000", "--set", "training.steps=8", "--set", "training.epochs=null")
    plot = shell.folder / "curve.html"
    answer = shell(
        "privacy", "curve", *job, *small, "--epsilon", "1,8", "--seed", "1", "--plot", plot, "-o", "json"
    )
    found = answer.data
    assert found["synthetic"] is True
    assert [point["epsilon"] for point in found["points"]] == [1.0, 8.0, None]
    assert found["points"][0]["noise_multiplier"] > found["points"][1]["noise_multiplier"]
    assert "mean nothing" in answer.err
    page = plot.read_text()
    assert "mean nothing" in page
    assert "<svg" in page
    assert "<script" not in page


@pytest.mark.slow
def test_a_curve_on_public_rows_is_a_drawing_that_stands_alone(shell):
    plot = shell.folder / "curve.svg"
    small = ("--set", "training.epochs=1", "--epsilon", "0.05,8", "--seed", "1", "--plot", plot)
    found = shell("privacy", "curve", "--example", "adult", *small, "-o", "json").data
    assert (found["source"], found["synthetic"], found["rows"]) == ("adult.csv", False, 26049)
    low, high, plain = (point["mean"] for point in found["points"])
    assert low < high
    assert abs(high - plain) < 0.05
    drawing = ElementTree.parse(plot).getroot()  # noqa: S314  (just written)
    assert drawing.tag.endswith("svg")
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}circle"))) == 2


def test_rows_that_do_not_fit_the_schema_are_refused_with_their_place(shell, schema):
    rows = shell.folder / "rows.csv"
    rows.write_text("x0,x1,x2,y\n0.1,0.2,0.3,maybe\n")
    answer = shell(
        "privacy",
        "curve",
        "--spec",
        EXAMPLES / "adult/job.yaml",
        "--schema",
        schema,
        "--data",
        rows,
        "-o",
        "json",
    )
    assert answer.status == 2
    assert "line 2" in json.dumps(answer.error, ensure_ascii=False)
