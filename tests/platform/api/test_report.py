"""The report of a job: one page, complete, self-contained, safe to open, and readable on a phone."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_train.api.report import Charge, render_report, text
from secure_train.api.report.axes import Scale, padded, ticks, time_ticks
from secure_train.api.report.life import life_of, thinned
from secure_train.api.report.privacy import best_guess
from secure_train.api.report.releases import curves, noise_half_width
from secure_train.dp import Clipping, EvaluationRelease, Mechanism, build_statement
from secure_train.spec import load_job
from secure_train.wire.evidence import DecisionView
from secure_train.wire.jobs import (
    CheckpointView,
    JobDetail,
    JobView,
    ProgressView,
    RecoveryView,
    ReleaseView,
    TransitionView,
    WorkerView,
)
from secure_train.wire.models import ModelVersionView

JOB = "job_01jd7b3q9w2k6x4m8t5v0z1y3c"
START = datetime(2026, 3, 4, 9, 30, 12, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[3] / "examples" / "adult" / "job.yaml"
STEPS, ROWS, SIGMA = 300, 26_049, 1.32
DEAD_AT, RESTORED = 162, 150
ENDED = ("succeeded", "failed", "cancelled", "denied")
STATES = ("submitted", "queued", "starting", "running", "recovering", *ENDED)
HOSTILE = """<script>alert("x")</script>'"><img src=x onerror=alert(1)>&amp;"""


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def spent(step: int) -> float:
    """An ε curve of the right shape; what exactly it is does not matter to a page."""
    return 2.79 * math.sqrt(step / STEPS)


def progress() -> list[ProgressView]:
    """Two worker groups: the first dies at step 162, the second goes on from step 150."""
    runs = [(1, step, 9 + step * 0.12) for step in range(6, DEAD_AT + 1, 12)]
    runs += [(2, step, 46 + (step - RESTORED) * 0.12) for step in [*range(156, STEPS, 12), STEPS]]
    return [
        ProgressView(
            seq=seq,
            noise_epoch=0,
            generation=generation,
            step=step,
            epsilon=spent(min(STEPS, 25 * math.ceil(max(step, DEAD_AT if generation == 2 else 0) / 25))),
            steps_per_second=8.3,
            at=at(seconds),
        )
        for seq, (generation, step, seconds) in enumerate(runs)
    ]


def charges() -> list[Charge]:
    """A lease of 25 steps each time, the next one long before it is needed again after the death."""
    return [
        Charge(
            at(9 + step * 0.12 + (22 if step > DEAD_AT else 0)),
            spent(step + 25),
            f"for steps {step + 1} to {step + 25}",
        )
        for step in range(0, STEPS, 25)
    ]


def releases() -> list[ReleaseView]:
    figures = [(100, 0.8313, 0.4012, 0.05), (200, 0.8405, 0.3655, 0.05), (300, 0.8462, 0.3433, 0.1)]
    return [
        ReleaseView(
            step=step,
            noise_epoch=0,
            metrics={
                "accuracy": accuracy,
                "accuracy_scale": 2 / epsilon / 6512,
                "loss": loss,
                "loss_scale": 20 / epsilon / 6512,
                "rows": 6512,
                "bound": 10.0,
                "exact": False,
            },
            epsilon=epsilon,
            at=at(10 + step * 0.12 + (19 if step > DEAD_AT else 0)),
        )
        for step, accuracy, loss, epsilon in figures
    ]


def checkpoints(many: int = STEPS) -> list[CheckpointView]:
    return [
        CheckpointView(
            step=step,
            noise_epoch=0,
            state="refused" if step == 125 else "good" if step > many - 75 else "expired",
            refusal="block 3 of weights.0.weight: authentication failed" if step == 125 else "",
            digest=f"{step:064x}",
            logical_bytes=113_412,
            stored_bytes=71_020,
            seconds=0.084,
            created_at=at(9 + step * 0.12 + (22 if step > DEAD_AT else 0)),
        )
        for step in range(25, many + 1, 25)
    ]


