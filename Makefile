# `make run` and `make test` work in a fresh clone: they make their own environment in .venv and need nothing but
# Python 3.11 to 3.13 and a package index.
#
#   make run PYTHON=python3.13                                         another interpreter
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cpu          torch from there: without 3.7 GB for NVIDIA cards
#   make run ARGS="--env gpu --pipelines retriever_training"           arguments of `kedro run`
#   make unit ARGS="tests/read -k bart" WORKERS=0                      arguments of pytest; all tests in one process

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
# Processes that share the tests, each with one thread: most tests use no more, and a library that has more waits.
WORKERS ?= 2
BIN := .venv/bin
# Byte code is written when a module is first imported: compiling all of torch at once takes longer than the rest.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
CODE := src tests

# Nothing is reported to anybody.
export DO_NOT_TRACK := 1
export KEDRO_DISABLE_TELEMETRY := true
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tokenizers warn in each forked process otherwise.
export TOKENIZERS_PARALLELISM := false
# Output that goes to a file or another program has no width of its own, and 80 columns break every log line.
ifndef MAKE_TERMOUT
export COLUMNS ?= 160
endif

.PHONY: help run test lint format types imports unit browser docs viz clean

help: ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: .venv/.installed-run ## install, then run everything: from documents to a tuned, evaluated, served RAG
	$(BIN)/python -m kedro run $(ARGS)

# The kedro command lies in the environment, and tests start it by its name.
test: export PATH := $(CURDIR)/$(BIN):$(PATH)
# What the tests need is installed: whatever asks the hub is a fault, and shall be seen as one.
test: export HF_HUB_OFFLINE := 1
test: lint types imports unit docs ## install, then check and test everything

lint: .venv/.installed-test ## code style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-test ## types
	$(BIN)/mypy

imports: .venv/.installed-test ## rules of the house: what may import what
	$(BIN)/lint-imports

unit: .venv/.installed-test browser ## tests and the examples in docstrings
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

# Where it cannot be installed, the tests that need it are skipped and say so.
BROWSER := chromium chromium-driver
browser: ## a browser for the tests of the report, where there is none: Debian's, if this is root
	@if ! command -v chromedriver >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get install -qq -y $(BROWSER) || { apt-get update -qq && apt-get install -qq -y $(BROWSER); }; } >/dev/null 2>&1 \
	    || echo "No browser could be installed: install $(BROWSER)."; \
	fi

docs: .venv/.installed-test ## the user guide, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: .venv/.installed-test ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

viz: .venv/.installed-run ## the pipelines in the browser
	$(BIN)/python -m kedro viz run

clean: ## remove the environment, caches and builds; never data
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist site
	find src tests -name __pycache__ -prune -exec rm -rf {} +
	rm -rf src/*.egg-info

# A file in the environment is younger than the lists that it was installed from, or the installation is repeated.
.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "$(PYTHON) is missing or not Python 3.11 to 3.13. Try: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	@echo "Making an environment in .venv …"
	$(PYTHON) -m venv .venv
	touch $@

.venv/.installed-run: .venv/.created pyproject.toml constraints.txt
	@echo "Installing; this takes a minute or two, once …"
	@# Alone, so that TORCH_INDEX counts for torch only: on Linux the usual index has it with CUDA, which is gigabytes.
	$(INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(INSTALL) --editable .
	touch $@

.venv/.installed-test: .venv/.created pyproject.toml constraints.txt
	@echo "Installing with all that the tests need; this takes a minute or two, once …"
	$(INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(INSTALL) --editable '.[dev,docs,notebooks]'
	touch $@ .venv/.installed-run
