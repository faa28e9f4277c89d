"""The DP statement says what was run."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from secure_train.dp import (
    AuditMethod,
    Clipping,
    DPStatement,
    EmpiricalAudit,
    EvaluationRelease,
    InvalidParameterError,
    Mechanism,
    build_statement,
    epsilon,
    epsilon_replace_one,
    with_audit,
)

MECHANISM, DELTA = Mechanism(1.2, 0.02, 200), 1e-5


def build(**changes):
    return build_statement(
        MECHANISM,
        DELTA,
        **{
            "max_grad_norm": 0.5,
            "clipping": Clipping.FLAT,
            "expected_batch_size": 100.0,
            "workers": 4,
            "public_inputs": {"rows": 5000, "label categories": ["no", "yes"]},
            "evaluations": (
                EvaluationRelease(name="epoch 1", epsilon=0.1),
                EvaluationRelease(name="final", epsilon=0.3),
            ),
        }
        | changes,
    )


def test_a_statement_carries_both_adjacencies_and_adds_evaluations():
    statement = build()
    for loss, training in (
        (statement.guarantee, epsilon(MECHANISM, DELTA)),
        (statement.guarantee_replace_one, epsilon_replace_one(MECHANISM, DELTA)),
    ):
        assert loss.training_epsilon == training
        assert loss.total_epsilon == pytest.approx(training + 0.4)
        assert loss.delta == DELTA
    assert statement.guarantee.adjacency == "add-or-remove-one"
    assert statement.guarantee_replace_one.adjacency == "replace-one"


def test_a_statement_names_every_parameter_of_the_claim():
    document = build().model_dump(mode="json")
    assert document["unit_of_privacy"] == "record"
    assert (document["noise_multiplier"], document["sampling_rate"], document["steps"]) == (1.2, 0.02, 200)
    assert (document["max_grad_norm"], document["expected_batch_size"], document["workers"]) == (
        0.5,
        100.0,
        4,
    )
    assert document["sampler_run"] == document["sampler_assumed"]
    assert document["accountant"]["version"]
    assert document["accountant"]["cross_check_rdp"] >= document["guarantee"]["training_epsilon"]
    assert "Mironov" in document["float_caveat"]
    assert document["assumptions"]


def test_a_statement_survives_json():
    statement = build()
    assert DPStatement.model_validate(json.loads(json.dumps(statement.model_dump(mode="json")))) == statement


def test_a_statement_is_a_pure_function_of_the_numbers():
    assert build() == build()


def test_a_statement_without_the_row_count_is_refused():
    with pytest.raises(InvalidParameterError, match="rows"):
        build(public_inputs={})


def test_an_evaluation_without_a_price_is_refused():
    with pytest.raises(ValueError, match="epsilon"):
        EvaluationRelease(name="free", epsilon=0.0)


def audit(**changes):
    return EmpiricalAudit(
        **{
            "method": AuditMethod.CANARY,
            "epsilon_lower_bound": 0.4,
            "epsilon_claimed": 1.0,
            "delta": DELTA,
            "confidence": 0.95,
            "refuted": False,
            "noise_multiplier": 1.2,
            "sampling_rate": 0.02,
            "steps": 200,
            "max_grad_norm": 0.5,
            "workers": 4,
            "experiments": 1000,
            "seed": None,
            "version": "0.1.0",
            "at": datetime(2026, 11, 24, tzinfo=UTC),
        }
        | changes
    )


def test_everything_that_was_released_is_listed():
    released = build().released
    assert any("model" in item for item in released)
    assert "evaluation: epoch 1" in released
    assert "evaluation: final" in released


def test_an_audit_of_the_same_mechanism_becomes_part_of_the_statement():
    statement = with_audit(build(), audit())
    assert statement.empirical_audit == audit()
    assert DPStatement.model_validate_json(statement.model_dump_json()) == statement


def test_an_audit_of_another_mechanism_is_refused_and_every_difference_named():
    with pytest.raises(InvalidParameterError, match=r"steps is 200 .* 300 .*; workers is 4"):
        with_audit(build(), audit(steps=300, workers=1))
