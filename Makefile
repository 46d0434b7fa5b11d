# make demo     end to end in two minutes: simulate, submit, interrupt, resume, report
# make test     all tests; those that need a real Slurm bring one up themselves
# make lint     style of the code
# make pythons  install every extra on Python 3.10 to 3.13 and try it: minutes, and gigabytes the first time
# make lab      a private Slurm of four pretend nodes on this machine, until Ctrl-C
# make clean    remove .venv and what demo and tests left
#
# Each makes .venv by itself. PYTHON=python3.12 chooses the interpreter, ARGS="-k requeue" is passed on to pytest.

.DEFAULT_GOAL := help
.PHONY: help demo test lint pythons lab clean
SHELL := /bin/sh
BIN := .venv/bin
PYTHON_FILES := hpctrain tests benchmarks .ci slurm/lab slurm/lab.d $(wildcard bin/*)
ARGS ?=
export PYTHON

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 9

.venv/installed: setup.cfg pyproject.toml constraints.txt .ci/make-venv .ci/install.py
	@.ci/make-venv

demo: .venv/installed
	@$(BIN)/hpctrain demo

test: .venv/installed
	@.ci/install-slurm
	@$(BIN)/pytest $(ARGS)

lint: .venv/installed
	@$(BIN)/ruff check $(PYTHON_FILES)
	@$(BIN)/ruff format --check $(PYTHON_FILES)
	@$(BIN)/lint-imports

pythons: .venv/installed
	@$(BIN)/python .ci/try_pythons.py $(ARGS)

lab:
	@slurm/lab up --hold

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find hpctrain tests benchmarks slurm -name __pycache__ -type d -prune -exec rm -rf {} +
