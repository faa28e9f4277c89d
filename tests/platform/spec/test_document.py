"""Reading YAML: no surprises of YAML 1.1, no hostile input, and only ever SpecErrors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_train.spec import SpecError, SpecErrors, job_from_json, load_job, load_schema, schema_from_json
from secure_train.spec.document import MAX_BYTES, MAX_DEPTH, parse
from secure_train.spec.scalars import resolve


def errors(source: str | bytes | Path) -> tuple[SpecError, ...]:
    with pytest.raises(SpecErrors) as caught:
        load_job(source)
    return caught.value.errors


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1e-5", 1e-5),
        ("1.0e-5", 1e-5),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2020-01-02", "2020-01-02"),
        (".inf", float("inf")),
        ("-.Inf", float("-inf")),
        ("inf", "inf"),
        ("e5", "e5"),
        (".", "."),
        ("٣", "٣"),
        ("<<", "<<"),
    ],
)
def test_plain_scalars_follow_the_yaml_1_2_core_schema(text: str, value: object) -> None:
    result = resolve(text)
    assert result == value
    assert type(result) is type(value)


def test_an_endless_integer_is_not_converted_digit_by_digit() -> None:
    assert resolve("9" * 100_000) == float("inf")


def test_quoted_and_block_scalars_are_text() -> None:
    assert parse("a: '1'\nb: \"true\"\nc: |\n  2\n", "t").data == {"a": "1", "b": "true", "c": "2\n"}


def test_repeated_keys_are_refused_with_both_places(job_text: str) -> None:
    (error,) = errors(job_text.replace("  seed: 7", "  seed: 7\n  seed: {x: [1, 2]}\n  # "))
    assert error.path == "training.seed"
    line = job_text[: job_text.index("seed: 7")].count("\n") + 1
    assert (error.line, error.column) == (line + 1, 3)
    assert error.message == f"is given twice; first on line {line}"


def test_a_billion_laughs_are_refused_before_they_are_told() -> None:
    text = 'a0: &a0 ["ha"]\n' + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)
    )
    found = {error.message for error in errors(text)}
    assert "uses the YAML alias `*a0`" in found
    assert "has the YAML anchor `&a0`" in found


def test_nothing_more_is_said_about_a_value_that_could_not_be_read(job_text: str) -> None:
    (error,) = errors(job_text.replace("epsilon: 3.0", "epsilon: *budget"))
    assert (error.path, error.message) == ("privacy.epsilon", "uses the YAML alias `*budget`")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [ls]", "!!str 3", "!custom x"])
def test_tags_are_refused_and_never_acted_on(tag: str) -> None:
    assert any(error.path == "a" and "YAML tag" in error.message for error in errors(f"a: {tag}\n"))


@pytest.mark.parametrize("key", ["[1, 2]", "{a: b}", "? [x]\n"])
def test_a_key_is_a_word(key: str) -> None:
    assert any("as a key" in error.message for error in errors(f"{key}: 1\n"))


def test_a_second_document_is_refused(job_text: str) -> None:
    (error,) = errors(f"{job_text}\n---\n{job_text}")
    assert "more than one YAML document" in error.message
    assert error.line == job_text.count("\n") + 2


def test_a_tab_is_named_as_such() -> None:
    (error,) = errors("metadata:\n\tname: income\n")
    assert (error.line, error.column, error.message) == (2, 1, "is indented with a tab")


def test_other_encodings_are_refused_at_the_offending_byte() -> None:
    (error,) = errors("kind: TrainingJob\nname: café\n".encode("latin-1"))
    assert (error.line, error.column, error.given) == (2, 10, "byte 0xe9")


def test_a_byte_order_mark_is_no_obstacle(job_text: str) -> None:
    assert load_job(b"\xef\xbb\xbf" + job_text.encode()) == load_job(job_text)


def test_control_characters_are_refused_where_they_stand() -> None:
    (error,) = errors("kind: x\nname: a\x07\n")
    assert (error.line, error.column, error.given) == (2, 8, "U+0007")


def test_a_file_beyond_the_limit_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    (error,) = errors(path)
    assert "too large" in error.message
    (error,) = errors("é" * (MAX_BYTES // 2 + 1))
    assert "too large" in error.message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "a:\n"])
def test_deep_nesting_is_refused_and_not_recursed_into(opening: str) -> None:
    text = "".join(" " * n + "a:\n" for n in range(500)) if opening == "a:\n" else opening * 20_000
    (error,) = errors(text)
    assert error.message == f"is nested deeper than {MAX_DEPTH} levels"


@pytest.mark.parametrize("text", ['"\\UFFFFFFFF"', '"\\U00110000"', f"%YAML 1.{'1' * 5000}\n--- a"])
def test_what_makes_pyyaml_stumble_is_still_a_spec_error(text: str) -> None:
    assert errors(text)


def test_half_a_surrogate_pair_is_not_text(job_text: str) -> None:
    (error,) = errors(job_text.replace("name: income", 'name: "\\ud800"'))
    assert error.path == "metadata.name"
    assert errors('"\\ud800": 1')


def test_an_empty_file_is_said_to_be_empty() -> None:
    assert errors("")[0].message == errors("# only a comment\n")[0].message == "is empty"


def test_a_file_name_given_as_text_is_recognised() -> None:
    (error,) = errors("examples/adult/job.yaml")
    assert error.hint is not None
    assert "pathlib.Path" in error.hint


@pytest.mark.parametrize("name", ["absent.yaml", ".", "nul\0byte"])
def test_an_unreadable_file_is_a_spec_error(tmp_path: Path, name: str) -> None:
    (error,) = errors(tmp_path / name)
    assert "cannot be read" in error.message


@given(st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,?\\\t\n 01.~\ud800"))
def test_no_text_raises_anything_but_spec_errors(text: str) -> None:
    for load in (load_job, load_schema):
        with pytest.raises(SpecErrors) as caught:
            load(text)
        assert str(caught.value)
        json.dumps(caught.value.to_json())


@given(st.binary())
def test_no_bytes_raise_anything_but_spec_errors(raw: bytes) -> None:
    with pytest.raises(SpecErrors):
        load_job(raw)


@given(st.data())
def test_a_damaged_job_loads_or_raises_spec_errors(job_text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(job_text)))
    end = data.draw(st.integers(start, min(len(job_text), start + 40)))
    patch = data.draw(st.text(alphabet="ab:-[]{}&*!|'\"# \n01.~", max_size=12))
    found: tuple[SpecError, ...] | None = None
    try:
        load_job(job_text[:start] + patch + job_text[end:])
    except SpecErrors as error:
        found = error.errors
    assert found is None or (found and all(each.message for each in found))


def test_no_json_raises_anything_but_spec_errors(job_text: str) -> None:
    keys = st.sampled_from([*(w.strip(" :") for w in job_text.split() if ":" in w), "columns", "target"])
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    leaves |= st.sampled_from(["mlp", "cnn", "adam", "numeric", "binary"])
    values = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=5)
        ),
    )

    @given(values)
    def attempt(value: object) -> None:
        for load in (job_from_json, schema_from_json):
            with pytest.raises(SpecErrors) as caught:
                load(value)  # type: ignore[arg-type]  # whatever a client sends
            json.dumps(caught.value.to_json())

    attempt()
