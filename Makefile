# One command a task, the same by hand and in CI. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS   ?=
# The stamp is made anew when what is to be installed has changed.
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint type bench wheel-test lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "tradetrail needs Python 3.11 or later, and there is no $(PYTHON): install it, or name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("tradetrail needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + ": name another, as in: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing what requirements.lock pins into $(VENV) ..." >&2
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

setup: $(READY) ## Make the virtual environment with everything pinned in requirements.lock

demo: $(READY) ## Run the example bot, the loader and an embedded PostgreSQL, and show what came of it
	@$(BIN)/tradetrail demo $(ARGS)

test: $(READY) ## Run the tests (ARGS="-k recovery" to choose)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## Check style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: $(READY) ## Check types (mypy --strict)
	@$(BIN)/mypy

bench: $(READY) ## Measure, each figure beside a rival in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

wheel-test: $(READY) ## Build the wheel; install it bare and emit; install it with extras and load
	@$(BIN)/python -m tests.wheel $(ARGS)

lock: $(READY) ## Pin the newest versions of everything anew
	@$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --upgrade --extra loader --extra embedded --group dev --output-file requirements.lock pyproject.toml

clean: ## Remove what the targets made: environment, caches, var/
	@rm -rf $(VENV) var dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
