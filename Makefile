# `make` alone lists the targets. Each does all its own set-up, and skips it when nothing changed.
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench samples reproduce clean
PYTHON := .venv/bin/python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## watch a real policy-gradient run collapse, and its cured twin, live in the browser
	@.ci/setup runtime
	@$(PYTHON) -m mmhealth demo $(ARGS)

test: ## run the tests (installs Chromium for the browser tests where that is possible)
	@.ci/setup dev
	@.ci/chromium
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist loadgroup -m "not long" $(ARGS)

check: ## ruff, formatting, types
	@.ci/setup dev
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@.ci/types

format: ## format the code
	@.ci/setup dev
	@$(PYTHON) -m ruff check --fix --quiet .
	@$(PYTHON) -m ruff format .

bench: ## measure every performance claim and rewrite the tables that the docs quote
	@.ci/setup dev
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(PYTHON) $$script; done

samples: ## train the runs of sample_logs/ anew
	@.ci/setup runtime
	@$(PYTHON) sample_logs/regenerate.py

reproduce: ## test the article's claims: train every arm, judge, draw (goes on where it stopped)
	@.ci/setup reproduce
	@.ci/chromium
	@$(PYTHON) -m mmhealth reproduce $(ARGS)

clean: ## remove the environment and all caches
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