def transitions(state: str) -> list[TransitionView]:
    life = [
        ("submitted", "queued", "waiting for its turn", 0),
        ("queued", "starting", "attempt 1", 0.6),
        ("starting", "running", "worker group 1 started", 7.9),
        ("running", "recovering", "worker 1 died", 31),
        ("recovering", "running", "training goes on", 46.4),
        ("running", state, f"{state} for a reason", 66),
    ]
    shown = {"submitted": 0, "queued": 1, "starting": 2, "running": 3, "recovering": 4}.get(state, len(life))
    if state == "denied":
        life, shown = [("submitted", "denied", "policy: purpose-not-allowed (decision dec_7)", 0)], 1
    return [
        TransitionView(source=source, target=target, reason=reason, at=at(seconds))
        for source, target, reason, seconds in life[:shown]
    ]


def job(state: str, **values: Any) -> JobView:
    started, finished = state not in {"submitted", "queued", "denied"}, state in ENDED
    defaults: dict[str, Any] = {
        "id": JOB,
        "name": "income",
        "project": "census",
        "purpose": "income-statistics",
        "submitted_by": "user:erin",
        "state": state,
        "phase": state,
        "reason": (transitions(state) or [TransitionView(source="", target="", reason="", at=START)])[
            -1
        ].reason,
        "dataset": "adult",
        "dataset_version": 1,
        "priority": 50,
        "epsilon": 3.0,
        "delta": 1e-5,
        "spent_epsilon": 2.9917 if started else 0.0,
        "spent_delta": 1e-5 if started else 0.0,
        "noise_multiplier": SIGMA,
        "sampling_rate": 1024 / ROWS,
        "step": STEPS if started else 0,
        "steps": STEPS,
        "attempt": 1,
        "recoveries": 1 if started else 0,
        "checkpoints": 12 if started else 0,
        "model": "income@3" if state == "succeeded" else None,
        "metrics": {},
        "search": None,
        "created_at": START,
        "started_at": at(0.6) if started else None,
        "finished_at": at(66) if finished and state != "denied" else START if finished else None,
    }
    return JobView(**defaults | values)


def detail(state: str = "succeeded", **values: Any) -> JobDetail:
    ran = state not in {"submitted", "queued", "denied", "starting"}
    over = state != "recovering"
    death = RecoveryView(
        cause="worker 1 died",
        last_step=DEAD_AT,
        restored_step=RESTORED if over else None,
        steps_repeated=DEAD_AT - RESTORED if over else None,
        seconds=15.4 if over else None,
        detected_at=at(31),
        resumed_at=at(46.4) if over else None,
    )
    defaults: dict[str, Any] = {
        "job": job(state),
        "spec": load_job(EXAMPLE).model_dump(mode="json", by_alias=True),
        "spec_digest": "sha256:" + "5a" * 32,
        "code_digest": None,
        "transitions": transitions(state),
        "checkpoints": checkpoints() if ran else [],
        "recoveries": [death] if ran else [],
        "workers": [
            WorkerView(
                rank=rank, generation=2, host="node-7", pid=4211 + rank, step=STEPS, reported_at=at(65)
            )
            for rank in range(2)
        ]
        if ran
        else [],
        "releases": releases() if ran else [],
        "progress": progress() if ran else [],
    }
    return JobDetail(**defaults | values)


def decision(number: int, action: str, result: str = "allow", **values: Any) -> DecisionView:
    defaults: dict[str, Any] = {
        "id": f"dec_{number:04}",
        "at": at(number * 0.3),
        "principal": f"job:{JOB}",
        "action": action,
        "resource": f"job:{JOB}",
        "project": "census",
        "result": result,
        "reason": "permitted" if result == "allow" else "no policy permits it",
        "policies": ["job-acts-on-itself"] if result == "allow" else [],
        "errors": [],
        "request": {},
        "policy_hash": "a" * 64,
        "schema_hash": "b" * 64,
    }
    return DecisionView(**defaults | values)


def decisions() -> list[DecisionView]:
    owner = {"principal": "user:erin", "policies": ["engineer-submits-jobs"], "resource": "dataset:ds_01"}
    opens = {"resource": "dataset:ds_01", "policies": ["job-opens-its-dataset"]}
    return [
        decision(0, "job:submit", **owner),
        decision(20, "dataset:read", **opens),
        *(decision(number, "job:report") for number in range(30, 90)),
        *(decision(number, "model:train") for number in range(90, 102)),
        decision(120, "model:promote", "deny", principal="user:erin", policies=["own-model-not-promoted"]),
    ]


