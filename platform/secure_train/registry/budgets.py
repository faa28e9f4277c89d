"""Datasets' privacy budgets, for those who may see or change them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.db.tables import BudgetAllocation, Dataset, Job, Project
from secure_train.db.trail import Trail
from secure_train.ledger import Room, Shape
from secure_train.policy import Action, Actor, Guard, resources
from secure_train.registry.errors import NotFound
from secure_train.registry.lookup import dataset_versions, find_dataset
from secure_train.wire.data import BudgetView, FitView, SetAllocation, SetBudget

USUAL_BATCH, USUAL_PASSES = 256, 3


@dataclass(frozen=True)
class Wish:
    """A job that a person asks about: its project and shape. What is None is as in the last job."""

    project: str | None = None
    batch_size: int | None = None
    steps: int | None = None
    delta: float | None = None
    evaluation_epsilon: float | None = None


class BudgetService:
    """Each request is decided first, and the decision recorded."""

    def __init__(self, guard: Guard, trail: Trail) -> None:
        self._guard = guard
        self._trail = trail

    def show(self, actor: Actor, reference: str, wish: Wish) -> BudgetView:
        """Show a dataset's budget, who holds or spent it, and which ε one more job could have.

        Jobs that the actor may not read are counted, not shown. Raises Denied, NotFound.
        """
        with self._guard.transaction() as session:
            dataset = find_dataset(session, reference)
            if dataset is None:
                missing = resources.missing("dataset", reference)
                self._guard.authorize(session, actor, Action.DATASET_BUDGET, missing)
                raise NotFound(f"there is no dataset {reference!r}")
            resource = resources.dataset(session, dataset, reference)
            self._guard.authorize(session, actor, Action.DATASET_BUDGET, resource)
            view = self._without_hidden(session, actor, ledger.budget(session, dataset))
            project = wish.project or dataset.project_id
            shape = _shape(session, dataset, wish)
            room = ledger.room(session, dataset, project)
        return view.model_copy(update={"fit": _fit(project, room, shape)})

    def set(self, actor: Actor, reference: str, request: SetBudget) -> BudgetView:
        """Set a dataset's ε.

        Raises:
            Denied: policy; by default only the owner may, and raise it only if they submit no jobs on it.
            NotFound: there is no such dataset, and the actor may know that.
            BudgetChangeRefused: less than what is spent and held, or than a project's part.
        """
        with self._guard.transaction() as session:
            dataset = self._authorized(session, actor, reference, request, None)
            ledger.set_budget(session, self._trail, dataset, request.epsilon, request.reason, actor.id)
            return self._without_hidden(session, actor, ledger.budget(session, dataset))

    def allocate(self, actor: Actor, reference: str, request: SetAllocation) -> BudgetView:
        """Set a project's part of a dataset's ε.

        Raises:
            Denied: as for `set`.
            NotFound: there is no such dataset or project, and the actor may know that.
            BudgetChangeRefused: more than the whole, or less than what the project's jobs used.
        """
        with self._guard.transaction() as session:
            project = request.project
            dataset = self._authorized(session, actor, reference, request, project)
            if session.get(Project, project) is None:
                raise NotFound(f"there is no project {project!r}")
            ledger.allocate(session, self._trail, dataset, project, request.epsilon, request.reason, actor.id)
            return self._without_hidden(session, actor, ledger.budget(session, dataset))

    def _authorized(
        self,
        session: Session,
        actor: Actor,
        reference: str,
        request: SetBudget | SetAllocation,
        project: str | None,
    ) -> Dataset:
        dataset = find_dataset(session, reference)
        if dataset is None:
            nobody = {"raises": True, "submitters": []}
            missing = resources.missing("dataset", reference)
            self._guard.authorize(session, actor, Action.DATASET_SET_BUDGET, missing, nobody)
            raise NotFound(f"there is no dataset {reference!r}")
        # Locked, so that whether this is a raise is still true when it is made.
        dataset = ledger.lock_dataset(session, dataset.id)
        context = {
            "raises": request.epsilon > _before(session, dataset, project),
            "submitters": _submitters(session, dataset),
        }
        resource = resources.dataset(session, dataset, reference)
        self._guard.authorize(session, actor, Action.DATASET_SET_BUDGET, resource, context)
        return dataset

    def _without_hidden(self, session: Session, actor: Actor, view: BudgetView) -> BudgetView:
        jobs = [resources.job(session, session.get_one(Job, line.job_id)) for line in view.lines]
        seen = self._guard.visible(session, actor, Action.JOB_READ, jobs)
        lines = [line for line, is_seen in zip(view.lines, seen, strict=True) if is_seen]
        return view.model_copy(update={"lines": lines, "hidden_lines": len(view.lines) - len(lines)})


def _before(session: Session, dataset: Dataset, project: str | None) -> float:
    """What could be spent before: a project without a part has all of its own dataset, none of another's."""
    if project is None:
        return dataset.budget_epsilon
    part = session.get(BudgetAllocation, (dataset.id, project), populate_existing=True)
    if part is not None:
        return part.epsilon
    return dataset.budget_epsilon if project == dataset.project_id else 0.0


def _submitters(session: Session, dataset: Dataset) -> list[str]:
    query = select(Job.submitted_by).where(Job.dataset_id == dataset.id, Job.state != "denied").distinct()
    return list(session.scalars(query))


def _shape(session: Session, dataset: Dataset, wish: Wish) -> Shape:
    """Complete a wish by the last job on the dataset, or by what is usual."""
    rows = dataset_versions(session, dataset)[-1].training_rows
    query = select(Job).where(Job.dataset_id == dataset.id, Job.state != "denied")
    last = session.scalar(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(1))
    if wish.batch_size is not None:
        rate = min(1.0, wish.batch_size / rows)
    else:
        rate = min(1.0, USUAL_BATCH / rows) if last is None else last.sampling_rate
    usual_steps = max(1, round(USUAL_PASSES / rate)) if last is None else last.steps
    usual_delta = min(dataset.budget_delta, 1 / rows) if last is None else last.delta
    usual_evaluation = 0.0 if last is None else _evaluation(last)
    return Shape(
        rate,
        usual_steps if wish.steps is None else wish.steps,
        usual_delta if wish.delta is None else wish.delta,
        usual_evaluation if wish.evaluation_epsilon is None else wish.evaluation_epsilon,
    )


def _evaluation(job: Job) -> float:
    section = job.spec.get("privacy", {}).get("evaluation")
    return float(section["epsilon"]) if section else 0.0


def _fit(project: str, room: Room, shape: Shape) -> FitView:
    return FitView(
        project=project,
        sampling_rate=shape.sampling_rate,
        steps=shape.steps,
        delta=shape.delta,
        evaluation_epsilon=shape.evaluation_epsilon,
        epsilon=ledger.largest_epsilon(room, shape),
    )
