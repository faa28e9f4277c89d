"""``privacy``: evidence and plans, on this machine, without a control plane or a private record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from secure_train.cli.errors import CliError, UsageError
from secure_train.cli.examples import example
from secure_train.cli.output import Format, Output, facts, note, rows, show
from secure_train.cli.privacy.working import working
from secure_train.spec import TrainingJob, load_job, load_schema

if TYPE_CHECKING:
    from secure_train.cli.privacy.auditing import Claim
    from secure_train.cli.privacy.curve import Curve
    from secure_train.dp import EmpiricalAudit

app = typer.Typer(
    help="Privacy, tried out on this machine on synthetic or public rows.", no_args_is_help=True
)

Spec = Annotated[Path | None, typer.Option(help="A job.yaml.", exists=True, dir_okay=False)]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="a.b=c, as in submit.")]
Seed = Annotated[int | None, typer.Option(help="Makes it repeatable; else keys are drawn afresh.", min=0)]
_EXPERIMENTS = {"canary": 1000, "neighbour": 10_000}


@app.command()
def audit(
    spec: Spec = None,
    overrides: Overrides = None,
    training_rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="With --spec: training rows of the dataset.")
    ] = None,
    sigma: Annotated[float | None, typer.Option(help="Noise multiplier, instead of --spec.")] = None,
    q: Annotated[float, typer.Option(help="With --sigma: sampling rate.")] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="With --sigma: number of steps.")] = 1,
    delta: Annotated[float, typer.Option(help="With --sigma: δ at which ε is claimed.")] = 1e-5,
    clip: Annotated[float, typer.Option(help="With --sigma: clipping norm C.")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="With --sigma: workers that share the noise.")] = 1,
    method: Annotated[
        str,
        typer.Option(
            help="canary: one run, many canaries. neighbour: many runs with and without one record; tighter, "
            "for few steps."
        ),
    ] = "canary",
    runs: Annotated[
        int | None,
        typer.Option(
            min=20,
            help="Canaries (else 1000), or experiments on each of two neighbouring datasets (else 10,000).",
        ),
    ] = None,
    seed: Seed = None,
    output: Output = Format.TABLE,
) -> None:
    """Attack the engine on synthetic records, and compare what shows with the ε that is claimed.

    A lower bound above the claim ends with status 1. One below it proves nothing: it is evidence.
    """
    from secure_train.cli.privacy.auditing import audit as run_audit
    from secure_train.cli.privacy.auditing import steps_needed
    from secure_train.dp import AuditMethod, DPError

    if method not in set(AuditMethod):
        raise UsageError(f"--method {method}: not a method", f"one of {', '.join(AuditMethod)}")
    chosen = AuditMethod(method)
    try:
        claim = _claim(spec, overrides, training_rows, sigma, (q, steps, delta, clip, workers))
        experiments = runs or _EXPERIMENTS[method]
        with working("attacking", steps_needed(claim, chosen, experiments)) as progress:
            found = run_audit(claim, chosen, experiments, seed, progress)
    except DPError as error:
        raise UsageError(str(error)) from error
    failure = None
    if found.refuted:
        failure = CliError(
            "the engine protects less than is claimed for it",
            "do not train on private rows with this installation; report this output to the maintainers",
        )
        failure.code = "claim_refuted"
    show(found, output, lambda to: _audit_table(found, to), failure=failure)


def _claim(
    spec: Path | None,
    overrides: list[str] | None,
    training_rows: int | None,
    sigma: float | None,
    given: tuple[float, int, float, float, int],
) -> Claim:
    from secure_train.cli.privacy.auditing import Claim, claim_of
    from secure_train.dp import Mechanism

    if (spec is None) == (sigma is None):
        raise UsageError("which mechanism?", "give --spec job.yaml and --rows N, or --sigma, --q and --steps")
    if spec is not None:
        if training_rows is None:
            raise UsageError("--rows is missing", "say how many training rows the dataset has")
        return claim_of(load_job(spec, overrides=overrides or []), training_rows)
    if sigma is None or training_rows is not None or overrides:
        raise UsageError("--rows and --set belong to --spec", "leave them out, or give --spec")
    q, steps, delta, clip, workers = given
    return Claim(Mechanism(sigma, q, steps), delta, clip, workers)


def _audit_table(found: EmpiricalAudit, to: Console) -> None:
    verdict = "REFUTED: more leaks than is claimed" if found.refuted else "consistent with the claim"
    facts(
        [
            ("ε claimed", f"{found.epsilon_claimed:.4g} at δ {found.delta:g}, training only"),
            (
                "ε shown",
                f"at least {found.epsilon_lower_bound:.4g}, with {100 * found.confidence:.0f} % confidence",
            ),
            ("verdict", verdict),
            ("method", f"{found.method}, {found.experiments} experiments"),
            (
                "audited",
                f"σ {found.noise_multiplier:.4g}, q {found.sampling_rate:.4g}, {found.steps} steps, "
                f"C {found.max_grad_norm:g}, {found.workers} workers",
            ),
        ],
        to,
    )


@app.command()
def curve(
    spec: Spec = None,
    overrides: Overrides = None,
    epsilon: Annotated[str, typer.Option(help="Total ε of each point, separated by commas.")] = "0.5,1,2,4,8",
    data: Annotated[
        Path | None, typer.Option(help="PUBLIC rows, CSV or Parquet.", exists=True, dir_okay=False)
    ] = None,
    schema: Annotated[Path | None, typer.Option(help="Schema file.", exists=True, dir_okay=False)] = None,
    use_example: Annotated[
        str | None, typer.Option("--example", help="Rows, schema and job that ship with it: adult, digits.")
    ] = None,
    made_up: Annotated[
        int, typer.Option("--rows", min=10, help="Without --data: how many rows to make up.")
    ] = 10_000,
    repeats: Annotated[int, typer.Option(min=1, help="Models for each ε.")] = 1,
    seed: Seed = None,
    plot: Annotated[Path | None, typer.Option(help="Also write a plot: FILE.svg or FILE.html.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Plot ε against the quality of a job's model, without spending anything.

    Models are trained on this machine by the product's engine, on public rows or on rows made up from the
    schema. On made-up rows absolute values mean nothing. NEVER give private rows: results have no noise.
    """
    from secure_train.cli.privacy.curve import curve_of, plan_of
    from secure_train.cli.privacy.rows import made_up_rows, read_rows
    from secure_train.dp import DPError

    epsilons = _epsilons(epsilon)
    if plot is not None and plot.suffix not in {".svg", ".html"}:
        raise UsageError(f"--plot {plot}: cannot write that", "name it FILE.svg or FILE.html")
    if use_example is not None:
        if use_example not in {"adult", "digits"}:
            raise UsageError(f"--example {use_example}: there is none", "one of adult, digits")
        spec = spec or example(f"{use_example}/job.yaml")
        schema = schema or example(f"{use_example}/{use_example}.schema.yaml")
        data = data or example(f"data/{use_example}.csv")
    if spec is None or schema is None:
        raise UsageError("which job, and which rows?", "give --spec and --schema, or --example adult")
    job, shape = load_job(spec, overrides=overrides or []), load_schema(schema)
    public = made_up_rows(shape, made_up) if data is None else read_rows(shape, data)
    plan = plan_of(job, public, repeats)
    try:
        with working("training", plan.steps * repeats * (len(epsilons) + 1)) as progress:
            found = curve_of(
                job,
                shape,
                public,
                plan,
                epsilons,
                code=_code(job, spec),
                seed=seed,
                progress=progress,
            )
    except DPError as error:
        raise UsageError(str(error)) from error
    _tell(found, plot, output)