@pytest.fixture(scope="module")
def model() -> ModelVersionView:
    """A published model with the statement that the engine really makes for these figures."""
    statement = build_statement(
        Mechanism(SIGMA, 1024 / ROWS, STEPS),
        1e-5,
        max_grad_norm=1.0,
        clipping=Clipping.FLAT,
        expected_batch_size=1024,
        workers=2,
        public_inputs={
            "rows": ROWS,
            "held-out rows": 6512,
            "bounds of age": "[17, 90]",
            "categories of sex": ["Female", "Male"],
        },
        evaluations=[
            EvaluationRelease(name=f"step {r.step}, noise epoch 0", epsilon=r.epsilon) for r in releases()
        ],
    )
    return ModelVersionView(
        model="income",
        project="census",
        version=3,
        job_id=JOB,
        digest="c3" * 32,
        stage="candidate",
        promoted_by=None,
        metrics=releases()[-1].metrics,
        lineage={
            "job": {
                "id": JOB,
                "weights_digest": "d4" * 32,
                "noise_epoch": 0,
                "attempts": 1,
                "generations": 2,
            },
            "dataset": {"name": "adult", "version": 1, "digest": "e5" * 32, "training_rows": ROWS},
            "privacy": {"epsilon_spent": 2.9917, "delta_spent": 1e-5},
        },
        statement=statement.model_dump(mode="json"),
        created_at=at(66),
    )


