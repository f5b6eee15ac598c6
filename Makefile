# make demo   build the example for three devices, measure one on this machine
# make test   everything that CI runs: style, types, import contracts, tests
# make check  the same without the tests that need a device
# make lab    what takes long or needs a special machine
# Each sets up what it needs: a virtual environment, pinned packages, an SSH server.

VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
SHELL   := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first Python that is new enough; a version manager's shim may name one that is not there.
FIND_PYTHON = for p in $${PYTHON:-} python3 python3.13 python3.12 python; do \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; \
	  then echo "$$p"; exit 0; fi; done; \
	echo "edgekit needs Python 3.12 or newer; name one with PYTHON=..." >&2; exit 1

.PHONY: help demo test check lint lab clean sshd systems

help:
	@grep '^# make' Makefile | sed 's/^# //'

$(READY): pyproject.toml constraints.txt
	@python=$$($(FIND_PYTHON)); echo "setting up $(VENV) with $$($$python --version)"; \
	$$python -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(READY)
	@$(BIN)/python examples/digits/demo.py

test: $(READY) sshd lint
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: $(READY) lint
	$(BIN)/python -m pytest -n auto --dist loadgroup --ignore tests/devices

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: $(READY) sshd systems
	$(BIN)/python -m pytest -m lab

# Devices of another architecture, and of Android's kind; likewise.
systems:
	@if ! { command -v debootstrap && command -v qemu-aarch64-static && command -v adb; } >/dev/null \
	  && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends \
	  debootstrap qemu-user-static binfmt-support adb iproute2 >/dev/null; fi

# The tests push to a real SSH server; where it cannot be installed they say that they skip.
sshd:
	@if [ ! -x /usr/sbin/sshd ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends openssh-server >/dev/null; fi

clean:
	rm -rf $(VENV) .work dist .mypy_cache .ruff_cache .pytest_cache
