# make run    the whole loop: private images in, an audited student out
# make test   format, lint, types, import contracts, examples, tests
# make test-oldest    the fast tests, on the oldest versions that pyproject.toml allows
# make run PARAMS=resume=last    take up the run that was killed or failed
# make viz    the pipelines in the browser        make mlflow   the runs in the browser
#
# PIPELINE=<name> ENV=<env> PARAMS=<a.b=1,...> ARGS="<anything else kedro run takes>"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIPELINE ?= knowledge_recycling
export KEDRO_DISABLE_TELEMETRY = 1
# The tracking page needs none of MLflow's job workers, which would keep both cores of a laptop busy.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION = false
# `kedro mlflow ui` and `kedro viz` start other programs of the environment by name.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: run test test-oldest lint viz mlflow environment clean
.DEFAULT_GOAL := run

run: $(READY)
	$(BIN)/kedro run --pipeline=$(PIPELINE) $(if $(ENV),--env=$(ENV)) $(if $(PARAMS),"--params=$(PARAMS)") $(ARGS)

test: lint
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder --doctest-modules src/tckr tests

test-oldest:
	@mkdir -p build && $(PYTHON) scripts/oldest.py > build/oldest.txt
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --disable-pip-version-check -qq -c build/oldest.txt -e ".[dev]"
	.venv-oldest/bin/pytest -q -m "not slow"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

viz: $(READY)
	$(BIN)/kedro viz run

mlflow: $(READY)
	$(BIN)/kedro mlflow ui

environment: $(READY)

$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV): a few minutes, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# Python compiles what it imports, a third of what is installed.
	@$(BIN)/pip install --disable-pip-version-check -qq --no-compile -r requirements.lock
	@$(BIN)/pip install --disable-pip-version-check -qq --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build