class Page(HTMLParser):
    """What a browser would make of a page: its text, its references, and whether its tags match."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]


@pytest.fixture(scope="module")
def report(model: ModelVersionView) -> Page:
    """The report of a job that recovered from a death and succeeded."""
    return Page(render_report(detail(), model, decisions(), charges()))


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_well_formed_report(state: str, model: ModelVersionView) -> None:
    page = Page(render_report(detail(state), model if state == "succeeded" else None, decisions(), charges()))
    assert page.open == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ids} >= set(page.values("href")) - {"data:,"}
    assert state in page.text


@pytest.mark.parametrize("state", STATES)
def test_a_job_that_has_just_been_recorded_has_a_report_too(state: str) -> None:
    bare = detail(
        state, spec={}, transitions=[], checkpoints=[], recoveries=[], workers=[], releases=[], progress=[]
    )
    assert Page(render_report(bare, None, [], [])).open == []


def test_a_report_refers_to_nothing_outside_of_itself(report: Page) -> None:
    html = render_report(detail(), None, decisions(), charges())
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert "script" not in {tag for tag, _ in report.tags}
    assert not [name for _, attrs in report.tags for name in attrs if name.startswith("on")]
    assert report.values("src") == []
    assert all(target.startswith("#") or target == "data:," for target in report.values("href"))


def test_every_drawing_is_described_and_has_tooltips(report: Page) -> None:
    drawings = [attrs for tag, attrs in report.tags if tag == "svg"]
    assert len(drawings) == 5  # meter, accuracy, loss, time line wide and narrow
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawings)
    assert "15.4 s" in report.text
    assert len([tag for tag, _ in report.tags if tag == "title"]) > len(progress())


def test_tables_have_captions_and_headings(report: Page) -> None:
    tables = [tag for tag, _ in report.tags if tag == "table"]
    captions = [tag for tag, _ in report.tags if tag == "caption"]
    assert len(tables) == len(captions) > 0
    assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in report.tags if tag == "th")
    assert [tag for tag, _ in report.tags].count("h1") == 1


def test_every_figure_of_the_statement_is_on_the_page(report: Page, model: ModelVersionView) -> None:
    told = model.statement
    figures = [
        told["guarantee"]["total_epsilon"],
        told["guarantee"]["training_epsilon"],
        told["guarantee_replace_one"]["total_epsilon"],
        told["noise_multiplier"],
        told["sampling_rate"],
        told["accountant"]["cross_check_prv"],
        told["accountant"]["cross_check_rdp"],
    ]
    for figure in figures:
        assert f"{figure:.4g}" in report.text
    for words in (*told["assumptions"], told["float_caveat"], told["randomness"], told["accountant"]["name"]):
        assert words in report.text
    for name in told["public_inputs"]:
        assert name in report.text


def test_privacy_figures_have_four_significant_digits() -> None:
    assert [text.figure(value) for value in (0.2 / 3, 2.9989624, 1e-5, 26_049.0)] == [
        "0.06667",
        "2.999",
        "1e-5",
        "26,049",
    ]


def test_everything_that_happened_is_on_the_page(report: Page) -> None:
    shown = detail()
    for release in shown.releases:
        assert f"{100 * release.metrics['accuracy']:.1f} %" in report.text
        assert f"{release.metrics['loss']:.3g}" in report.text
    for recovery in shown.recoveries:
        assert all(
            str(part) in report.text
            for part in (recovery.cause, recovery.last_step, "15.4 s", "12 steps or a few more")
        )
    for checkpoint in shown.checkpoints:
        assert checkpoint.digest[:16] in report.text
        assert checkpoint.refusal in report.text
    for change in shown.transitions:
        assert change.reason in report.text
    assert shown.spec_digest in report.text
    assert "income@3" in report.text


def test_equal_decisions_share_a_line_and_denials_do_not(report: Page) -> None:
    assert "60" in [word.strip() for word in report.words]
    assert "dec_0120" in report.text
    assert "dec_0030" not in report.text


def test_a_denied_job_says_that_nothing_was_charged() -> None:
    page = Page(render_report(detail("denied"), None, [], []))
    assert "Nothing was charged" in page.text
    assert "purpose-not-allowed" in page.text


def test_exact_metrics_are_not_shown_as_noisy() -> None:
    exact = [
        release.model_copy(
            update={"epsilon": 0.0, "metrics": {"accuracy": 0.9, "loss": 0.2, "rows": 10, "bound": 10.0}}
        )
        for release in releases()
    ]
    page = Page(render_report(detail(releases=exact), None, [], []))
    assert "no guarantee" in page.text
    assert "±" not in page.text


def test_hostile_names_are_escaped_wherever_they_appear(model: ModelVersionView) -> None:
    spiked = detail(
        job=job(
            "failed", name=HOSTILE, reason=HOSTILE, submitted_by=HOSTILE, dataset=HOSTILE, purpose=HOSTILE
        ),
        spec={"metadata": {"name": HOSTILE}},
        transitions=[TransitionView(source="queued", target="running", reason=HOSTILE, at=START)],
        recoveries=[detail().recoveries[0].model_copy(update={"cause": HOSTILE})],
        checkpoints=[checkpoints()[4].model_copy(update={"refusal": HOSTILE})],
        workers=[detail().workers[0].model_copy(update={"host": HOSTILE})],
    )
    lineage = {"dataset": {"digest": HOSTILE}, "job": {"weights_digest": HOSTILE}, "privacy": {"x": HOSTILE}}
    published = model.model_copy(update={"model": HOSTILE, "stage": HOSTILE, "lineage": lineage})
    denial = decision(
        1, HOSTILE, "deny", principal=HOSTILE, resource=HOSTILE, reason=HOSTILE, policies=[HOSTILE]
    )
    page = Page(
        render_report(spiked, published, [denial, decision(2, HOSTILE, principal=HOSTILE)], charges())
    )
    assert page.open == []
    assert {"script", "img"}.isdisjoint(tag for tag, _ in page.tags)
    assert page.text.count("<script>") >= 15


def test_a_page_is_a_pure_function_of_what_it_shows(model: ModelVersionView) -> None:
    assert render_report(detail(), model, decisions(), charges()) == render_report(
        detail(), model, decisions(), charges()
    )


@given(st.floats(0.01, 20), st.floats(1e-12, 1e-3))
def test_the_best_guess_lies_between_blind_and_certain(epsilon: float, delta: float) -> None:
    assert 0.5 < best_guess(epsilon, delta) <= 1
    assert best_guess(epsilon, 0.0) == pytest.approx(math.exp(epsilon) / (1 + math.exp(epsilon)))


def test_noise_bars_hold_95_percent_of_laplace_noise() -> None:
    assert math.exp(-noise_half_width(2.0) / 2.0) == pytest.approx(0.05)
    point = curves(releases())[0].newest
    assert point.half == pytest.approx(math.log(20) * releases()[-1].metrics["accuracy_scale"])


finite = st.floats(-1e9, 1e9, allow_nan=False)


@given(finite, st.floats(1e-6, 1e9), st.integers(2, 12))
def test_ticks_are_few_and_within_their_range(low: float, span: float, most: int) -> None:
    high = low + span
    if not high - low > abs(low) * 1e-9:
        return
    marks = ticks(low, high, most)
    slack = span * 1e-6 + abs(low) * 1e-9
    assert len(marks) <= most + 1
    assert all(low - slack <= mark <= high + slack for mark in marks)
    assert marks == sorted(set(marks))


@given(st.floats(0.1, 1e8), st.integers(2, 12))
def test_ticks_of_time_are_few_and_start_at_zero(seconds: float, most: int) -> None:
    marks = time_ticks(seconds, most)
    assert marks[0] == 0
    assert len(marks) <= most + 1
    assert marks[-1] <= seconds * (1 + 1e-6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_padded_range_holds_its_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    bottom, top = padded(low, high, 0.0, 1.0)
    assert bottom <= low + 1e-9
    assert top >= high - 1e-9
    assert bottom < top


@given(finite, st.floats(1e-6, 1e6), finite)
def test_a_scale_stays_in_its_drawing(low: float, span: float, value: float) -> None:
    if low + span > low:
        assert 0 <= Scale(low, low + span, 0, 100)(value) <= 100


def test_workers_of_a_job_that_succeeded_have_done_its_last_step() -> None:
    lagging = [worker.model_copy(update={"step": STEPS - 31}) for worker in detail().workers]
    done = Page(render_report(detail(workers=lagging), None, [], charges()))
    assert "finished with the job" in done.text
    assert str(STEPS - 31) not in done.text
    stopped = Page(render_report(detail("cancelled", workers=lagging), None, [], charges()))
    assert "stopped; last heard of" in stopped.text
    assert str(STEPS - 31) in stopped.text


def test_no_charge_is_drawn_while_a_job_recovers() -> None:
    life = life_of(detail(), charges())
    (outage,) = life.outages
    assert not [charge for charge in life.charges if outage.start < charge.at < outage.end]
    assert life.charges[-1].epsilon == spent(STEPS)


def test_a_long_curve_is_thinned_without_losing_the_edges_of_a_worker_group() -> None:
    many = [
        progress()[0].model_copy(update={"seq": seq, "step": seq, "generation": 1 + seq // 700})
        for seq in range(2000)
    ]
    kept = thinned(many, most=100)
    assert len(kept) < 120
    assert {0, 699, 700, 1399, 1400, 1999} <= {point.seq for point in kept}


def test_a_death_that_was_never_got_over_lasts_until_the_job_ended() -> None:
    open_death = detail().recoveries[0].model_copy(update={"resumed_at": None, "seconds": None})
    shown = life_of(detail("failed", recoveries=[open_death]), [])
    assert shown.outages[0].end == at(66)
    assert not shown.outages[0].resumed


@pytest.fixture(scope="module")
def browser() -> Any:
    """A Chromium that reaches no network."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-background-networking"]
        )
        yield opened
        opened.close()


