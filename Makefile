# Two commands from nothing: `make demo` runs the main job, `make test` passes all tests. Each does all its own set-up.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help demo test lint format bench engine engine-down docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml .ci/venv
	@.ci/venv $(VENV)
	@touch $(READY)

engine: ## make sure that a real Docker engine and a local registry run, with the base images
	@.ci/engine bases

engine-down: ## end what `make engine` started
	@.ci/engine down

demo: $(READY) engine ## lock, build, train, change one pin, build and train again, diff the two runs
	@examples/demo $(PYTHON)

test: $(READY) engine ## all tests, on a real engine, a real registry and a real MLflow
	@.ci/test $(PYTHON)

lint: $(READY) ## ruff, mypy, import contracts, hadolint, shellcheck
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(VENV)/bin/hadolint Dockerfile.base
	@$(VENV)/bin/shellcheck -x .ci/bases .ci/engine .ci/run .ci/test .ci/venv examples/demo

format: $(READY) ## write the code as ruff would
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/ruff format --quiet .

docs: $(READY) ## write what is generated: the schema, and the reference tables in README.md
	@$(PYTHON) .ci/reference

bench: $(READY) engine ## measure against what one would do instead, side by side; BENCH="--list full …" says what
	@$(PYTHON) -m benchmarks $(BENCH)

clean: ## remove what make made in this folder
	rm -rf $(VENV) .demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
