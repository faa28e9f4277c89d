"""What plans of jobs and of searches have in common: the resolved file, and the refusal."""

from __future__ import annotations

from typing import Any

from secure_train.cli.errors import CliError, ExitCode


class PlanDenied(CliError):
    """The job or search, as it stands, would be refused."""

    code = "denied"
    exit_code = ExitCode.DENIED


def plan_yaml(spec: dict[str, Any]) -> str:
    """Write a resolved specification as a job file: every default filled in, nothing that is empty."""
    import yaml

    full = _without_empty(spec)
    return str(yaml.safe_dump(full, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100))


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _without_empty(item) for name, item in value.items()}
    return {name: item for name, item in inner.items() if item is not None and item != {}}
