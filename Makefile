# Every target sets up what it needs: a private uv where none is installed, then .venv from the hashed lock.
.DEFAULT_GOAL := help
PYTHON ?= python3
UV ?= $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread a test process: two processes share the machine's two cores. Compiled modules are kept even where the environment says
# otherwise: else every process of the tests compiles torch anew.
TEST_ENV := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=agg

.PHONY: help setup demo test test-slow lint format docs bench models lock clean

help:  ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet uv

$(STAMP): requirements.txt pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	touch $@

setup: $(STAMP)  ## Put the environment into .venv

demo: $(STAMP)  ## Explain a real radiograph with the built-in models
	$(BIN)/gifsplain demo --output out/demo

test: $(STAMP)  ## Run the fast tests
	$(TEST_ENV) $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(STAMP)  ## Run the slow tests: browsers, servers, kills, real data where it is
	$(TEST_ENV) $(BIN)/pytest -m slow --timeout 900

lint: $(STAMP)  ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## Build the documentation into site/
	$(BIN)/python -m gifsplain.cli.reference docs/command-line.md --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP)  ## Run the benchmarks and print ratios with spread
	$(BIN)/python benchmarks/run_all.py

models: $(STAMP)  ## Retrain the built-in models from DATA (default ../shared/data)
	$(BIN)/python examples/make_models.py --data $(or $(DATA),../shared/data)
	$(BIN)/python examples/make_styleex.py --data $(or $(DATA),../shared/data)

lock: | $(UV)  ## Write requirements.txt anew from pyproject.toml
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url \
		--all-extras --group dev pyproject.toml --output-file requirements.txt

clean:  ## Remove what the other targets made
	rm -rf $(VENV) .uv out site build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
