"""The typed client of the REST API that the CLI, notebooks and scripts use."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from pydantic import TypeAdapter

from secure_train.client.http import Transport
from secure_train.wire.data import (
    BudgetView,
    DatasetView,
    NewDataset,
    NewDatasetVersion,
    SetAllocation,
    SetBudget,
)
from secure_train.wire.evidence import (
    AuditCheckpointView,
    AuditEventView,
    AuditVerification,
    DecisionView,
    InclusionProofView,
    KeyView,
    PolicyView,
    SystemStatus,
)
from secure_train.wire.jobs import JobDetail, JobPlan, JobView, LogLine, PlanJob, SubmitJob
from secure_train.wire.models import ModelVersionView, ModelView, Prediction, Promote
from secure_train.wire.people import (
    IssuedToken,
    NewPrincipal,
    NewProject,
    NewToken,
    PrincipalChange,
    PrincipalView,
    ProjectView,
    TokenView,
)
from secure_train.wire.searches import PlanSearch, SearchDetail, SearchPlan, SearchView, SubmitSearch

STREAM_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
"""A followed job's stream is never silent for so long, unless the control plane is lost."""

PRICING_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
"""A search's trials of different cost are priced one after another, some seconds each."""


class Client:
    """A connection to one control plane as one principal.

    Every method raises ``ApiError`` when the control plane refuses, and ``ServerUnreachable`` when it
    does not answer.
    """

    def __init__(self, url: str, token: str) -> None:
        self._transport = Transport(url, lambda: token)
        self.url = self._transport.url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # People

    def whoami(self) -> PrincipalView:
        """Return the principal that the token belongs to."""
        return self._transport.call("GET", "/whoami", PrincipalView)

    def login(self) -> PrincipalView:
        """Confirm that the token works, and have the login recorded."""
        return self._transport.call("POST", "/login", PrincipalView)

    def create_project(self, project: NewProject) -> ProjectView:
        """Create a project."""
        return self._transport.call("POST", "/projects", ProjectView, json=project.model_dump())

    def projects(self) -> list[ProjectView]:
        """List the projects one may see."""
        return self._transport.call("GET", "/projects", TypeAdapter(list[ProjectView]))

    def create_principal(self, principal: NewPrincipal) -> PrincipalView:
        """Create a person or a service."""
        return self._transport.call("POST", "/principals", PrincipalView, json=principal.model_dump())

    def principals(self) -> list[PrincipalView]:
        """List the principals one may see."""
        return self._transport.call("GET", "/principals", TypeAdapter(list[PrincipalView]))

    def change_principal(self, principal: str, change: PrincipalChange) -> PrincipalView:
        """Change a principal's attributes."""
        body = change.model_dump(exclude_none=True)
        return self._transport.call("PATCH", f"/principals/{principal}", PrincipalView, json=body)

    def issue_token(self, principal: str, token: NewToken) -> IssuedToken:
        """Issue a token; its secret is in the answer and nowhere else."""
        return self._transport.call(
            "POST", f"/principals/{principal}/tokens", IssuedToken, json=token.model_dump()
        )

    def tokens(self, principal: str) -> list[TokenView]:
        """List a principal's tokens."""
        return self._transport.call("GET", f"/principals/{principal}/tokens", TypeAdapter(list[TokenView]))

    def revoke_token(self, principal: str, token: str) -> TokenView:
        """Revoke a token at once."""
        return self._transport.call("DELETE", f"/principals/{principal}/tokens/{token}", TokenView)

    # Data

    def register_dataset(self, dataset: NewDataset, rows: BinaryIO) -> DatasetView:
        """Register a dataset from an open CSV or Parquet file."""
        return self._transport.call(
            "POST",
            "/datasets",
            DatasetView,
            data={"request": dataset.model_dump_json()},
            files={"rows": rows},
            timeout=600,
        )

    def add_dataset_version(self, dataset: str, version: NewDatasetVersion, rows: BinaryIO) -> DatasetView:
        """Add an immutable version to a dataset."""
        return self._transport.call(
            "POST",
            f"/datasets/{dataset}/versions",
            DatasetView,
            data={"request": version.model_dump_json()},
            files={"rows": rows},
            timeout=600,
        )

    def datasets(self) -> list[DatasetView]:
        """List the datasets one may read."""
        return self._transport.call("GET", "/datasets", TypeAdapter(list[DatasetView]))

    def dataset(self, dataset: str) -> DatasetView:
        """Return a dataset, by id or by ``project/name``."""
        return self._transport.call("GET", f"/datasets/{dataset}", DatasetView)

    def budget(self, dataset: str, **wish: str | float | None) -> BudgetView:
        """Return a dataset's privacy budget, who holds or spent it, and which ε one more job could have.

        ``wish``: project, batch_size, steps, delta, evaluation_epsilon of that job; else as in the last one.
        """
        params = {name: value for name, value in wish.items() if value is not None}
        return self._transport.call("GET", f"/datasets/{dataset}/budget", BudgetView, params=params)

    def set_budget(self, dataset: str, epsilon: float, reason: str) -> BudgetView:
        """Set a dataset's ε."""
        body = SetBudget(epsilon=epsilon, reason=reason)
        return self._transport.call("PUT", f"/datasets/{dataset}/budget", BudgetView, json=body.model_dump())

    def allocate_budget(self, dataset: str, project: str, epsilon: float, reason: str) -> BudgetView:
        """Set a project's part of a dataset's ε."""
        body = SetAllocation(project=project, epsilon=epsilon, reason=reason)
        path = f"/datasets/{dataset}/budget/parts"
        return self._transport.call("PUT", path, BudgetView, json=body.model_dump())

    # Jobs

    def plan(self, spec: dict[str, Any]) -> JobPlan:
        """Return what a job would cost and whether it would be allowed, submitting nothing."""
        return self._transport.call("POST", "/jobs/plan", JobPlan, json=PlanJob(spec=spec).model_dump())

    def submit(self, spec: dict[str, Any], *, idempotency_key: str, workdir: bytes | None = None) -> JobView:
        """Submit a job. Repeating the call with the same key returns the same job."""
        packed = None if workdir is None else base64.b64encode(workdir).decode()
        body = SubmitJob(spec=spec, idempotency_key=idempotency_key, workdir=packed)
        return self._transport.call("POST", "/jobs", JobView, json=body.model_dump())

    def jobs(
        self,
        *,
        project: str | None = None,
        state: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[JobView]:
        """List the jobs one may read, newest first; ``after`` is the last id of the page before."""
        given = {"project": project, "state": state, "limit": limit, "after": after}
        parameters = {name: value for name, value in given.items() if value is not None}
        return self._transport.call("GET", "/jobs", TypeAdapter(list[JobView]), params=parameters)

    def job(self, job: str) -> JobDetail:
        """Return a job with its whole life."""
        return self._transport.call("GET", f"/jobs/{job}", JobDetail)

    def cancel(self, job: str) -> JobView:
        """Ask for a job to end; its unused budget goes back."""
        return self._transport.call("POST", f"/jobs/{job}/cancel", JobView)

    def resume(self, job: str) -> JobView:
        """Queue a failed or cancelled job again, from its newest checkpoint."""
        return self._transport.call("POST", f"/jobs/{job}/resume", JobView)

    def logs(self, job: str, *, after: int = -1) -> list[LogLine]:
        """Return the log lines after the given sequence number."""
        return self._transport.call(
            "GET", f"/jobs/{job}/logs", TypeAdapter(list[LogLine]), params={"after": after}
        )

    def follow(self, job: str, *, after: int = -1) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield ``(kind, message)`` until the job ends; kinds: log, progress, release, job, and alive.

        ``alive`` comes at least once a second or so, without a message.
        """
        with self._transport.stream(
            "GET", f"/jobs/{job}/stream", params={"after": after}, timeout=STREAM_TIMEOUT
        ) as response:
            kind = ""
            for line in response.iter_lines():
                if line.startswith(":"):
                    yield "alive", {}
                elif line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, json.loads(line.removeprefix("data: "))

    def report(self, job: str) -> bytes:
        """Return the job's report as one self-contained HTML page."""
        return self._transport.content("GET", f"/jobs/{job}/report")

    # Searches

    def plan_search(self, spec: dict[str, Any]) -> SearchPlan:
        """Return what a search would cost and whether it would be allowed, submitting nothing."""
        body = PlanSearch(spec=spec).model_dump()
        return self._transport.call("POST", "/searches/plan", SearchPlan, json=body, timeout=PRICING_TIMEOUT)

    def submit_search(
        self, spec: dict[str, Any], *, idempotency_key: str, workdir: bytes | None = None
    ) -> SearchView:
        """Submit a search. Repeating the call with the same key returns the same search."""
        packed = None if workdir is None else base64.b64encode(workdir).decode()
        body = SubmitSearch(spec=spec, idempotency_key=idempotency_key, workdir=packed).model_dump()
        return self._transport.call("POST", "/searches", SearchView, json=body, timeout=PRICING_TIMEOUT)

    def searches(
        self,
        *,
        project: str | None = None,
        state: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[SearchView]:
        """List the searches one may read, newest first; ``after`` is the last id of the page before."""
        given = {"project": project, "state": state, "limit": limit, "after": after}
        parameters = {name: value for name, value in given.items() if value is not None}
        return self._transport.call("GET", "/searches", TypeAdapter(list[SearchView]), params=parameters)

    def search(self, search: str) -> SearchDetail:
        """Return a search with its trials."""
        return self._transport.call("GET", f"/searches/{search}", SearchDetail)

    def cancel_search(self, search: str) -> SearchView:
        """End a search and all its trials; their unused budget goes back."""
        return self._transport.call("POST", f"/searches/{search}/cancel", SearchView)

    # Models

    def models(self) -> list[ModelView]:
        """List the models one may read."""
        return self._transport.call("GET", "/models", TypeAdapter(list[ModelView]))

    def model(self, model: str) -> ModelView:
        """Return a model, by id or by ``project/name``."""
        return self._transport.call("GET", f"/models/{model}", ModelView)

    def download_model(self, model: str, version: int) -> bytes:
        """Return a zip of ``model.safetensors`` and ``model.json``."""
        return self._transport.content("GET", f"/models/{model}/versions/{version}/download")

    def predict(self, model: str, version: int, rows: Path) -> Prediction:
        """Return predictions for the rows of a CSV file."""
        with rows.open("rb") as opened:
            return self._transport.call(
                "POST",
                f"/models/{model}/versions/{version}/predict",
                Prediction,
                files={"rows": opened},
            )

    def promote(self, model: str, version: int, comment: str = "") -> ModelVersionView:
        """Promote a version to production."""
        return self._transport.call(
            "POST",
            f"/models/{model}/versions/{version}/promote",
            ModelVersionView,
            json=Promote(comment=comment).model_dump(),
        )

    def delete_model(self, model: str, version: int) -> ModelVersionView:
        """Retire a version and destroy its sealed weights."""
        return self._transport.call("DELETE", f"/models/{model}/versions/{version}", ModelVersionView)

    # Evidence

    def policy(self) -> PolicyView:
        """Return the active policies."""
        return self._transport.call("GET", "/policy", PolicyView)

    def decisions(
        self, *, result: str | None = None, principal: str | None = None, limit: int = 50
    ) -> list[DecisionView]:
        """List decisions, newest first."""
        given = {"result": result, "principal": principal, "limit": limit}
        parameters = {name: value for name, value in given.items() if value is not None}
        return self._transport.call("GET", "/decisions", TypeAdapter(list[DecisionView]), params=parameters)

    def decision(self, decision: str) -> DecisionView:
        """Return one decision: what was asked, with which attributes, and which policies determined it."""
        return self._transport.call("GET", f"/decisions/{decision}", DecisionView)

    def audit_events(self, **filters: str | int | None) -> list[AuditEventView]:
        """List events; filters: type, actor, subject, project, since, until, after, limit."""
        parameters = {name: value for name, value in filters.items() if value is not None}
        return self._transport.call(
            "GET", "/audit/events", TypeAdapter(list[AuditEventView]), params=parameters
        )

    def audit_checkpoint(self) -> AuditCheckpointView:
        """Sign the trail as it is and return the checkpoint."""
        return self._transport.call("POST", "/audit/checkpoint", AuditCheckpointView)

    def verify_audit(self, kept_note: str | None = None) -> AuditVerification:
        """Verify the whole trail, and its consistency with a checkpoint that the caller kept."""
        return self._transport.call(
            "POST", "/audit/verify", AuditVerification, json={"kept_note": kept_note}, timeout=600
        )

    def prove(self, seq: int) -> InclusionProofView:
        """Return the proof that an event is in the signed tree."""
        return self._transport.call("GET", f"/audit/proofs/{seq}", InclusionProofView)

    def export_audit(self, target: BinaryIO, **filters: str | None) -> int:
        """Write an export to an open file; return its size in bytes."""
        parameters = {name: value for name, value in filters.items() if value is not None}
        written = 0
        with self._transport.stream("GET", "/audit/export", params=parameters) as response:
            for piece in response.iter_bytes():
                written += target.write(piece)
        return written

    def keys(self) -> list[KeyView]:
        """List the vault's keys, without secrets."""
        return self._transport.call("GET", "/keys", TypeAdapter(list[KeyView]))

    def status(self) -> SystemStatus:
        """Return what runs and whether it is well."""
        return self._transport.call("GET", "/system", SystemStatus)
