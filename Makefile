# make run    the whole loop: private images in, an audited student out
# make test   format, lint, types, import contracts, examples, tests
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

.PHONY: run test lint viz mlflow environment clean
.DEFAULT_GOAL := run

run: $(READY)
	$(BIN)/kedro run --pipeline=$(PIPELINE) $(if $(ENV),--env=$(ENV)) $(if $(PARAMS),"--params=$(PARAMS)") $(ARGS)

test: lint
	$(BIN)/pytest -q --doctest-modules src/tckr
	$(BIN)/pytest -q -m "not slow"
	$(BIN)/pytest -q -m slow

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
	@$(BIN)/pip install --disable-pip-version-check -qq -r requirements.lock
	@$(BIN)/pip install --disable-pip-version-check -qq --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build
