"""The page of a DP statement tells everything that the statement does."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from secure_train.api.report.statement_page import render_statement
from secure_train.dp import (
    AuditMethod,
    Clipping,
    DatasetSpend,
    DPStatement,
    EmpiricalAudit,
    EvaluationRelease,
    Mechanism,
    Tuning,
    build_statement,
    with_audit,
)

AT = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
SPEND = DatasetSpend(
    dataset="census/adult",
    composition="rdp-filter",
    epsilon=4.25,
    epsilon_replace_one=9.5,
    delta=1e-5,
    budget_epsilon=10,
    jobs=3,
    at=AT,
)


@pytest.fixture(scope="module")
def statement() -> DPStatement:
    return build_statement(
        Mechanism(1.3, 0.04, 306),
        1e-5,
        max_grad_norm=3.0,
        clipping=Clipping.FLAT,
        expected_batch_size=1024,
        workers=2,
        public_inputs={"rows": 26049, "bounds of <age>": "[17, 90]", "categories of sex": ["Female", "Male"]},
        evaluations=[EvaluationRelease(name="step 306", epsilon=0.4)],
    )


def audit(*, refuted: bool) -> EmpiricalAudit:
    return EmpiricalAudit(
        method=AuditMethod.NEIGHBOUR,
        epsilon_lower_bound=1.875,
        epsilon_claimed=2.6,
        delta=1e-5,
        confidence=0.95,
        refuted=refuted,
        noise_multiplier=1.3,
        sampling_rate=0.04,
        steps=306,
        max_grad_norm=3.0,
        workers=2,
        experiments=10_000,
        seed=None,
        version="0.1.0",
        at=AT,
    )


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_every_disclosure_of_the_standard_is_on_the_page(statement):
    page = text_of(render_statement("census/income@1", statement))
    for disclosure in (
        "Unit of privacy",
        "ε, add or remove one",
        "ε, replace one",
        "δ",
        "Mechanism",
        "Clipping norm C",
        "Clipping",
        "Noise multiplier σ",
        "Sampling rate q",
        "Steps T",
        "Sampler that ran",
        "Sampler assumed",
        "Randomness",
        "Floating point",
        "Accountant",
        "Cross-checks",
        "Empirical audit",
        "Hyperparameter tuning",
        "Spent on the dataset",
        "evaluation: step 306",
        "checkpoints",
        "Taken as public",
    ):
        assert disclosure in page


def test_what_was_not_done_is_said_plainly(statement):
    page = text_of(render_statement("census/income@1", statement))
    assert "not run" in page
    assert "no search was charged" in page
    assert "not told" in page


def test_audit_tuning_and_spending_are_told_where_they_are_known(statement):
    tuning = Tuning(search="sweep-7", method="all trials charged", trials_charged=12, epsilon=2.0)
    known = with_audit(statement, audit(refuted=False)).model_copy(
        update={"tuning": tuning, "dataset_spend": SPEND}
    )
    page = text_of(render_statement("census/income@1", known))
    assert "ε at least 1.875, consistent with the claim" in page
    assert "12 trials charged" in page
    assert "ε 4.25 of 10" in page
    assert "2026-11-24 08:30:00 UTC" in page


def test_a_refuted_claim_is_not_hidden(statement):
    refuted = with_audit(statement, audit(refuted=True))
    assert "REFUTES the claim" in text_of(render_statement("census/income@1", refuted))


def test_the_page_needs_nothing_from_outside_and_escapes_names(statement):
    page = render_statement("census/<b>income</b>@1", statement)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<script" not in page
    assert "<b>" not in page
    assert "bounds of <age>" not in page
