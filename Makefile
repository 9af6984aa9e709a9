# `make demo` and `make test` are all there is to know. Both set themselves up in .venv.

PYTHON ?= python3
BIN := .venv/bin
# A file stays in one process, whose tests share their fixtures. JAX compiles many small things: quickly, not well.
PARALLEL := -n 2 --dist loadfile
PURE := tests/test_backend.py tests/test_masking.py tests/test_recurrence.py tests/test_linear_recurrence.py \
	tests/test_gated_linear_recurrence.py \
	tests/test_initializers.py tests/test_textbook_claims.py tests/contracts tests/alignment tests/cells tests/layers \
	tests/attention tests/decoding tests/losses tests/metrics tests/models

.PHONY: demo test lint types test-slow format clean

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("kseq needs Python 3.11 to 3.13: make PYTHON=python3.13") if not (3, 11) <= sys.version_info < (3, 14) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

demo: .venv/installed  ## Train, export, serve and ask a date normaliser, in about three minutes
	$(BIN)/python examples/normalize_dates.py

test: lint types .venv/installed  ## Everything but the tests marked slow
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(PURE)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/basedpyright --project pyproject.toml

test-slow: .venv/installed  ## Training on real data, if it is beside the checkout; about half an hour
	$(BIN)/python -m pytest -m slow

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build
