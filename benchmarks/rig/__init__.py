"""What the kill tests, the soak and the recovery benchmark share: a real stack that may be hurt."""

from rig.job import small_job
from rig.stack import ENDED, PURPOSE, Stack, throw_away_stack

__all__ = ["ENDED", "PURPOSE", "Stack", "small_job", "throw_away_stack"]
