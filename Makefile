# make demo   build the example for three devices, measure one on this machine
# make test   everything that CI runs: style, types, import contracts, tests
# make check  the same without the tests that need a device
# make lab    what takes long or needs a special machine
# Each sets up what it needs: a virtual environment, pinned packages, an SSH server, a C++ compiler.

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

# What the tests run besides Python: a file that tells it is there, and its package on Debian.
TOOLS := /usr/sbin/sshd=openssh-server /usr/bin/g++=g++ /usr/bin/cmake=cmake /usr/bin/make=make

.PHONY: help demo test check lint lab clean tools kotlin

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

test: $(READY) tools lint
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: $(READY) lint
	$(BIN)/python -m pytest -n auto --dist loadgroup --ignore tests/devices

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A Kotlin compiler's Java; devices of another architecture, and of Android's kind.
lab: TOOLS += /usr/bin/javac=default-jdk-headless /usr/sbin/debootstrap=debootstrap \
  /usr/bin/qemu-aarch64-static=qemu-user-static /usr/sbin/update-binfmts=binfmt-support \
  /usr/bin/adb=adb /usr/bin/ip=iproute2
lab: $(READY) tools kotlin
	@# A "device" here is this machine: its Python is the one that has the runtimes.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m lab

# Kotlin's compiler, as its Jupyter kernel carries it: 80 MB.
kotlin: $(READY)
	@if [ ! -d .work/kotlin ]; then $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --constraint constraints.txt --target .work/kotlin kotlin-jupyter-kernel; fi

# Where something cannot be installed, the tests that need it say that they skip.
tools:
	@missing=""; for tool in $(TOOLS); do \
	  [ -x "$${tool%%=*}" ] || missing="$$missing $${tool##*=}"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

clean:
	rm -rf $(VENV) .work dist .mypy_cache .ruff_cache .pytest_cache
