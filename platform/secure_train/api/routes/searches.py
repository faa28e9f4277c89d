"""Searches for hyperparameters, for people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from secure_train.api.auth import Caller, Plane
from secure_train.wire.searches import PlanSearch, SearchDetail, SearchPlan, SearchView, SubmitSearch

router = APIRouter(prefix="/searches", tags=["searches"])


@router.post("/plan")
def plan(plane: Plane, caller: Caller, body: PlanSearch) -> SearchPlan:
    """Return what a search would cost and whether it would be allowed; nothing is submitted or reserved."""
    return plane.searches.plan(caller, body)


@router.post("", status_code=201)
def submit(plane: Plane, caller: Caller, body: SubmitSearch) -> SearchView:
    """Submit a search: authorise every trial and hold the budget of all, in one transaction."""
    return plane.searches.view(plane.searches.submit(caller, body))


@router.get("")
def list_searches(
    plane: Plane,
    caller: Caller,
    project: str | None = None,
    state: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: str | None = None,
) -> list[SearchView]:
    """List the searches that the caller may read, newest first."""
    return plane.searches.list(caller, project=project, state=state, limit=limit, after=after)


@router.get("/{search}")
def show(plane: Plane, caller: Caller, search: str) -> SearchDetail:
    """Return a search with its trials."""
    return plane.searches.detail(caller, search)


@router.post("/{search}/cancel")
def cancel(plane: Plane, caller: Caller, search: str) -> SearchView:
    """End a search and all its trials that have not ended; their unused budget goes back."""
    return plane.searches.cancel(caller, search)
