# `make demo` and `make test` are all there is to know. Both set themselves up in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# XLA compiles many small things: quickly, not well. `make test-long` compiles as users do.
QUICKLY := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# A file stays in one process, whose tests share their fixtures.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
TESTS :=  # all of them
QUICK := not slow and not long and not server and not packaging

.PHONY: demo test lint types test-tensorflow test-jax test-long test-server test-packaging test-oldest test-nightly test-slow format clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("kseq needs Python 3.11 to 3.13: make PYTHON=python3.13") if not (3, 11) <= sys.version_info < (3, 14) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile --editable ".[dev]"  # Python compiles what it imports
	touch $@

demo: $(VENV)/installed  ## Train, export, serve and ask a date normaliser, in about three minutes
	$(BIN)/python examples/normalize_dates.py

test: lint types test-tensorflow test-jax  ## Lint, types, and the tests on both backends, in less than ten minutes
	@echo "== make test: all four parts passed"

lint: $(VENV)/installed
	@echo "== 1 of 4: lint and format (ruff)"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	@echo "== 2 of 4: types (basedpyright)"
	$(BIN)/basedpyright --project pyproject.toml

test-tensorflow: $(VENV)/installed
	@echo "== 3 of 4: tests on TensorFlow"
	$(QUICKLY) $(PYTEST) -m "$(QUICK)" $(TESTS)

test-jax: $(VENV)/installed  ## What is marked every_backend. JAX compiles many small things: quickly, not well
	@echo "== 4 of 4: tests on JAX, of those marked every_backend"
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PYTEST) -m "every_backend and $(QUICK)" $(TESTS)

test-long: $(VENV)/installed  ## What takes seconds a test: compilations of whole models, long sequences, trainings
	$(PYTEST) -m "long and not slow"

test-server: $(VENV)/installed  ## What starts processes: servers under faults and floods, in a browser; examples
	$(QUICKLY) $(PYTEST) -m "server and not long and not slow"

test-packaging: $(VENV)/installed  ## Build the wheel and the sdist, and follow the README from an empty environment
	$(BIN)/python -m pytest -m packaging tests/test_packaging.py

test-oldest:  ## The tests of `make test` with the oldest versions that pyproject.toml allows, in .venv-oldest
	rm -rf .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --upgrade pip uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --resolution lowest-direct --editable ".[dev]"
	touch .venv-oldest/installed
	$(MAKE) test-tensorflow test-jax VENV=.venv-oldest

# Keras and its nightly build are both imported as `keras`, so the one that the others require is removed first.
NIGHTLY := $(addprefix tests/,layers cells attention engine losses models contracts export test_written_before.py)

test-nightly:  ## The tests nearest to Keras with its newest nightly build, in .venv-nightly, in about eight minutes
	rm -rf .venv-nightly
	$(PYTHON) -m venv .venv-nightly
	.venv-nightly/bin/pip install --quiet --upgrade pip uv
	.venv-nightly/bin/uv pip install --quiet --python .venv-nightly --editable ".[text,serving]" jax optax pytest pytest-xdist
	.venv-nightly/bin/uv pip uninstall --quiet --python .venv-nightly keras
	.venv-nightly/bin/uv pip install --quiet --python .venv-nightly --prerelease allow keras-nightly
	.venv-nightly/bin/python -c 'import keras, sys; print("Keras", keras.__version__); sys.exit(tuple(map(int, keras.__version__.split(".")[:2])) < (3, 16))'
	touch .venv-nightly/installed
	$(MAKE) test-tensorflow test-jax VENV=.venv-nightly TESTS="$(NIGHTLY)"

test-slow: $(VENV)/installed  ## Long tests on JAX; training on real data, if it is beside the checkout; about half an hour
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PYTEST) -m "every_backend and long and not slow and not server"
	$(BIN)/python -m pytest -m slow

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-oldest .venv-nightly build
