# One virtual environment for every target. It is installed again only when pyproject.toml or constraints.txt change.
PYTHON  ?= python3
WORKERS ?= 2
VENV    := .venv
PY      := $(VENV)/bin/python
STAMP   := $(VENV)/.installed
WANTED  := $(shell (echo "$(CURDIR)"; cat pyproject.toml constraints.txt) | cksum)
# Each test process keeps to one thread: two of them share the cores, and sums do not depend on the machine.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help install demo test check docs clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */make \1\t/' | expand -t 16

install:  ## the virtual environment, with topwork in it
	@if [ "$$(cat $(STAMP) 2>/dev/null)" != "$(WANTED)" ]; then \
	  set -e; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "topwork needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). fix: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }; \
	  [ -x $(PY) ] || $(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) cannot make a virtual environment. fix: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 2; }; \
	  echo "installing into $(VENV) (once; PyTorch is large, so this can take some minutes)"; \
	  $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,best,heic,keras,track]'; \
	  echo "$(WANTED)" > $(STAMP); \
	fi

demo: install  ## fit on drawn flowers and say where the report is
	$(PY) -m topwork demo

test: install  ## all tests; faster: make test ARGS='-m "not slow"'
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: install  ## format, lint, types, layers, generated docs
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m topwork.cli.docs --check

docs: install  ## write docs/reference from the commands and the recipe
	$(PY) -m topwork.cli.docs

clean:  ## remove the virtual environment and all caches of tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
