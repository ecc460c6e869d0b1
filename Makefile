# `make` lists what there is. Everything Python lives in .venv, which the first target that needs it sets up.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that runs and is new enough; `make PYTHON=…` names another.
PYTHON ?= $(shell for each in python3.11 python3; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done)
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
# npm comes with Node.js where that is not Debian's own; Debian's package would clash with it.
PEERS := chromium dcmtk docker-compose fuse3 haproxy libfaketime libfuse2 openssl orthanc orthanc-dicomweb pixelmed-apps postgresql strace $(if $(shell command -v npm),,npm)
DOCS_TESTS := $(wildcard tests/docs)

.PHONY: help setup demo viewer test faults check fuzz soak bench peers clean

help:  ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY)  ## set up .venv; TORCH_INDEX_URL=… takes torch from an index of its own, such as one of builds for the CPU alone

demo: $(READY)  ## the whole way on this machine; INPUT=folder: your own series; ARCHIVE=host:port ARCHIVE_AE=title: your own archive
	@$(BIN)/python -m dicomnode.demo $(if $(INPUT),--input "$(INPUT)") \
		$(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(ARCHIVE_AE),--archive-ae "$(ARCHIVE_AE)")

viewer: $(READY)  ## what the last demo archived, in OHIF; needs make peers
	@$(BIN)/python -m dicomnode.demo.viewer $(if $(PORT),--port "$(PORT)")

test: $(READY)  ## all tests; what lacks its peer is named at the end
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

faults: $(READY)  ## kill, freeze and starve a node; ROUNDS=n SEED=s: n kills, other random faults n/10 times; CUTS=n of the power
	FAULT_ROUNDS=$(or $(ROUNDS),300) FAULT_SEED=$(or $(SEED),0) FAULT_CUTS=$(or $(CUTS),200) \
		$(BIN)/python -m pytest $(or $(TESTS),tests/faults)

check: $(READY)  ## style, types, layers, and the docs that hold code to account
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(DOCS_TESTS),$(BIN)/python -m pytest -q $(DOCS_TESTS))

fuzz: $(READY)  ## look for requests that break the node; MINUTES=n for all of it together
	$(PIP) install -q -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(or $(MINUTES),10)

soak: $(READY)  ## mixed traffic, some of it broken: what the node holds stays flat; ROUNDS=n of 16 associations each
	SOAK_ROUNDS=$(or $(ROUNDS),200) $(BIN)/python -m pytest tests/soak

bench: $(READY)  ## the measurements that the docs quote
	$(BIN)/python benchmarks/run.py

# Debian starts what it installs; policy-rc.d keeps ports 4242, 8042 and 5432 free for their owners.
peers:  ## install the programs that some tests talk to, from Debian's packages
	@missing=$$(for package in $(PEERS); do \
		dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || echo "$$package"; done); \
	if [ -z "$$missing" ]; then echo "all there: $(PEERS)"; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then root=(env); else root=(sudo); fi; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e "$$policy" ]; then \
		trap '"$${root[@]}" rm -f "$$policy"' EXIT; \
		printf '#!/bin/sh\nexit 101\n' | "$${root[@]}" tee "$$policy" >/dev/null; \
		"$${root[@]}" chmod 755 "$$policy"; \
	fi; \
	"$${root[@]}" apt-get update --quiet; \
	"$${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$missing

clean:  ## remove .venv and everything built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# torch first: it may come from an index of its own. A Python without ensurepip lends its own pip.
$(READY): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed: make PYTHON=…" >&2; exit 1; }
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install pip; }
	$(PIP) install -c constraints.txt $(if $(TORCH_INDEX_URL),--index-url "$(TORCH_INDEX_URL)") torch
	$(PIP) install -c constraints.txt -e '.[demo,train,ray,dev]'
	@touch $@
