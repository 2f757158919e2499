# Every target works from nothing: it makes the environment that it needs first, and makes it once.
#   make demo PYTHON=python3.12      another interpreter (3.11 or newer)
#   make test VENV=/some/venv        another place for the environment; one that exists is used as it is

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
BUDGET ?= 300
PEERS := $(patsubst benchmarks/requirements-%.txt,$(VENV)-peers/%/.ready,$(wildcard benchmarks/requirements-*.txt))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo install test test-all lint docs bench peers wheel clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 18

demo: $(VENV)/.ready  ## fit and sample the lynx and hare pelts; leaves runs/hudson-bay/report.html
	$(BIN)/sciad demo

install: $(VENV)/.ready  ## the environment alone

test: $(VENV)/.ready  ## the tests, without the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(VENV)/.ready  ## all the tests
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.ready  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.ready-docs  ## the pages, with their code executed; leaves docs/_build/html/index.html
	$(BIN)/python docs/tables.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: $(VENV)/.ready  ## every benchmark, BUDGET seconds a system (300); leaves benchmarks/results/*.json
	mkdir -p benchmarks/results
	for name in ode_overhead ode_fit nuts_ode ude pinn pinn_inverse pinn_coverage pinn_domains; do \
		$(BIN)/python -m benchmarks $$name --budget $(BUDGET) --peers --json benchmarks/results/$$name.json || exit 1; \
	done

peers: $(PEERS)  ## an environment for each peer that cannot live in ours (benchmarks/requirements-*.txt)
	@test -n "$(PEERS)" || echo "Every peer of today's benchmarks is among our own dependencies: nothing to build."

wheel: $(VENV)/.ready  ## the wheel, in dist/
	$(BIN)/python -m build --wheel --outdir dist .

clean:  ## remove what the other targets made, except runs/
	rm -rf .venv .venv-peers build dist docs/_build docs/_generated docs/api docs/api.md *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "sciad needs Python 3.11 or newer; '$(PYTHON)' is older or absent. Say 'make PYTHON=python3.12 ...'."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing sciad and its pinned dependencies into $(VENV) (a few minutes the first time)"
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) --editable '.[dev,docs]'
	@touch $@

$(VENV)-peers/%/.ready: benchmarks/requirements-%.txt
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
