# make demo     run end to end in two minutes: simulate, submit, interrupt, resume, report
# make test     run all tests, in a process for each core and one more; those that need a real Slurm start one themselves
# make quick    run the quick tests: what to run after each change
# make lint     check the style of the code
# make gpu      prove it on a GPU, with the Python and torch that are there: PYTHON=python3.12 make gpu; eight minutes
# make pythons  install and try every extra on Python 3.10 to 3.13; the first time it downloads gigabytes
# make lab      run a private Slurm of four pretend nodes on this machine, until Ctrl-C
# make gallery  train small models of all families for the reports of docs/gallery.md, which make docs puts into the site
# make docs     build the documentation as a site, build/docs/index.html
# make clean    remove .venv and the files that demo and tests have written
#
# Each command makes .venv if needed. PYTHON=python3.12 chooses the interpreter; pytest gets ARGS="-k requeue" (also for
# quick); ARGS="tests/unit/storage -n0" runs some tests in one process.

.DEFAULT_GOAL := help
.PHONY: help demo test quick lint gpu pythons lab gallery docs clean
SHELL := /bin/sh
BIN := .venv/bin
PYTHON_FILES := hpctrain tests benchmarks docs/conf.py docs/gallery.py docs/reference_pages.py docs/drawings docs/notebooks .ci slurm/lab slurm/lab.d $(wildcard bin/*)
ARGS ?=
export PYTHON

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 14

.venv/installed: setup.cfg pyproject.toml constraints.txt .ci/make-venv .ci/install.py
	@.ci/make-venv

demo: .venv/installed
	@$(BIN)/hpctrain demo

test: .venv/installed
	@.ci/install-slurm
	@$(BIN)/pytest -n auto $(ARGS)

quick: .venv/installed
	@$(BIN)/pytest -n auto -m "not slow" tests/repo tests/unit $(ARGS)

lint: .venv/installed
	@$(BIN)/ruff check $(PYTHON_FILES)
	@$(BIN)/ruff format --check $(PYTHON_FILES)
	@$(BIN)/lint-imports

gpu:
	@$${PYTHON:-python3} -m benchmarks.gpu $(ARGS)

pythons: .venv/installed
	@$(BIN)/python .ci/try_pythons.py $(ARGS)

lab:
	@slurm/lab up --hold

gallery: .venv/installed
	@$(BIN)/python docs/gallery.py $(ARGS)

.venv/docs: .venv/installed
	@$(BIN)/python .ci/install.py --constraint constraints.txt --editable '.[docs]'
	@touch .venv/docs

docs: .venv/docs
	@$(BIN)/python docs/reference_pages.py
	@$(BIN)/python docs/drawings
	@$(BIN)/python -m hpctrain schema --markdown --out docs/profile.md
	@$(BIN)/python -m sphinx -E -a -W --keep-going -q -d build/docs-cache docs build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf .venv .cache demo build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find hpctrain tests benchmarks slurm -name __pycache__ -type d -prune -exec rm -rf {} +
