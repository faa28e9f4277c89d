"""Dataset schemas: what is encoded how wide, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_train.spec import (
    BinaryTarget,
    CategoricalColumn,
    DatasetSchema,
    IgnoredColumn,
    NumericColumn,
    SpecErrors,
    load_schema,
)

HEADER = (
    "age,workclass,education,education_num,marital_status,occupation,relationship,race,sex,"
    "capital_gain,capital_loss,hours_per_week,income"
)
SMALL = """
columns:
  - {name: age, kind: numeric, lower: 17, upper: 90}
  - {name: sex, kind: categorical, categories: [Female, Male], unknown: other}
  - {name: id, kind: ignored}
target: {name: income, task: binary, classes: ["no", "yes"], positive: "yes"}
"""


def refused(text: str) -> dict[str, str]:
    with pytest.raises(SpecErrors) as caught:
        load_schema(text)
    return {error.path: error.message for error in caught.value.errors}


def test_the_example_describes_exactly_the_columns_of_the_file(schema_file: Path) -> None:
    schema = load_schema(schema_file)
    assert [column.name for column in schema.columns] + [schema.target.name] == HEADER.split(",")
    assert isinstance(schema.target, BinaryTarget)
    assert (schema.target.positive, schema.target.negative) == (">50K", "<=50K")
    assert (schema.holdout.fraction, schema.holdout.release) == (0.2, "noised")
    # 5 numeric columns, and 9 + 16 + 7 + 15 + 6 + 5 + 2 documented categories.
    assert schema.encoded_width() == 65


def test_width_counts_what_is_encoded() -> None:
    schema = load_schema(SMALL)
    assert [column.width for column in schema.features] == [1, 3]
    assert schema.encoded_width() == 4
    assert schema.target.width == 1


def test_python_builds_the_same_schema_as_a_file() -> None:
    schema = DatasetSchema(
        columns=(
            NumericColumn(name="age", lower=17, upper=90),
            CategoricalColumn(name="sex", categories=("Female", "Male"), unknown="other"),
            IgnoredColumn(name="id"),
        ),
        target=BinaryTarget(name="income", classes=("no", "yes"), positive="yes"),
    )
    assert schema == load_schema(SMALL)


def test_yaml_words_such_as_no_stay_labels() -> None:
    schema = load_schema(SMALL.replace('["no", "yes"]', "[no, yes]").replace('"yes"', "yes"))
    assert schema == load_schema(SMALL)


def test_outputs_follow_the_task() -> None:
    target = SMALL[SMALL.index("{name: income") :]
    several = load_schema(SMALL.replace(target, "{name: x, task: multiclass, classes: [a, b, c]}"))
    assert several.target.width == 3
    number = load_schema(SMALL.replace(target, "{name: x, task: regression, lower: 0, upper: 9}"))
    assert number.target.width == 1


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("upper: 90", "upper: 17", "columns.0.upper"),
        ("lower: 17", "lower: .inf", "columns.0.lower"),
        ("lower: 17", "lower: -1e16", "columns.0.lower"),
        ("lower: 17, ", "", "columns.0.lower"),
        ("[Female, Male]", "[Female, Male, Female]", "columns.1.categories.2"),
        ("[Female, Male]", "[]", "columns.1.categories"),
        ("[Female, Male]", "[Female, 1]", "columns.1.categories.1"),
        ("unknown: other", "unknown: drop", "columns.1.unknown"),
        ("name: id", "name: age", "columns.2.name"),
        ("name: income", "name: age", "target.name"),
        ('positive: "yes"', "positive: maybe", "target.positive"),
        ('["no", "yes"]', '["yes", "yes"]', "target.classes.1"),
        ('["no", "yes"]', '["yes"]', "target.classes.1"),
        ("task: binary", "task: ranking", "target.task"),
        ("target:", "holdout: {fraction: 0.6}\ntarget:", "holdout.fraction"),
        ("target:", "holdout: {release: all}\ntarget:", "holdout.release"),
        ("kind: ignored", "kind: ignore", "columns.2.kind"),
    ],
)
def test_a_mistake_is_refused_where_it_stands(old: str, new: str, path: str) -> None:
    assert old in SMALL
    assert set(refused(SMALL.replace(old, new, 1))) == {path}


def test_a_schema_without_features_is_refused() -> None:
    text = SMALL.replace("kind: numeric, lower: 17, upper: 90", "kind: ignored")
    text = text.replace("kind: categorical, categories: [Female, Male], unknown: other", "kind: ignored")
    assert refused(text) == {"columns": "encode to 0 model inputs"}


def test_a_schema_too_wide_to_train_on_is_refused() -> None:
    categories = ", ".join(f"v{index}" for index in range(500))
    wide = "\n".join(f"  - {{name: c{n}, kind: categorical, categories: [{categories}]}}" for n in range(8))
    assert load_schema(SMALL.replace("columns:", f"columns:\n{wide}")).encoded_width() == 4004
    columns = tuple(
        CategoricalColumn(name=f"c{n}", categories=tuple(f"v{index}" for index in range(10_000)))
        for n in range(101)
    )
    with pytest.raises(ValueError, match="encode to 1,010,000 model inputs"):
        DatasetSchema(columns=columns, target=load_schema(SMALL).target)
