# shardlb: `make run` serves, `make test` tests; what they need they install into .venv.
#   PORT=5001 DATA=/var/lib/shardlb make run      another port, another data directory

PYTHON ?= python3.11
VENV   ?= .venv
PORT   ?= 5000
DATA   ?= data
BENCH  ?= A-1 --spawn
SEEDS  ?= 1000
FIRST  ?= 0

PY      := $(VENV)/bin/python
TRIAL   := PYTHONWARNINGS=error::RuntimeWarning $(PY) -m twisted.trial --temp-directory=$(VENV)/trial
PACKAGES := raftlog dbnode lbnode benchmarks

.PHONY: help run status bench fuzz test test-slow test-all check lint types clean

help:
	@echo "run status bench fuzz test test-all check clean   (PORT=$(PORT) DATA=$(DATA))"

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

# The environment and what tools left behind; never DATA.
clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .hypothesis _trial_temp*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
