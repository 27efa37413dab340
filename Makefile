# make run: a working Gatehouse on this machine.  make test: all tests.  make check: everything a machine can judge by reading.
# Needed beforehand: make and Python 3.11 or newer with venv. Everything else goes into .venv, from the lock files.

# The system's own Python where it is new enough: one that a version manager has built without optimisation takes an eighth more CPU.
ifndef PYTHON
PYTHON := $(shell /usr/bin/python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && echo /usr/bin/python3 || echo python3)
endif
ARGS ?=
UV_VERSION := 0.13.8
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python .venv --require-hashes -r
COMPILE := $(BIN)/uv pip compile pyproject.toml --extra local --universal --python-version 3.11 \
           --generate-hashes --no-header --no-emit-index-url --quiet
PACKAGES := manage.py gateway_project orgs billing guardrails proxy analytics notifications tests
# Checks read the settings, which insist on secrets; these are nobody's.
CHECK_ENVIRONMENT := GATEHOUSE_HOME=/nonexistent/gatehouse PUBLIC_URL=https://gatehouse.example ALLOWED_HOSTS=gatehouse.example \
    SECRET_KEY=only-for-checks-and-never-for-anything-that-runs-0123456789 GATEHOUSE_PEPPER=only-for-checks \
    GATEHOUSE_KEYS=check:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

# Five processes, each with servers of its own, since tests wait as well as work; servers that were given are one set, and so is
# the run on them.
SPREAD := $(if $(DATABASE_URL)$(REDIS_URL),,--spread=5)

# Python keeps what it has compiled, also where the environment forbids it: every process of a run would compile all anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test check bench torture lock standins test-all
.DELETE_ON_ERROR:

run: .venv/.run
	@$(BIN)/python manage.py up

test: .venv/.dev standins
	@$(BIN)/python -m pytest $(SPREAD) $(ARGS)

check: .venv/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(CHECK_ENVIRONMENT) $(BIN)/mypy $(PACKAGES)
	@$(BIN)/lint-imports
	@# No server runs: comparing with a database's history is left out, comparing models with files is not.
	@$(CHECK_ENVIRONMENT) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	@$(CHECK_ENVIRONMENT) $(BIN)/python manage.py check --deploy --fail-level WARNING

bench: .venv/.dev
	@$(BIN)/python manage.py bench $(ARGS)

torture: .venv/.dev
	@$(BIN)/python -m tests.torture $(ARGS)

# The many-client campaign: its clients come from lock files of their own, some 900 MB.
test-all: tests/campaign/node_modules/.package-lock.json tests/campaign/.venv/.installed standins
	@$(BIN)/python -m pytest tests/campaign/campaign.py $(ARGS)

# Tests that need them are skipped where they cannot be had.
standins: tests/standins/node_modules/.package-lock.json

lock: .venv/.dev
	@$(COMPILE) -o requirements.lock
	@$(COMPILE) --group dev -c requirements.lock -o tests/requirements.lock

.venv/bin/uv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Python is missing. Debian, Ubuntu: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Gatehouse needs Python 3.11 or newer. Debian 12 and later, Ubuntu 24.04: apt-get install python3 python3-venv," \
	  "then make PYTHON=/usr/bin/python3 $(or $(MAKECMDGOALS),run)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python lacks venv or pip. Debian, Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Creating .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.run: requirements.lock | .venv/bin/uv
	@echo "Installing what Gatehouse needs to run"
	@$(INSTALL) requirements.lock
	@touch $@

.venv/.dev: tests/requirements.lock | .venv/bin/uv
	@echo "Installing what tests and checks need"
	@# Compiled at once, on all cores: each of the many processes of a run would compile what it meets.
	@$(INSTALL) tests/requirements.lock --compile-bytecode
	@touch $@ .venv/.run

tests/standins/node_modules/.package-lock.json: tests/standins/package-lock.json | .venv/.dev
	@echo "Installing stand-in providers"
	@$(BIN)/python -m tests.node tests/standins && touch $@ || echo "They could not be installed."

tests/campaign/node_modules/.package-lock.json: tests/campaign/package-lock.json | .venv/.dev
	@echo "Installing the campaign's clients for Node"
	@$(BIN)/python -m tests.node tests/campaign
	@touch $@

tests/campaign/.venv/.installed: tests/campaign/requirements.lock | .venv/.dev
	@echo "Installing the campaign's clients for Python"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python tests/campaign/.venv
	@$(BIN)/uv pip install --quiet --python tests/campaign/.venv --require-hashes -r tests/campaign/requirements.lock
	@touch $@
