# Two commands do everything on a fresh machine: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
SOURCES := secure platform audit migrations tests benchmarks examples

.PHONY: help setup demo test test-fast lint format bench lock system-packages clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP)  ## Create .venv and install everything at the locked versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,postgresql]'
	touch $@

demo: setup  ## Run the main job end to end on real data, and show it
	$(BIN)/secure-train demo

system-packages:
	sh tests/system-packages.sh

test: setup system-packages  ## Run every test, with coverage
	$(BIN)/python -m coverage erase
	$(PYTEST) -q -m "not slow" -n 2 --dist loadfile --cov --cov-report=
	$(PYTEST) -q -m slow --cov --cov-append --cov-report=term:skip-covered

test-fast: setup  ## Run the tests that start neither Ray nor a server process nor a browser
	$(PYTEST) -q -m "not slow" -n 2 --dist loadfile

lint: setup  ## Check style, types and import directions
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: setup  ## Run every benchmark in its quick form
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script --quick; done

lock: setup  ## Write the versions that are installed into constraints.txt
	( head -n 1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' ) > constraints.new
	mv constraints.new constraints.txt

clean:  ## Remove what setup and tests made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .import_linter_cache
