# `make demo` and `make test` do everything from a fresh clone; both make the same virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --dist loadfile

.PHONY: demo test tests quick mutants lint types docs benchmarks clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,docs,onnx,report,sentiment,tune,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m counterpoint.cli.demo --out demo

# Three at once keep every core busy to the end: types take one of them for a while.
test: $(STAMP)
	$(MAKE) --jobs 3 lint types tests

tests: $(STAMP)
	$(PYTEST)

quick: $(STAMP)
	$(PYTEST) -m "not slow"

# Changes the code in small ways and counts the changes that no test notices: in two files, or in what
# MUTANTS='counterpoint.balance.methods.pcgrad*' says; an empty MUTANTS= is all of balance/ and metrics/.
MUTANTS ?= 'counterpoint.balance.methods.metabalance*' 'counterpoint.metrics.topk*'
mutants: $(STAMP)
	$(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results | sed '/: not checked$$/d'

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: $(STAMP)
	$(BIN)/mypy

benchmarks: $(STAMP)
	$(BIN)/python -m benchmarks

docs: $(STAMP)
	$(BIN)/python -m docs.tables
	$(BIN)/python -m counterpoint.balance.documentation docs/methods.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) demo site mutants build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
