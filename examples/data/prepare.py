"""Make adult.csv and digits.csv from the files that README.md names.

    python prepare.py CENSUS_CSV DIGITS_CSV_GZ [OUTPUT_FOLDER]

Uses the standard library only. The same input bytes give the same output bytes.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ADULT_SOURCE = (
    "",
    "age",
    "workclass",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "ethnicity",
    "gender",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "loan",
)
ADULT = (
    "age",
    "workclass",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "income",
)
DIGITS = (*(f"p{pixel}" for pixel in range(64)), "digit")


def adult(source: Path, target: Path) -> None:
    """Drop the index column, strip spaces, and give the columns the names of UCI's documentation."""
    with source.open(newline="", encoding="utf-8") as opened:
        header, *rows = csv.reader(opened, strict=True)
    if tuple(header) != ADULT_SOURCE:
        raise SystemExit(f"{source}: the header is not that of xai 0.3.0's census.csv")
    _write(target, ADULT, ([value.strip() for value in row[1:]] for row in rows))


def digits(source: Path, target: Path) -> None:
    """Write pixels and label as integers under a header."""
    with gzip.open(source, "rt", newline="", encoding="utf-8") as opened:
        rows = [[str(int(float(value))) for value in row] for row in csv.reader(opened, strict=True)]
    _write(target, DIGITS, rows)


def _write(target: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with target.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(header)
        for number, row in enumerate(rows, start=1):
            if len(row) != len(header):
                raise SystemExit(f"{target.name}: record {number} has {len(row)} values, not {len(header)}")
            writer.writerow(row)
    print(f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {target.name}")  # noqa: T201 (its output)


if __name__ == "__main__":
    if len(sys.argv) not in {3, 4}:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[3]) if len(sys.argv) == 4 else Path(__file__).parent
    adult(Path(sys.argv[1]), folder / "adult.csv")
    digits(Path(sys.argv[2]), folder / "digits.csv")
