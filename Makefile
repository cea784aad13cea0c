# shardlb: `make run` serves, `make test` tests; what they need they install into .venv.
VENV    ?= .venv
PY      := $(VENV)/bin/python
PORT    ?= 5000
DATA    ?= data
PYTHON  ?= python3.11
TRIAL   := PYTHONWARNINGS=error::RuntimeWarning $(PY) -m twisted.trial

.PHONY: venv
venv: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); on Debian: apt-get install python3.11 python3-venv"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "could not make $(VENV); on Debian: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@
