"""The demo's acts, one after the other. Everything goes through the API, as anybody's work does."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from secure_train.audit import AuditError, ExportReport, verify_export
from secure_train.cli.demo.cast import CONFIDENTIAL, PROJECT, Cast, gather
from secure_train.cli.demo.result import DemoResult
from secure_train.cli.demo.saboteur import Saboteur
from secure_train.cli.errors import CliError
from secure_train.cli.examples import example
from secure_train.cli.follow import Follower, Say, failure, live_view
from secure_train.client import ApiError
from secure_train.spec import load_job, load_schema
from secure_train.wire.data import DatasetView, NewDataset
from secure_train.wire.evidence import DecisionView
from secure_train.wire.jobs import JobDetail

JOB = "adult/job.yaml"
SCHEMA = "adult/adult.schema.yaml"
ROWS = "data/adult.csv"
PURPOSE = "income-statistics"
UNLAWFUL_PURPOSE = "credit-scoring"
BUDGET_EPSILON, BUDGET_DELTA = 10.0, 1e-4


class DemoFailed(CliError):
    """Something that the demo is to show did not happen."""

    code = "demo_failed"


def run_demo(
    url: str, admin_token: str, target: Path, say: Say, started: float
) -> tuple[DemoResult, dict[str, str]]:
    """Run the demo against a new control plane and write report and export into ``target``.

    ``started`` is when the demo began, by ``time.monotonic``. Returns the result, and everybody's tokens.

    Raises:
        DemoFailed: something that it is to show did not happen.
        JobFailed: the job did not succeed.
    """
    with gather(url, admin_token) as cast:
        dataset = _register(cast)
        size = dataset.versions[-1]
        say(
            f"user:olivia registered {dataset.name}: {size.training_rows + size.holdout_rows} rows, sealed; "
            f"its budget is ε {BUDGET_EPSILON:g}"
        )
        detail = _train(cast, say)
        denial, denied = _refused(cast)
        say(f"user:erin asked to train for {UNLAWFUL_PURPOSE!r} and was denied: {denial}")
        target.mkdir(parents=True, exist_ok=True)
        report, export = target / "report.html", target / "audit.jsonl"
        report.write_bytes(cast.engineer.report(detail.job.id))
        cast.admin.verify_audit()
        trail = _export(cast, export)
        result = DemoResult(
            job=detail,
            denied=denied,
            denial=denial,
            trail=trail,
            export=export,
            report=report,
            seconds=time.monotonic() - started,
        )
        return result, cast.tokens


def _register(cast: Cast) -> DatasetView:
    schema = load_schema(example(SCHEMA))
    new = NewDataset(
        name="adult",
        project=PROJECT,
        purposes=[PURPOSE],
        classification=CONFIDENTIAL,
        budget_epsilon=BUDGET_EPSILON,
        budget_delta=BUDGET_DELTA,
        data_schema=schema.model_dump(mode="json", by_alias=True, exclude_none=True),
        format="csv",
    )
    with example(ROWS).open("rb") as rows:
        return cast.owner.register_dataset(new, rows)


def _train(cast: Cast, say: Say) -> JobDetail:
    job = load_job(example(JOB))
    spec = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    view = cast.engineer.submit(spec, idempotency_key=secrets.token_hex(16))
    say(
        f"user:erin submitted {view.id}: ε {view.epsilon:g}, {view.steps} steps, "
        f"{job.resources.workers} workers"
    )
    saboteur = Saboteur(cast.engineer, say)
    with live_view() as shown:
        ended = Follower(cast.engineer, view.id, shown).until_end(on_change=saboteur.watch)
    failed = failure(ended)
    if failed is not None:
        raise failed
    if saboteur.victim is None:
        raise DemoFailed("the job ended before a worker could be killed")
    detail = cast.engineer.job(view.id)
    if not detail.recoveries:
        raise DemoFailed("a worker was killed, and yet no recovery is recorded")
    return detail


def _refused(cast: Cast) -> tuple[str, DecisionView]:
    """Ask for something that the data's owner does not permit."""
    job = load_job(example(JOB), overrides=[f"metadata.purpose={UNLAWFUL_PURPOSE}"])
    try:
        cast.engineer.submit(
            job.model_dump(mode="json", by_alias=True, exclude_none=True),
            idempotency_key=secrets.token_hex(16),
        )
    except ApiError as error:
        if error.body.code != "denied_by_policy" or error.body.decision_id is None:
            raise
        return error.body.message, cast.engineer.decision(error.body.decision_id)
    raise DemoFailed(f"a job for {UNLAWFUL_PURPOSE!r} was accepted, which the data's owner does not permit")


def _export(cast: Cast, target: Path) -> ExportReport:
    with target.open("wb") as file:
        cast.admin.export_audit(file)
    # The key is taken from the control plane, not from the file: the file's own would prove nothing.
    key = cast.admin.audit_checkpoint().verifier_key
    try:
        return verify_export(target, verifier=key)
    except AuditError as error:
        raise DemoFailed(f"{target} does not verify: {error}") from error
