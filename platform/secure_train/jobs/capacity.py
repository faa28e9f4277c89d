"""Whether a cluster could ever hold a job's workers, were it empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secure_train.spec import Resources

NodeResources = Mapping[str, float]
"""All that a node has, used or not, by Ray's names: ``CPU``, ``GPU``."""
_SLACK = 1e-6


def shortage(resources: Resources, nodes: Sequence[NodeResources]) -> str | None:
    """Say what a job waits for in vain, or None if all its workers fit the nodes at once.

    A worker needs its CPUs and GPUs on one node, so that a cluster with enough of them in all may still be
    too small.
    """
    need = {"CPU": float(resources.cpus_per_worker), "GPU": float(resources.gpus_per_worker)}
    need = {name: amount for name, amount in need.items() if amount > 0}
    places = sum(_places(need, node) for node in nodes)
    if places >= resources.workers:
        return None
    lacking = [
        f"{_count(amount * resources.workers, name)}, the cluster has {total:g}"
        for name, amount in need.items()
        if (total := sum(node.get(name, 0.0) for node in nodes)) + _SLACK < amount * resources.workers
    ]
    if lacking:
        return "waiting for " + "; for ".join(lacking)
    each = " and ".join(_count(amount, name) for name, amount in need.items())
    return (
        f"waiting for {resources.workers} workers of {each} each, and the cluster's {len(nodes)} nodes have "
        f"room for {places}: a worker does not span nodes"
    )


def _places(need: NodeResources, node: NodeResources) -> int:
    return min(int(node.get(name, 0.0) / amount + _SLACK) for name, amount in need.items())


def _count(amount: float, name: str) -> str:
    return f"{amount:g} {name}" if amount == 1 else f"{amount:g} {name}s"
