# The thin front: `make help` lists what there is. Everything of substance is in noxfile.py and in the `raven` command.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first of these that is Python 3.11 to 3.13 makes the environment; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
PACKAGES := . adapters/raven-sim adapters/raven-binance
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## Show all commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml $(wildcard hatch_build.py raven/speedups/*.pyx adapters/*/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "Raven needs Python 3.11, 3.12 or 3.13 and found none on PATH; try: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	@$(BIN)/python -c 'from raven import speedups as s; print("The busiest steps are " + (f"in Python: {s.missing}" if s.missing else "compiled") + ".")'
	@touch $@

.PHONY: dev-setup
dev-setup: $(STAMP) ## Make the environment in .venv

.PHONY: run
run: $(STAMP) ## Start the server on the simulated venue
	@$(BIN)/raven serve

.PHONY: doctor
doctor: $(STAMP) ## Find what would keep the server from starting
	@$(BIN)/raven doctor

# Of a server that runs without a container; DATA_DIR where the configuration does not say it.
BACKUPS ?= docker/backups
IN_DATA_DIR = $(if $(DATA_DIR),--data-dir $(DATA_DIR))

.PHONY: backup
backup: $(STAMP) ## Create data backup
	@$(BIN)/raven backup --to $(BACKUPS) $(IN_DATA_DIR)

.PHONY: restore
restore: $(STAMP) ## Restore from backup: BACKUP_NAME=raven_backup_... [REPLACE=1]
	@test -n "$(BACKUP_NAME)" || { echo "which one? make restore BACKUP_NAME=raven_backup_20240101_120000; there are:"; ls $(BACKUPS); exit 2; }
	@$(BIN)/raven restore $(BACKUPS)/$(BACKUP_NAME) $(if $(REPLACE),--replace) $(IN_DATA_DIR)

.PHONY: test
test: $(STAMP) ## Run all tests
	@$(BIN)/python -m pytest -q -n auto --dist loadgroup

.PHONY: test-unit
test-unit: $(STAMP) ## Unit tests only
	@$(BIN)/python -m pytest -q -n auto --dist loadgroup --ignore tests/integration --ignore tests/e2e --ignore tests/clients

.PHONY: test-integration
test-integration: $(STAMP) ## Integration and end-to-end tests only
	@$(BIN)/python -m pytest -q -n auto --dist loadgroup tests/integration tests/e2e tests/clients

.PHONY: lint
lint: $(STAMP) ## Ruff, and mypy in strict mode
	@$(BIN)/nox -r -s lint typing

.PHONY: fmt
fmt: $(STAMP) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

.PHONY: dev
dev: fmt lint test ## fmt + lint + test

.PHONY: protos
protos: $(STAMP) ## Check the contract and that the generated code is fresh
	@$(BIN)/nox -r -s protos

.PHONY: generate
generate: $(STAMP) ## Write the generated code anew from the contract
	@$(BIN)/nox -r -s generate

.PHONY: ci
ci: ## Everything that must hold before a change is taken: .ci/run
	@CI=true .ci/run

.PHONY: bench
bench: $(STAMP) ## Benchmarks
	@$(BIN)/nox -r -s bench

.PHONY: build
build: $(STAMP) ## Build the wheels into dist/
	@for p in $(PACKAGES); do $(BIN)/pip wheel --quiet --no-deps --no-build-isolation -w dist ./$$p || exit 1; done; ls -1 dist

.PHONY: lock
lock: $(STAMP) ## Write requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --quiet --group dev --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-emit-index-url --no-emit-find-links -o requirements.lock

.PHONY: clean
clean: ## Remove the environment and everything that was built
	@rm -rf $(VENV) .nox dist .pytest_cache .mypy_cache .ruff_cache .hypothesis raven/speedups/*.so
