"""What runs inside the compute zone: from sealed rows to a model, under differential privacy.

`encoding`, `models` and `tasks` are plain torch and serve the control plane's predictions too; only `driver`,
`worker` and what they import know Ray.
"""

from secure_train.training.encoding import Examples, Split, encode, encode_features, split_rows
from secure_train.training.errors import EncodingError, ModelError, TrainingError
from secure_train.training.models import build_model
from secure_train.training.tasks import HeldOutSums, Task, task_of

__all__ = [
    "EncodingError",
    "Examples",
    "HeldOutSums",
    "ModelError",
    "Split",
    "Task",
    "TrainingError",
    "build_model",
    "encode",
    "encode_features",
    "split_rows",
    "task_of",
]