def _epsilons(text: str) -> list[float]:
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 < value <= 100 for value in found):
        raise UsageError(f"--epsilon {text}: not a list of numbers above 0, up to 100", "such as 0.5,1,2,4,8")
    return found


def _code(job: TrainingJob, spec: Path) -> Path | None:
    return (spec.parent / job.model.working_dir).resolve() if job.model.kind == "entrypoint" else None


def _tell(found: Curve, plot: Path | None, output: Format) -> None:
    from dataclasses import asdict

    from secure_train.cli.privacy.plot import SYNTHETIC, html_page, subtitle, svg_plot

    if plot is not None:
        plot.write_text(html_page(found) if plot.suffix == ".html" else svg_plot(found), encoding="utf-8")
        note(f"plot: {plot}")
    if found.synthetic:
        note(f"Made-up rows. {SYNTHETIC}")
    lines = [
        (
            "without privacy" if point.epsilon is None else f"{point.epsilon:g}",
            f"{point.noise_multiplier:.4g}",
            f"{point.mean:.4f}",
            len(point.qualities),
        )
        for point in found.points
    ]
    show(
        {**asdict(found), "points": [{**asdict(point), "mean": point.mean} for point in found.points]},
        output,
        rows(subtitle(found), ("ε", "σ", found.metric, "models"), lines, ""),
    )
