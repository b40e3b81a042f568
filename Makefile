# Stoker's targets. They need Python 3.11 or newer, make and a package index; all else goes into a virtual environment.

VENV ?= .venv
WORKERS ?= 3
PYTEST_ARGS ?=
# A file's tests share what they start. The order is that of tests/conftest.py.
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
BENCH_ARGS ?=
LOWEST_TOOLS := httpx hypothesis import-linter lightning psutil pytest pytest-xdist ruff setuptools
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
BIN := $(VENV)/bin
# What decides what is installed; each stamp is younger than these when its extra is.
PINS := pyproject.toml constraints.txt

# Pins are proven on 3.11 to 3.13, so those come before a newer python3. A pyenv shim may be there and not run: try it.
TRY = command -v $$candidate >/dev/null 2>&1 && $$candidate -c 'import sys; raise SystemExit(not ((3, 11) <= sys.version_info[:2] <= $(1)))' >/dev/null 2>&1
FIND_PYTHON = found=""; \
	for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if [ -z "$$found" ] && $(call TRY,(3$(comma) 13)); then found=$$candidate; fi; \
	done; \
	for candidate in python3 python3.14 python3.15; do \
		if [ -z "$$found" ] && $(call TRY,(3$(comma) 99)); then found=$$candidate; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "make: no Python 3.11 or newer found (python3 is: $$(python3 --version 2>&1)); install one, or say make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' >/dev/null 2>&1; then \
		echo "make: $$found cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi
comma := ,

.PHONY: help demo demo-stop test check nightly test-lowest dev docs bench-stream bench-gpu format clean

help:  ## this list
	@echo "Stoker: scrapes, curates and streams training data. Targets:"
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed-demo  ## install, then the whole pipeline on real input: scrape, curate, publish, train
	@$(BIN)/stoker demo

demo-stop:  ## stop what the demo left running; its data stay in .stoker
	@if [ -x $(BIN)/stoker ]; then $(BIN)/stoker down; else echo "make: nothing is installed in $(VENV), so nothing runs"; fi

test:  ## everything that CI runs: format, lint, types, layers, all tests
check:  ## the same without the slow tests
check: PYTEST_ARGS += -m "not slow and not nightly"
# Workers are as many as cores, or more: torch's threads beside them wait for each other, at many times the work.
test check nightly test-lowest: export OMP_NUM_THREADS ?= 1
test check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(SPREAD) $(PYTEST_ARGS)

nightly: $(VENV)/.installed-dev  ## tests that take many minutes: signals at fifty moments, twenty kills
	$(BIN)/pytest -n $(WORKERS) -m nightly $(PYTEST_ARGS)

test-lowest: .venv-lowest/.installed  ## the fast tests with the lowest versions that are declared, on Python 3.11
	.venv-lowest/bin/python -m pytest $(SPREAD) -m "not slow and not nightly" $(PYTEST_ARGS)

.venv-lowest/.installed: pyproject.toml constraints-lowest.txt
	@for candidate in $(PYTHON311) python3.11 $$HOME/.pyenv/versions/3.11.*/bin/python; do \
		if $$candidate -c 'import ensurepip, sys, venv; raise SystemExit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then \
			exec $$candidate -m venv .venv-lowest; \
		fi; \
	done; echo "make: no Python 3.11 found; install one, or say make PYTHON311=/path/to/python3.11" >&2; exit 1
	.venv-lowest/bin/python -m pip install -c constraints-lowest.txt torch
	.venv-lowest/bin/python -m pip install -c constraints-lowest.txt -e ".[all]" $(LOWEST_TOOLS)
	@touch $@

dev: $(VENV)/.installed-dev  ## a virtual environment with all extras and the tools, Stoker installed to be edited
	@echo "Ready: $(BIN)/stoker --help, make check"

docs: $(VENV)/.installed-dev  ## web pages from README and docstrings, in docs/_build; a warning is an error
	$(BIN)/python -m sphinx -b html -q -W --keep-going docs docs/_build
	@echo "Built: docs/_build/index.html"

bench-stream: .venv-peers/.installed  ## the stream beside other loaders on the same samples; about an hour
	.venv-peers/bin/python tests/benchmarks/bench_stream.py $(BENCH_ARGS)

# On a machine with a GPU there may be no package index: whatever Python has torch will do, and nothing is installed.
bench-gpu:  ## whether the stream keeps a GPU busy: ResNet-18 and 50, fed and on synthetic batches; skips without a GPU
	@if [ -n "$(PYTHON)" ]; then found="$(PYTHON)"; elif [ -x $(BIN)/python ]; then found=$(BIN)/python; else found=python3; fi; \
	exec "$$found" -m tests.benchmarks.gpu.bench_gpu $(BENCH_ARGS)

# The peers' own requirements exclude each other (numpy, transformers): each is installed by itself, and then what they
# import. They never meet Stoker's own environment.
.venv-peers/.installed: tests/benchmarks/peers.txt tests/benchmarks/peers-import.txt $(PINS)
	@$(FIND_PYTHON); $$found -m venv .venv-peers
	.venv-peers/bin/python -m pip install -c constraints.txt torch
	.venv-peers/bin/python -m pip install -c constraints.txt -e ".[train,local,demo]" psutil datasets
	.venv-peers/bin/python -m pip install -r tests/benchmarks/peers-import.txt
	.venv-peers/bin/python -m pip install --no-deps -r tests/benchmarks/peers.txt
	.venv-peers/bin/python -m pip install --no-deps --target .venv-peers/wids webdataset==0.2.111  # the last with wids
	@touch $@

format: $(VENV)/.installed-dev  ## put the code into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the virtual environments and caches; the data in .stoker stays
	rm -rf docs/_build $(VENV) .ci-venv .venv-lowest .venv-peers build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(FIND_PYTHON); echo "make: a virtual environment in $(VENV), with $$($$found --version)"; $$found -m venv $(VENV)

# torch comes first and pinned: asked for by another package it may bring gigabytes of CUDA where a CPU build is at hand.
$(VENV)/.installed-demo: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[train,video,local,demo]"
	@touch $@

$(VENV)/.installed-dev: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed-demo
