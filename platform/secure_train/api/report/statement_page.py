"""The DP statement of a model as a page of its own: every disclosure of NIST SP 800-226, in plain words."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from secure_train.api.report import privacy, text
from secure_train.dp import DPStatement

Row = tuple[str, str, str]
"""A disclosure: what it is, its value, and what that means."""

_TEMPLATES = Environment(
    loader=PackageLoader("secure_train.api.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Section:
    """Disclosures that belong together."""

    title: str
    rows: tuple[Row, ...]


def render_statement(model: str, statement: DPStatement) -> str:
    """Render one HTML page that refers to nothing outside of itself and runs no script.

    A pure function: the same statement gives the same page.

    Args:
        model: what it is of, as PROJECT/NAME@VERSION.
        statement: as published, with whatever was attached when it was read.
    """
    loss = statement.guarantee
    return _TEMPLATES.get_template("statement_page.html.j2").render(
        model=model,
        statement=statement,
        epsilon=text.figure(loss.total_epsilon),
        delta=text.figure(loss.delta),
        guess=f"{100 * privacy.best_guess(loss.total_epsilon, loss.delta):.1f} %",
        sections=sections(statement),
        public_inputs=privacy.public_inputs(statement),
    )


def sections(statement: DPStatement) -> tuple[Section, ...]:
    """All disclosures, in the order of a reader's questions."""
    return (
        Section("What is guaranteed", _guarantee(statement)),
        Section("By which mechanism", _mechanism(statement)),
        Section("How ε was computed", _accounting(statement)),
        Section("What was released", _released(statement)),
        Section("What else counts", _around(statement)),
    )


def _guarantee(statement: DPStatement) -> tuple[Row, ...]:
    loss, replaced = statement.guarantee, statement.guarantee_replace_one
    return (
        (
            "Unit of privacy",
            statement.unit_of_privacy,
            "One row. People with several rows are protected less.",
        ),
        (
            "ε, add or remove one",
            text.figure(loss.total_epsilon),
            f"Training alone: {text.figure(loss.training_epsilon)}. Compared: with and without a row.",
        ),
        (
            "ε, replace one",
            text.figure(replaced.total_epsilon),
            f"Training alone: {text.figure(replaced.training_epsilon)}. One row is exchanged for another.",
        ),
        ("δ", text.figure(loss.delta), "For both adjacencies; the chance that the bound of ε does not hold."),
    )


def _mechanism(statement: DPStatement) -> tuple[Row, ...]:
    return (
        ("Mechanism", statement.mechanism, ""),
        ("Clipping norm C", text.figure(statement.max_grad_norm), "The most that a row moves a sum."),
        ("Clipping", statement.clipping.value, "How a row's gradient is scaled to at most C."),
        ("Noise multiplier σ", text.figure(statement.noise_multiplier), "Deviation of the noise over C."),
        ("Sampling rate q", text.figure(statement.sampling_rate), "Chance of a row to be in a step."),
        (
            "Steps T",
            f"{statement.steps:,}",
            "All that were charged, repeated ones with fresh noise included.",
        ),
        ("Expected batch size", text.figure(statement.expected_batch_size), "The public normaliser."),
        ("Workers", str(statement.workers), "Their shares of noise add up to σC."),
        ("Sampler that ran", statement.sampler_run, ""),
        (
            "Sampler assumed",
            statement.sampler_assumed,
            "The one that ran."
            if statement.sampler_assumed == statement.sampler_run
            else "NOT the one that ran.",
        ),
        ("Randomness", statement.randomness, ""),
        ("Floating point", statement.float_caveat, ""),
    )


def _accounting(statement: DPStatement) -> tuple[Row, ...]:
    used = statement.accountant
    audit = statement.empirical_audit
    shown = (
        (
            "Empirical audit",
            "not run",
            "Nobody has attacked the engine at these parameters for this statement.",
        )
        if audit is None
        else (
            "Empirical audit",
            f"ε at least {text.figure(audit.epsilon_lower_bound)}"
            + (": REFUTES the claim" if audit.refuted else ", consistent with the claim"),
            f"With {100 * audit.confidence:.0f} % confidence, of training: {audit.method.value}, "
            f"{audit.experiments:,} experiments on synthetic rows, on {text.moment(audit.at)}, version "
            f"{audit.version}. The claim was ε {text.figure(audit.epsilon_claimed)}.",
        )
    )
    return (
        ("Accountant", f"{used.name}, {used.version}", "Its ε is the one that counts."),
        (
            "Cross-checks",
            f"PRV {text.figure(used.cross_check_prv)}, RDP {text.figure(used.cross_check_rdp)}",
            f"ε of training by two other accountants ({used.cross_check_version}).",
        ),
        shown,
    )


def _released(statement: DPStatement) -> tuple[Row, ...]:
    evaluations = {f"evaluation: {item.name}": item.epsilon for item in statement.evaluations}
    return tuple(
        (item, f"ε {text.figure(evaluations[item])}", "Pure ε, discrete Laplace noise.")
        if item in evaluations
        else (item, "ε of training", "")
        for item in statement.released
    )


def _around(statement: DPStatement) -> tuple[Row, ...]:
    tuning, spend = statement.tuning, statement.dataset_spend
    return (
        (
            "Hyperparameter tuning",
            "no search was charged",
            "What the author learnt from these rows in other ways is not covered.",
        )
        if tuning is None
        else (
            "Hyperparameter tuning",
            f"{text.counted(tuning.trials_charged, 'trial')} charged",
            f"Search {tuning.search}, {tuning.method}; ε {text.figure(tuning.epsilon)} for all of it.",
        ),
        (
            "Spent on the dataset",
            "not told",
            "Whoever may read the dataset's budget sees it with `secure-train data budget show`.",
        )
        if spend is None
        else (
            "Spent on the dataset",
            f"ε {text.figure(spend.epsilon)} of {text.figure(spend.budget_epsilon)}",
            f"By {text.counted(spend.jobs, 'job')} on {spend.dataset} together by {text.moment(spend.at)}, "
            f"at δ {text.figure(spend.delta)}, composed by {spend.composition}; replace one: ε "
            f"{text.figure(spend.epsilon_replace_one)}.",
        ),
    )
