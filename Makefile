# Everything runs in .venv, made at first use; state goes to data/, which git ignores.
PYTHON ?= python3
BIN := .venv/bin
export DAGSTER_HOME := $(CURDIR)
export VIRTUAL_ENV := $(CURDIR)/.venv

FUZZ_SECONDS ?= 1800
FAULTS ?= 200

.PHONY: demo test check fuzz faults platform docs ui clean
.DEFAULT_GOAL := demo

demo: .venv/installed ## materialise the bundled sample through the assets and show its calls
	@$(BIN)/virnuc demo

test: .venv/installed ## run the tests
	@$(BIN)/python -m pytest -q

check: .venv/installed ## formatting, lint, types, layers, definitions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dagster definitions validate
	$(BIN)/dg check defs
	$(BIN)/dg list defs > /dev/null

fuzz: .venv/installed ## fuzz the front end; an input that fails is left as a test
	@$(BIN)/python -m virnuc_assets_tests.fuzz.run --seconds $(FUZZ_SECONDS)

faults: .venv/installed ## end runs of a platform, and embedding runs in random ways; each must end as if nothing had happened
	@$(BIN)/python -m pytest -q -m faults
	@$(BIN)/python -m virnuc_assets_tests.faults.run --faults $(FAULTS) --log benchmarks/results/faults.log

platform: .venv/installed ## the UI in a browser, a Postgres instance, a cohort, files that arrive while things are killed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,platform]'
	@$(BIN)/python -m pytest -q -m platform

docs: .venv/installed ## the documentation, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

ui: .venv/installed ## webserver and daemon on http://127.0.0.1:3000
	@mkdir -p data
	$(BIN)/dagster dev --host 127.0.0.1 --port 3000

clean: ## remove the environment; samples and results in data/ stay
	rm -rf .venv

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}; call make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
