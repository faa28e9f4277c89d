"""What a job and a dataset are: models, files, canonical bytes, and packages of the author's code.

Depends on nothing else of the project. See `docs/job-spec.md` for the formats.
"""

from secure_train.spec.archive import Limits
from secure_train.spec.canonical import canonical, digest
from secure_train.spec.compatibility import check_compatible
from secure_train.spec.errors import SpecError, SpecErrors, SpecificationError, WorkdirError
from secure_train.spec.job import (
    Adam,
    DataSpec,
    Evaluation,
    Metadata,
    Privacy,
    Recovery,
    Resources,
    Sgd,
    Training,
    TrainingJob,
)
from secure_train.spec.json_schema import dataset_json_schema, json_schema, search_json_schema
from secure_train.spec.loading import job_from_json, load_job, load_schema, schema_from_json
from secure_train.spec.model import CnnModel, EntrypointModel, LinearModel, MlpModel, ModelSpec
from secure_train.spec.schema import (
    BinaryTarget,
    CategoricalColumn,
    Column,
    DatasetSchema,
    Holdout,
    IgnoredColumn,
    MulticlassTarget,
    NumericColumn,
    RegressionTarget,
    Target,
)
from secure_train.spec.search import SearchJob
from secure_train.spec.search_loading import load_search, load_submittable, search_from_json
from secure_train.spec.trials import Assignment, same_cost, trial_of
from secure_train.spec.workdir import Package, PackedFile, pack, unpack

__all__ = [
    "Adam",
    "Assignment",
    "BinaryTarget",
    "CategoricalColumn",
    "CnnModel",
    "Column",
    "DataSpec",
    "DatasetSchema",
    "EntrypointModel",
    "Evaluation",
    "Holdout",
    "IgnoredColumn",
    "Limits",
    "LinearModel",
    "Metadata",
    "MlpModel",
    "ModelSpec",
    "MulticlassTarget",
    "NumericColumn",
    "Package",
    "PackedFile",
    "Privacy",
    "Recovery",
    "RegressionTarget",
    "Resources",
    "SearchJob",
    "Sgd",
    "SpecError",
    "SpecErrors",
    "SpecificationError",
    "Target",
    "Training",
    "TrainingJob",
    "WorkdirError",
    "canonical",
    "check_compatible",
    "dataset_json_schema",
    "digest",
    "job_from_json",
    "json_schema",
    "load_job",
    "load_schema",
    "load_search",
    "load_submittable",
    "pack",
    "same_cost",
    "schema_from_json",
    "search_from_json",
    "search_json_schema",
    "trial_of",
    "unpack",
]
