# make demo   the whole way in three minutes: simulate, submit, interrupt, resume, report
# make test   all tests; those that need a real Slurm bring one up themselves
# make lint   style of the code
# make lab    a private Slurm of four pretend nodes on this machine, until Ctrl-C
# make clean  remove .venv and what demo and tests left
#
# Each makes .venv by itself. PYTHON=python3.12 chooses the interpreter, ARGS="-k requeue" is passed on to pytest.

.DEFAULT_GOAL := help
.PHONY: help demo test lint lab clean
SHELL := /bin/sh
BIN := .venv/bin
PYTHON_FILES := hpctrain tests benchmarks slurm/lab slurm/lab.d $(wildcard bin/*)
ARGS ?=
export PYTHON

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 8

.venv/installed: setup.cfg pyproject.toml constraints.txt .ci/make-venv
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

lab:
	@slurm/lab up --hold

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find hpctrain tests benchmarks slurm -name __pycache__ -type d -prune -exec rm -rf {} +
