"""``encrypt``: linear layers on encrypted records."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secure_train.cli.errors import UsageError
from secure_train.cli.output import Format, Output, rows, show

if TYPE_CHECKING:
    from secure_train.ckks.plan import Plan

app = typer.Typer(help="Linear layers on encrypted records (CKKS).", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Linear layers on encrypted records (CKKS)."""


@app.command()
def plan(
    d_in: Annotated[int, typer.Argument(help="Features of a record.")],
    d_out: Annotated[int, typer.Argument(help="Outputs of the layer.")],
    batch: Annotated[int, typer.Argument(help="Records that are encrypted.")],
    sampling_rate: Annotated[float, typer.Option(help="Each record's probability to be in a step.")] = 1.0,
    encryptor: Annotated[
        str, typer.Option(help="secret-key (custodian) or public-key (owners who pool).")
    ] = "secret-key",
    clip: Annotated[float, typer.Option(help="C: bound of a record's gradient norm.")] = 1.0,
    record_norm: Annotated[float, typer.Option(help="R: bound of a record's norm.")] = 1.0,
    error_norm: Annotated[float, typer.Option(help="Bound of a record's error signal's norm.")] = math.sqrt(
        2
    ),
    weight_norm: Annotated[float, typer.Option(help="Bound of the norm of an output's weights.")] = 8.0,
    tolerance: Annotated[float, typer.Option(help="Acceptable error, in units of outputs and of C.")] = 0.05,
    ring_degree: Annotated[int, typer.Option(help="N.")] = 2048,
    modulus_bits: Annotated[
        int | None, typer.Option(help="Width of q; else the narrowest that does.")
    ] = None,
    scale_bits: Annotated[int | None, typer.Option(help="Else the largest that cannot overflow.")] = None,
    samples_per_block: Annotated[int | None, typer.Option(help="Else the quickest.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the primitives here, rather than use the reference's.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Choose ring, scale and packing for a layer, and predict a step; nothing is encrypted."""
    from secure_train.ckks import CKKSError, EncryptedBy, Parameters
    from secure_train.ckks.costs import REFERENCE
    from secure_train.ckks.costs import measure as measure_costs
    from secure_train.ckks.plan import Limits
    from secure_train.ckks.plan import plan as make_plan

    if encryptor not in set(EncryptedBy):
        raise UsageError(f"--encryptor {encryptor}: is neither secret-key nor public-key")
    try:
        costs = measure_costs(Parameters.of_bits(ring_degree, modulus_bits or 51)) if measure else REFERENCE
        found = make_plan(
            d_in,
            d_out,
            batch,
            sampling_rate,
            EncryptedBy(encryptor),
            limits=Limits(record_norm, error_norm, weight_norm, clip, tolerance),
            ring_degree=ring_degree,
            modulus_bits=modulus_bits,
            scale_bits=scale_bits,
            samples_per_block=samples_per_block,
            costs=costs,
        )
    except CKKSError as error:
        raise UsageError(str(error)) from error
    data = _plain(found)
    show(data, output, rows("Plan", ("what", "value"), _lines(found), ""))


def _plain(plan: Plan) -> dict[str, Any]:
    data = asdict(plan)
    data["encryptor"] = plan.encryptor.value
    # More than 53 bits: a JSON number would lose some.
    data["parameters"]["modulus"] = str(plan.parameters.modulus)
    data["parameters"]["id"] = plan.parameters.id
    return data | {
        "security_bits": plan.security_bits,
        "expected_batch": plan.expected_batch,
        "seconds": plan.step.seconds,
    }


def _lines(plan: Plan) -> list[tuple[str, str]]:
    step, ring = plan.step, plan.parameters
    kind = "feature-major: weights are constants" if plan.packing.constant_weights else "coefficient"
    return [
        (
            "ring",
            f"N = {ring.ring_degree}, q = {ring.modulus} ({ring.modulus_bits} bits), at least "
            f"{plan.security_bits}-bit security",
        ),
        ("packing", f"{kind}; {plan.packing.samples} samples x {plan.packing.features} features in a block"),
        ("scale", f"2^{plan.record_scale_bits} of records, 2^{plan.scale_bits} of weights and error signals"),
        ("headroom", f"{plan.headroom_bits:.1f} bits below q/2 in the worst case"),
        (
            "error of an output",
            f"{plan.output_error:.2g} (6 deviations), {plan.worst_output_error:.2g} at worst",
        ),
        (
            "error of a gradient",
            f"{plan.gradient_error:.2g} (6 deviations), {plan.worst_gradient_error:.2g} at worst",
        ),
        (
            "products",
            f"{step.ciphertext_plain} with weights, {step.ciphertext_ciphertext} of two ciphertexts",
        ),
        ("custodian", f"{step.encryptions} encryptions, {step.decryptions} decryptions a step"),
        (
            "bytes",
            f"{_mib(step.record_bytes)} of records once; {_mib(step.bytes_up)} up and "
            f"{_mib(step.bytes_down)} down a step",
        ),
        (
            "seconds a step",
            f"{step.compute_seconds:.3g} workers + {step.custodian_seconds:.3g} custodian, one core each",
        ),
        ("seconds to encrypt", f"{step.setup_seconds:.3g} once, one core"),
    ]


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
