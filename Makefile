# shardlb: `make run` serves, `make test` tests; what they need they install into .venv.
#   PORT=5001 DATA=/var/lib/shardlb make run      another port, another data directory

PYTHON ?= python3.11
VENV   ?= .venv
PORT   ?= 5000
DATA   ?= data
BENCH  ?= A-1 --spawn
SEEDS  ?= 1000
FIRST  ?= 0

# Containers: all that is made carries the project's name in a label, and nothing else is touched.
COMPOSE_PROJECT_NAME ?= shardlb
BASE_IMAGE ?= $(or $(SHARDLB_BASE_IMAGE),python:3.11-slim-bookworm)
export COMPOSE_PROJECT_NAME BASE_IMAGE

PY      := $(VENV)/bin/python
TRIAL   := PYTHONWARNINGS=error::RuntimeWarning $(PY) -m twisted.trial --temp-directory=$(VENV)/trial
PACKAGES := raftlog dbnode lbnode benchmarks

COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
OURS    := --filter label=shardlb.project=$(COMPOSE_PROJECT_NAME)

.PHONY: help run status bench fuzz build up down test test-slow test-all check lint types clean clean-containers

help:
	@echo "run status bench fuzz build up down test test-all check clean   (PORT=$(PORT) DATA=$(DATA))"

$(VENV)/.installed: setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); on Debian: apt-get install python3.11 python3.11-venv"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "could not make $(VENV); on Debian: apt-get install python3.11-venv"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(VENV)/.installed
	@exec $(VENV)/bin/twistd --nodaemon --pidfile= shardlb --port tcp:$(PORT):interface=127.0.0.1 \
		--data-dir $(DATA) --auto-init default

status: $(VENV)/.installed
	@$(PY) bin/status --url http://127.0.0.1:$(PORT)

bench: $(VENV)/.installed
	$(PY) bin/bench $(BENCH)

# Simulated clusters under faults: `make fuzz SEEDS=10000 FIRST=0`. A seed that fails is printed with how to replay it.
fuzz: $(VENV)/.installed
	$(PY) -m dbnode.testing.fuzz $(SEEDS) --first $(FIRST)

# What the images are made of, so that building them needs no network.
build/wheels/.made: setup.cfg pyproject.toml | $(VENV)/.installed
	$(PY) -m pip wheel --quiet --disable-pip-version-check --wheel-dir build/wheels . 'setuptools>=65'
	@rm -rf build/lib build/bdist.* build/wheels/shardlb-*.whl
	@touch $@

build: build/wheels/.made
	$(COMPOSE) build

up: build
	$(COMPOSE) up --detach
	@for second in $$(seq 180); do \
		if $(PY) -m dbnode.healthcheck http://127.0.0.1:$(PORT)/readyz; then echo "serving at http://127.0.0.1:$(PORT)"; exit 0; fi; \
		sleep 1; \
	done; $(COMPOSE) logs --tail 20; exit 1

# A balancer stops its servers; one of several leaves them to the others, and one that was killed has left them. Volumes
# stay, and with them all data.
down:
	$(COMPOSE) stop
	@docker ps --quiet $(OURS) | xargs --no-run-if-empty docker stop >/dev/null
	$(COMPOSE) down

# Everything fast: logic, simulated clusters, stores, a few real processes.
test: $(VENV)/.installed
	$(TRIAL) $(PACKAGES)

# What takes longer: kill loops. Its modules are named slow_*.py, so that trial does not find them by itself.
test-slow: $(VENV)/.installed
	$(TRIAL) $(wildcard */test/slow_*.py)

test-all: test test-slow

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed
	$(VENV)/bin/mypy $(PACKAGES)

check: lint types test

# Containers, volumes, networks and images of the project, where there is an engine: their data too.
clean-containers:
	@docker info >/dev/null 2>&1 || exit 0; \
	while containers=$$(docker ps --all --quiet $(OURS)) && [ -n "$$containers" ]; do \
		docker rm --force --volumes $$containers >/dev/null 2>&1 || true; \
	done; \
	docker volume ls --quiet $(OURS) | xargs --no-run-if-empty docker volume rm --force >/dev/null; \
	docker network ls --quiet $(OURS) | xargs --no-run-if-empty docker network rm >/dev/null; \
	docker image ls --quiet $(OURS) | sort --unique | xargs --no-run-if-empty docker image rm --force >/dev/null

# What `up` made, the environment, and what tools left behind; never DATA.
clean: clean-containers
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .hypothesis _trial_temp*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
