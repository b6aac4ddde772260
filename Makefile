# One command a task, the same by hand and in CI. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS   ?=
# Most tests wait for processes and disks: more of them run at once than there are cores.
WORKERS ?= 3
# What test-pythons looks for, on the PATH or as paths.
PYTHONS ?= python3.11 python3.12 python3.13
# The stamp is made anew when what is to be installed has changed.
READY  := $(VENV)/.ready
# Rivals to measure against have a folder of their own: neither the tests nor our own figures see them.
RIVALS := $(VENV)/rivals
# So has Spark, which is ten times as large as all else.
SPARK  := $(VENV)/spark

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-faults soak test-breakages test-pythons test-spark lint type bench bench-emit bench-load bench-archive bench-analysis wheel-test docs views lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-faults: $(READY) ## Run the long tests: hundreds of kills, failing disks, millions of rows (as root: all of them)
	@$(if $(ARGS),,rm -f var/faults.jsonl)
	@TRADETRAIL_TEST_FIGURES=var/faults.jsonl $(BIN)/python -m pytest -m long -v -n $(WORKERS) --dist worksteal $(ARGS); code=$$?; \
	$(BIN)/python -m tests.faults.figures var/faults.jsonl $(if $(ARGS),,--write); exit $$code

soak: $(READY) ## A busy bot, watch and archive under three random faults at a time, 20 minutes (ARGS="--minutes 5 --seed 7")
	@$(BIN)/python -m tests.faults.soak $(ARGS)

test-breakages: $(READY) ## Break the product on purpose, a hundred times, and demand that the tests go red (ARGS="ring")
	@$(BIN)/python -m tests.breakages $(ARGS)

test-pythons: ## Run the tests on each of PYTHONS that this machine has (as in PYTHONS="python3.12 python3.13")
	@passed= missing= failed=; \
	for python in $(PYTHONS); do \
		$$python -c '' 2>/dev/null || { missing="$$missing $$python"; continue; }; \
		printf '\n== %s\n' "$$($$python --version)"; \
		$(MAKE) --no-print-directory PYTHON=$$python VENV=$(VENV)/pythons/$$(basename $$python) test \
			&& passed="$$passed $$python" || failed="$$failed $$python"; \
	done; \
	printf '\npassed:%s\nfailed:%s\nnot on this machine:%s\n' "$${passed:- none}" "$${failed:- none}" "$${missing:- none}"; \
	test -n "$$passed" && test -z "$$failed"

test-spark: $(SPARK)/.ready ## Hold Spark's metrics against those of DuckDB and PostgreSQL (Java 17; 400 MB; some minutes)
	@PYTHONPATH=$(SPARK) $(BIN)/python -m pytest -v tests/integration/test_spark.py $(ARGS)

$(SPARK)/.ready: requirements-spark.lock | $(READY)
	@echo "Installing Spark as requirements-spark.lock pins it into $(SPARK) ..." >&2
	@rm -rf $(SPARK)
	@$(PIP) install --no-deps --target $(SPARK) -r requirements-spark.lock
	@touch $@

lint: $(READY) ## Check style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: $(READY) ## Check types (mypy --strict)
	@$(BIN)/mypy

bench: $(RIVALS)/.ready ## Measure, each figure beside a rival in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

bench-emit: $(RIVALS)/.ready ## Measure a call of the log beside other loggers (ARGS=--quick: 20 seconds, ARGS=--json)
	@$(BIN)/python -m benchmarks.emit $(ARGS)

bench-load: $(RIVALS)/.ready ## Measure the loader beside psql, asyncpg and dlt (25 minutes; ARGS=--quick: half a minute)
	@$(BIN)/python -m benchmarks.load $(ARGS)

bench-archive: $(READY) ## Measure what archives save, and what asking them costs (ARGS="--records 10000000": a quarter of an hour)
	@$(BIN)/python -m benchmarks.archive $(ARGS)

bench-analysis: $(SPARK)/.ready ## Measure the metrics of 1, 5 and 20 million trades on DuckDB and on Spark (ARGS="--millions 1")
	@PYTHONPATH=$(SPARK) $(BIN)/python -m benchmarks.analysis $(ARGS)

$(RIVALS)/.ready: requirements-bench.lock | $(READY)
	@echo "Installing the rivals that requirements-bench.lock pins into $(RIVALS) ..." >&2
	@rm -rf $(RIVALS)
	@$(PIP) install --no-deps --target $(RIVALS) -r requirements-bench.lock || { echo "Without picologging:" >&2; grep -v '^picologging' requirements-bench.lock | $(PIP) install --no-deps --upgrade --target $(RIVALS) -r /dev/stdin; }
	@touch $@

wheel-test: $(READY) ## Build the wheel; install it bare and emit; install it with extras and load
	@$(BIN)/python -m tests.wheel $(ARGS)

docs: $(READY) ## Build the pages of docs/ into var/docs, strictly: no page without a place, no link that leads nowhere
	@$(BIN)/mkdocs build --quiet --strict && echo "var/docs/index.html"

views: $(READY) ## Write sql/views/raw.sql anew from the files beside it
	@$(BIN)/python -m loader.raw_views > sql/views/raw.sql.new && mv sql/views/raw.sql.new sql/views/raw.sql

lock: $(READY) ## Pin the newest versions of everything anew
	@$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --upgrade --extra loader --extra embedded --extra report --group dev --group docs --output-file requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --upgrade --group bench --constraint requirements.lock --output-file requirements-bench.lock
	@$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --upgrade --group spark --constraint requirements.lock --output-file requirements-spark.lock

clean: ## Remove what the targets made: environment, caches, var/
	@rm -rf $(VENV) var dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
