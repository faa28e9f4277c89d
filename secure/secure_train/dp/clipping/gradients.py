"""From recorded uses to every trainable parameter's per-record gradients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from secure_train.dp.clipping.factors import Factor, combine
from secure_train.dp.clipping.rules import attention, require_records, rule_for
from secure_train.dp.clipping.tape import Use


def per_record_gradients(uses: Iterable[Use], names: Mapping[int, str], records: int) -> dict[str, Factor]:
    """Per-record gradients by name, in the order of `names`. A parameter without one has gradient zero.

    A parameter's uses, by one layer or several that share it, are added up before anything is measured.

    Args:
        uses: of one physical batch.
        names: the trainable parameters' names by their `id`.
        records: of the physical batch.

    Raises:
        UnsupportedModel: records cannot be told apart in some use.
    """
    found: defaultdict[str, list[Factor]] = defaultdict(list)
    for use in uses:
        rule = rule_for(use.layer)
        if rule is not attention:
            require_records(use, records)
        for local, factor in rule(use).items():
            found[names[id(_parameter(use.layer, local))]].append(factor)
    return {name: combine(found[name]) for name in names.values() if name in found}


def _parameter(layer: nn.Module, local: str) -> Tensor:
    return layer.get_parameter(local)
