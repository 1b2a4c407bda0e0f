# Set-up, checks, tests and the demo. It asks for Python 3.11 to 3.13, make, and a package index that
# pip can reach the first time; everything is installed into .venv, and nowhere else.

VENV := .venv
BIN := $(VENV)/bin
CODE := src projections tests benchmarks

# Tests wait for disks, databases and processes of their own a third of the time: one more than there are cores
# keeps these busy. More than four wait for each other's syncs.
WORKERS = $(shell n=$$(getconf _NPROCESSORS_ONLN); if [ "$$n" -lt 4 ]; then echo $$((n + 1)); else echo 4; fi)

# Left empty, the first supported interpreter of this list is taken. PYTHON=… names another.
PYTHON ?=
CANDIDATES := $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
VERSION := import sys; print("%d.%d.%d" % sys.version_info[:3])

PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet --progress-bar off

.DEFAULT_GOAL := help
.PHONY: help demo test check bench against soak mutants lock clean same-python
# A recipe that fails leaves no half-written stamp behind.
.DELETE_ON_ERROR:

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1	\2/p' Makefile
	@echo "Variables: PYTHON=python3.12 chooses the interpreter when .venv is made; ARGS=… goes to demo, test, against and soak."

demo: $(VENV)/.installed ## decide real cases, die by SIGKILL in the middle, resume, replay (ARGS="--claims FILE")
	@$(BIN)/evrt demo $(ARGS)

test: check $(VENV)/.tools ## static checks, then every test but the soak
	@echo "==> pytest"
	@$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

check: $(VENV)/.installed ## ruff format, ruff, mypy --strict, import-linter
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --quiet --diff $(CODE)
	@echo "==> ruff check"
	@$(BIN)/ruff check --quiet $(CODE)
	@echo "==> mypy --strict"
	@$(BIN)/mypy
	@echo "==> lint-imports"
	@$(BIN)/lint-imports --no-cache --no-logo

bench: $(VENV)/.installed ## every benchmark in turn, each beside its baseline
	@set -e; for file in benchmarks/bench_*.py; do echo "==> $$file"; $(BIN)/python "$$file"; done

mutants: $(VENV)/.installed ## plant bugs, one at a time, and see each noticed by a test (ARGS="part of a name")
	@$(BIN)/python tests/mutants/trying.py $(ARGS)

# The rivals get venvs of their own the first time (two minutes more, and npm for Restate's server).
against: $(VENV)/.installed ## evrt beside other runtimes: eight minutes (ARGS="--quick", "--docs", "--help")
	@PYTHONPATH=benchmarks $(BIN)/python -m against $(ARGS)

# The long figures are marked soak; property tests run again with more examples. The time-out of a
# single test is lifted from minutes to hours.
soak: $(VENV)/.installed $(VENV)/.tools ## the long figures: minutes to hours (EVRT_SOAK_SECONDS bounds each of the crash soaks)
	@echo "==> pytest, soak"
	@EVRT_SOAK=1 $(BIN)/pytest -m "soak or hypothesis" --timeout 14400 --durations 20 $(ARGS)

# Resolved for every supported Python and platform at once, with the hashes of all their files. The
# index is whichever uv is set up with; it is not written into the lock.
lock: $(VENV)/.python ## resolve the dependencies anew into requirements.lock
	@echo "==> uv pip compile"
	@$(PIP_INSTALL) uv
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--upgrade --no-config --system-certs --custom-compile-command "make lock" --quiet \
		--output-file requirements.lock
	@$(BIN)/python -m pip --quiet uninstall --yes uv

# Faults are injected into system calls by strace. It is the one thing that comes from the system's packages.
$(VENV)/.tools: | $(VENV)/.python
	@if ! command -v strace >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "==> installing strace"; \
			apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends strace; \
		fi; \
		command -v strace >/dev/null || { \
			echo "The tests inject faults with strace, which is not installed: install the package strace." >&2; \
			exit 2; \
		}; \
	fi
	@touch $@

clean: ## remove .venv, caches and built packages
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------ the set-up
#
# Three stamps, so that a second make does nothing: an interpreter, the locked packages, evrt itself.

$(VENV)/.python: | same-python
	@found=; for python in $(CANDIDATES); do \
		if "$$python" -c '$(SUPPORTED)' >/dev/null 2>&1; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "evrt runs on Python 3.11, 3.12 or 3.13, and none was found as:" $(CANDIDATES)"." \
			"Install one of them, or name the one you have: make PYTHON=/path/to/python3.12 …" >&2; \
		exit 2; \
	fi; \
	if ! $(BIN)/python -c '$(SUPPORTED)' >/dev/null 2>&1 || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "==> making $(VENV) with Python $$("$$found" -c '$(VERSION)')"; \
		"$$found" -m venv --clear $(VENV) || { \
			echo "Python's own venv module could not make $(VENV): see the lines above. On Debian and Ubuntu" \
				"it is a package of its own: apt install python3-venv." >&2; \
			exit 2; \
		}; \
	fi
	@touch $@

$(VENV)/.locked: requirements.lock $(VENV)/.python
	@echo "==> installing the locked packages into $(VENV) (once; a minute or two)"
	@$(PIP_INSTALL) --require-hashes --requirement requirements.lock || { \
		echo "The locked packages could not be installed: see pip's own lines above. pip needs a package" \
			"index that it can reach; where that takes a proxy or a mirror, set pip up for it and run make again." >&2; \
		exit 2; \
	}
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	@echo "==> installing evrt from this folder"
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# PYTHON=… cannot change a .venv that is there already; saying nothing would test the wrong one.
same-python:
	@if [ -n "$(PYTHON)" ] && [ -x $(BIN)/python ]; then \
		asked=$$("$(PYTHON)" -c '$(VERSION)' 2>/dev/null); \
		there=$$($(BIN)/python -c '$(VERSION)' 2>/dev/null); \
		if [ "$$asked" != "$$there" ]; then \
			echo "$(VENV) was made with Python $$there, and PYTHON=$(PYTHON) is $${asked:-not there}: run 'make clean' first." >&2; \
			exit 2; \
		fi; \
	fi
