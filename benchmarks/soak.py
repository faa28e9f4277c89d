"""One long job, and processes killed at random: does everything that was promised still hold at its end?

Workers, drivers and the control plane are killed with SIGKILL, at random steps and moments, also while
the job is still recovering from the kill before. In the end the job must have succeeded, each step must
have been charged exactly once and before anything of it left a worker, no step may ever have given two
values, the audit trail must be whole and must continue every checkpoint of it that was kept, and no process
may be left over.

Run ``python benchmarks/soak.py [--kills 20] [--quick] [--seed N] [-o json]``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

from rig import Stack, evidence, processes, small_job, throw_away_stack
from secure_train.wire.evidence import AuditEventView
from secure_train.wire.jobs import JobDetail

ROWS = 3_000
STEPS_PER_KILL = 50
LONGEST_DELAY_SECONDS, LONGEST_ABSENCE_SECONDS = 5.0, 10.0
FAREWELL_SECONDS = 180.0
_PAUSE_SECONDS = 0.5


class Soak:
    """Kills, and keeps what the stack acknowledged to compare it later."""

    def __init__(self, stack: Stack, job: str, chance: random.Random) -> None:
        self._stack = stack
        self._job = job
        self._chance = chance
        self._acknowledged: list[AuditEventView] = []
        self.kept: list[str] = []
        self.kills: Counter[str] = Counter()

    def strike(self, step: int) -> str:
        """Kill something soon after the job has come to a step; returns what."""
        self._stack.wait_for(self._job, lambda detail: detail.job.step >= step)
        self.compare()
        time.sleep(self._chance.uniform(0, LONGEST_DELAY_SECONDS))
        kinds: dict[str, Callable[[], bool]] = {
            "worker": self._worker,
            "driver": self._driver,
            "control plane": self._control_plane,
        }
        kind = self._chance.choice(sorted(kinds))
        while not kinds[kind]():
            time.sleep(_PAUSE_SECONDS)
        self.kills[kind] += 1
        return kind

    def compare(self) -> None:
        """Keep the trail's head, and check that all that was acknowledged is still there, as it was."""
        found = evidence.events_about(self._stack, self._job)
        if found[: len(self._acknowledged)] != self._acknowledged:
            raise evidence.Broken(f"acknowledged events of {self._job} are gone or altered")
        self._acknowledged = found
        self.kept.append(self._stack.cast.admin.audit_checkpoint().note)

    def _worker(self) -> bool:
        return self._kill(processes.workers_of(self._stack.home))

    def _driver(self) -> bool:
        pid = processes.driver_of(self._stack.home)
        return self._kill([] if pid is None else [pid])

    def _kill(self, pids: list[int]) -> bool:
        """Kill one of them; False if there is none, or it ended by itself just then."""
        try:
            processes.kill(self._chance.choice(pids))
        except (IndexError, ProcessLookupError):
            return False
        return True

    def _control_plane(self) -> bool:
        self._stack.kill_control_plane()
        time.sleep(self._chance.uniform(0, LONGEST_ABSENCE_SECONDS))
        self._stack.bring_up()
        return True


def soak(stack: Stack, kills: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the job, kill, and judge. Returns the figures; raises if a promise was not kept."""
    steps = STEPS_PER_KILL * (kills + 1)
    recovery = {"maxFailures": 100, "checkpointEvery": 20}
    job = stack.submit(small_job("soak", steps, resources={"workers": 2}, recovery=recovery))
    runner = Soak(stack, job, chance)
    started = time.monotonic()
    for number, step in enumerate(sorted(chance.randrange(1, steps - STEPS_PER_KILL) for _ in range(kills))):
        kind = runner.strike(step)
        say(f"kill {number + 1} of {kills}, after step {step} of {steps}: {kind}")
    detail = stack.end_of(job)
    runner.compare()
    _require_whole(stack, detail)
    events = evidence.require_gapless(stack, runner.kept)
    _require_quiet(stack)
    recovered = [one for one in detail.recoveries if one.seconds is not None]
    return {
        "kills": kills,
        **{f"{kind.replace(' ', '_')}_kills": count for kind, count in sorted(runner.kills.items())},
        "steps": detail.job.steps,
        "steps_charged": sum(evidence.steps_charged(stack, job).values()),
        "epsilon_declared": detail.job.epsilon,
        "epsilon_spent": detail.job.spent_epsilon,
        "attempts": detail.job.attempt,
        "recoveries": len(recovered),
        "steps_repeated": sum(one.steps_repeated or 0 for one in recovered),
        "median_recovery_seconds": round(median([one.seconds or 0.0 for one in recovered] or [0.0]), 2),
        "checkpoints": detail.job.checkpoints,
        "audit_events": events,
        "kept_audit_checkpoints": len(runner.kept),
        "seconds": round(time.monotonic() - started, 1),
    }


def _require_whole(stack: Stack, detail: JobDetail) -> None:
    job = detail.job
    if job.state != "succeeded" or job.step != job.steps:
        raise evidence.Broken(f"{job.id} {job.state} at step {job.step} of {job.steps}: {job.reason}")
    if job.spent_epsilon > job.epsilon:
        raise evidence.Broken(f"{job.id} spent epsilon {job.spent_epsilon!r} of {job.epsilon!r}")
    evidence.require_recovered(detail, 0)
    evidence.require_charged_once(stack, detail)
    evidence.require_charged_first(stack, job.id)
    evidence.require_same_values(stack, job.id)


def _require_quiet(stack: Stack) -> None:
    """Wait for the job's processes to end; raises Broken if one stays."""
    until = time.monotonic() + FAREWELL_SECONDS
    while (driver := processes.driver_of(stack.home)) or processes.workers_of(stack.home):
        if time.monotonic() > until:
            workers = processes.workers_of(stack.home)
            raise evidence.Broken(f"the job has ended, and driver {driver}, workers {workers} still run")
        time.sleep(_PAUSE_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="how many processes to kill (20)")
    parser.add_argument("--quick", action="store_true", help="three kills")
    parser.add_argument("--seed", type=int, default=None, help="to draw the same kinds and steps again")
    parser.add_argument("-o", choices=["text", "json"], default="text", help="json: only the last line")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    kills = 3 if arguments.quick else arguments.kills
    text = arguments.o == "text"

    def say(line: str) -> None:
        if text:
            print(line, flush=True)

    say(f"seed {seed}")
    with throw_away_stack(ROWS, say) as stack:
        figures = soak(stack, kills, random.Random(seed), say)
    if text:
        for name, value in figures.items():
            print(f"{name:28} {value:>12}")
    result = {"benchmark": "soak", "quick": arguments.quick, "seed": seed, "figures": figures}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