# Whatever sticks out of the window to the right, except inside of what scrolls by itself.
OVERFLOWING = """
[...document.querySelectorAll("body *")]
  .filter(e => e.checkVisibility() && !e.closest(".scroll, pre"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 100))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1280, "light")])
def test_a_browser_shows_it_without_errors_or_sideways_scrolling(
    browser: Any, model: ModelVersionView, tmp_path: Path, width: int, scheme: str
) -> None:
    long = detail(job=job("succeeded", name="n" * 63, purpose="p" * 63), checkpoints=checkpoints(2000))
    pages = [render_report(long, model, decisions(), charges())]
    pages += [
        render_report(detail(state), None, decisions(), charges()) for state in ("queued", "failed", "denied")
    ]
    window = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems: list[str] = []
    requested: list[str] = []
    window.on("console", lambda message: problems.append(message.text))
    window.on("pageerror", lambda error: problems.append(str(error)))
    window.on("request", lambda request: requested.append(request.url))
    for number, html in enumerate(pages):
        file = tmp_path / f"{number}.html"
        file.write_text(html, "utf-8")
        window.goto(file.as_uri())
        assert window.evaluate("document.documentElement.scrollWidth") <= width
        assert window.evaluate(OVERFLOWING) == []
    window.close()
    assert problems == []
    assert {url for url in requested if not url.startswith(tmp_path.as_uri())} <= {"data:,"}
